/** Why a cluster cannot have that many control planes; undefined when it can (reference architecture: 1 or 3, never even). */
export function controlPlaneProblem(count: number): string | undefined {
  if (count === 0 || count % 2 === 1) return undefined;
  return `${count} control planes: an even number survives no more failures than one less and loses quorum sooner; use ${count - 1} or ${count + 1}`;
}
