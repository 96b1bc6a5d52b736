export type Row = readonly (string | number | null)[];

/** Aligns columns: numbers to the right with about three digits, text to the left, null as a dash. */
export function table(title: string, heads: readonly string[], rows: readonly Row[]): string {
  const cells = [heads, ...rows.map((row) => row.map(show))];
  const isText = heads.map((_, column) => column === 0 || rows.every((row) => typeof row[column] === "string"));
  const widths = heads.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (isText[column] ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [title, "", lines[0], rule, ...lines.slice(1), ""].join("\n");
}

function show(value: string | number | null): string {
  if (value === null) return "-";
  if (typeof value === "string") return value;
  return Math.abs(value) >= 20 ? Math.round(value).toLocaleString("en-US") : value.toFixed(2);
}
