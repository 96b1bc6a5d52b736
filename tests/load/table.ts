export type Row = readonly (string | number | null)[];

/** Columns as wide as they need to be; numbers to the right, to three digits or so; null is a dash. */
export function table(title: string, heads: readonly string[], rows: readonly Row[]): string {
  const cells = [heads, ...rows.map((row) => row.map(show))];
  const widths = heads.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  "),
  );
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [title, "", lines[0], rule, ...lines.slice(1), ""].join("\n");
}

function show(value: string | number | null): string {
  if (value === null) return "-";
  if (typeof value === "string") return value;
  return Math.abs(value) >= 20 ? Math.round(value).toLocaleString("en-US") : value.toFixed(2);
}
