/** A placeholder in braces. Parameter names have the same characters. */
const placeholder = /\{([A-Za-z0-9_.-]{1,64})\}/g;

/** The names of the placeholders, in the order of the URL. */
export const placeholdersOf = (pattern: string) => [...pattern.matchAll(placeholder)].map(([, name]) => name!);

/** The URL with every placeholder replaced, so that it can be parsed as a URL. */
export const filledIn = (pattern: string) => pattern.replace(placeholder, "x");

/** Why a pattern is not valid, as a sentence; null if it is valid. `objectionTo` checks where it may lead. */
export function objectionToPattern(pattern: string): string | null {
  const plain = filledIn(pattern);
  if (/[{}]/.test(plain)) return "Write a placeholder as {name}, with letters, digits, `_`, `-` and `.`.";
  if (!URL.canParse(plain)) return "This is not a URL.";
  const [beforeQuery = ""] = pattern.split(/[?#]/);
  if (placeholdersOf(pattern).length !== placeholdersOf(beforeQuery).length)
    return "Use placeholders only in the path. For the query, add a parameter in `query`.";
  const [authority = ""] = beforeQuery.replace(/^[a-z][a-z0-9+.-]*:\/*/i, "").split("/");
  if (/[{}]/.test(authority)) return "Use placeholders only in the path. The host is fixed.";
  return null;
}

/** Each value fills exactly one path segment: slashes in it are encoded, and dot segments are refused elsewhere. */
export function fill(pattern: string, values: ReadonlyMap<string, string>): string {
  return pattern.replace(placeholder, (_, name: string) => encodeURIComponent(values.get(name) ?? ""));
}

/** The segment of the path with this placeholder: `{a}{b}` can be filled to "..", although neither value is. */
export const segmentWith = (name: string, pattern: string): string =>
  pattern.split("/").find((segment) => placeholdersOf(segment).includes(name)) ?? name;

/** URL parsers resolve these as the same or the parent directory, also when they are encoded. */
export const isDotSegment = (value: string) => value === "." || value === ".." || value === "";
