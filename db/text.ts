/** Postgres cannot store a zero byte or a lone surrogate. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/** The value with every character that Postgres cannot store, in keys and values, replaced by U+FFFD. */
export function storable<T>(value: T): T {
  return cleaned(value) as T; // strings stay strings, and nothing else changes its type
}

function cleaned(value: unknown): unknown {
  if (typeof value === "string") return isStorable(value) ? value : value.toWellFormed().replaceAll("\0", "\ufffd");
  if (Array.isArray(value)) return value.map(cleaned);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [cleaned(name), cleaned(inner)]));
}
