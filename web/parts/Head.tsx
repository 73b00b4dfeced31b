import { type ReactNode, useEffect } from "react";

/** The head of a page: its name, also in the browser's tab, and what stands beside it. */
export function Head({ title, children }: { title: string; children?: ReactNode }) {
  useTitle(title);
  return (
    <header className="head">
      <h1>{title}</h1>
      {children}
    </header>
  );
}

/** The name in the browser's tab. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Ichor`;
  }, [title]);
}
