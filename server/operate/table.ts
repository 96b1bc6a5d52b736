/** Clients choose some texts, and these characters control a terminal. They are printed as in JSON: `\u001b`. */
export const printable = (text: string, kept = "") =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) => (found === kept ? found : escaped(found)));

const escaped = (character: string) =>
  Array.from({ length: character.length }, (_, at) => character.charCodeAt(at).toString(16).padStart(4, "0"))
    .map((code) => `\\u${code}`)
    .join("");

/** Rows of text in aligned columns, one line each. */
export function table(given: readonly (readonly string[])[]): string {
  const rows = given.map((row) => row.map((cell) => printable(cell)));
  const widths = rows.reduce<number[]>((all, row) => {
    for (const [index, cell] of row.entries()) all[index] = Math.max(all[index] ?? 0, cell.length);
    return all;
  }, []);
  return rows
    .map((row) => `  ${row.map((cell, index) => cell.padEnd(widths[index]!)).join("  ")}`.trimEnd())
    .join("\n");
}

/** 42 s, 12 min, 5 h, 3 d. */
export function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
