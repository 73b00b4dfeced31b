/** A column of a table: its head and the cell of a row. */
export type Columns<T> = readonly (readonly [head: string, cell: (row: T) => string | number | boolean | undefined])[];

/** Writes the answer to stdout: JSON when asked for, else a table (nothing but `empty`, on stderr, when there is no row). */
export function answer<T>(
  rows: readonly T[],
  options: { json?: boolean; columns: Columns<T>; toJson: (row: T) => unknown; empty: string },
): void {
  if (options.json) {
    printJson(rows.map(options.toJson));
    return;
  }
  if (rows.length === 0) {
    say(options.empty);
    return;
  }
  const cells = [
    options.columns.map(([head]) => head),
    ...rows.map((row) => options.columns.map(([, cell]) => String(cell(row) ?? ""))),
  ];
  const widths = options.columns.map((_, index) => Math.max(...cells.map((line) => line[index]?.length ?? 0)));
  for (const line of cells)
    print(
      line
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join("   ")
        .trimEnd(),
    );
}

/** One line to stdout. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** One line to stderr: progress, hints, questions. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Indented JSON to stdout; 64-bit numbers as text, as protobuf's JSON has them. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_, item) => (typeof item === "bigint" ? String(item) : item), 2));
}

/** How long ago, in the largest unit that fits: `3m`, `2d`; `-` for never. */
export function age(since: number, now: number = Date.now()): string {
  if (!since) return "-";
  const seconds = Math.max(0, Math.round((now - since) / 1000));
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3600],
    ["m", 60],
  ] as const)
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)}${unit}`;
  return `${seconds}s`;
}
