import { useEffect, useRef, useState } from "react";
import { inWords, session } from "../api.ts";
import { Head } from "../parts/Head.tsx";
import { paths } from "../paths.ts";
import { Copy } from "../ui/Copy.tsx";

/** Exchanges the code of a sign-in link for a session; without one, says where a link comes from. */
export function SignInPage() {
  const query = new URLSearchParams(location.search);
  const code = query.get("code") ?? "";
  const next = query.get("next");
  const [error, setError] = useState("");
  // A code works once: React's second mount in development must not spend it again.
  const asked = useRef(false);

  useEffect(() => {
    if (next) whereTo.keep(next);
    if (!code || asked.current) return;
    asked.current = true;
    session.signIn({ code }).then(
      () => location.replace(whereTo.take()),
      // Whoever opens a used link again is signed in as a rule: then there is nothing to say.
      (failure) =>
        session.whoAmI({}).then(
          () => location.replace(whereTo.take()),
          () => setError(inWords(failure)),
        ),
    );
  }, [code, next]);

  return (
    <main className="signin">
      <div className="card">
        <div className="brand">
          <img src="/icon.svg" alt="" /> Ichor
        </div>
        <Head title={code && !error ? "Signing in…" : "Sign in"} />
        {(!code || error) && (
          <>
            {error && (
              <div role="alert" className="error">
                {error}
              </div>
            )}
            <p>
              Ask for a sign-in link on the machine that the plane runs on, and open it in this browser. It works once,
              for an hour.
            </p>
            <Copy label="Command" text="./ichor signin" />
          </>
        )}
      </div>
    </main>
  );
}

/** Where a person was going before sign-in. The link that signs in may open in another tab: kept for the browser, as long as a link is good. */
const whereTo = {
  keep(next: string): void {
    localStorage.setItem("next", JSON.stringify({ next, until: Date.now() + 3_600_000 }));
  },
  /** Only addresses of our own: a link must not lead elsewhere after sign-in. */
  take(): string {
    const kept = localStorage.getItem("next");
    localStorage.removeItem("next");
    if (!kept) return paths.machines;
    const { next, until } = JSON.parse(kept) as { next: string; until: number };
    const ours = next.startsWith("/") && new URL(next, location.origin).origin === location.origin;
    return ours && Date.now() < until ? next : paths.machines;
  },
};
