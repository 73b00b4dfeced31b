import { useRef, useState } from "react";

/** Text to take along, with a button that copies it. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState("");
  const box = useRef<HTMLPreElement>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
    } catch {
      // A browser may refuse: then the text is marked, and the person's own keys copy it.
      if (box.current) getSelection()?.selectAllChildren(box.current);
      setDone("Selected");
    }
  };
  return (
    <div className="copy">
      <section aria-label={label}>
        <pre ref={box}>{text}</pre>
      </section>
      <button type="button" aria-label={`Copy ${label.toLowerCase()}`} onClick={copy} onBlur={() => setDone("")}>
        {done || "Copy"}
      </button>
      <span role="status" className="unseen">
        {done}
      </span>
    </div>
  );
}
