import { useState } from "react";

/** Text to take along, with a button that copies it. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
  };
  return (
    <div className="copy">
      <section aria-label={label}>
        <pre>{text}</pre>
      </section>
      <button type="button" onClick={copy} onBlur={() => setDone(false)}>
        {done ? "Copied" : "Copy"}
      </button>
    </div>
  );
}
