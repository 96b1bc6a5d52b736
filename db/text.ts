/** Postgres keeps every text but one with a zero byte or with half of a surrogate pair. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/** The same value as the database can keep it: what it cannot, in a key or in a value, becomes U+FFFD. */
export function storable<T>(value: T): T {
  return cleaned(value) as T; // strings stay strings, and nothing else changes its type
}

function cleaned(value: unknown): unknown {
  if (typeof value === "string") return isStorable(value) ? value : value.toWellFormed().replaceAll("\0", "\ufffd");
  if (Array.isArray(value)) return value.map(cleaned);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [cleaned(name), cleaned(inner)]));
}
