import type { ReactNode } from "react";

/** A name and what is known of it; what is empty is not shown. */
export type Fact = readonly [name: string, value: ReactNode];

/** What is known of something, in a card. */
export function Facts({ title, facts }: { title: string; facts: readonly Fact[] }) {
  const known = facts.filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return (
    <section className="card" aria-label={title}>
      <h2>{title}</h2>
      {known.length === 0 && <span className="sub">Nothing told yet.</span>}
      <dl className="facts">
        {known.map(([name, value], index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: facts of one name repeat, and their order is fixed
          <div key={index} style={{ display: "contents" }}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
