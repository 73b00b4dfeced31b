/** A state in one word with its colour; the word carries the meaning, the colour only helps. */
export function State({ tone, text, busy }: { tone: "good" | "warn" | "bad" | "idle"; text: string; busy?: boolean }) {
  return (
    <span className="state">
      <span className={`dot ${tone}${busy ? " busy" : ""}`} aria-hidden="true" />
      {text}
    </span>
  );
}
