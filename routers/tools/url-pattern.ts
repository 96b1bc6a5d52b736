/** What may stand between braces, and in a parameter's name. */
const placeholder = /\{([A-Za-z0-9_.-]{1,64})\}/g;

/** The names between braces, in the order of the URL. */
export const placeholdersOf = (pattern: string) => [...pattern.matchAll(placeholder)].map(([, name]) => name!);

/** The URL with something in every place, so that it can be looked at as a URL. */
export const filledIn = (pattern: string) => pattern.replace(placeholder, "x");

/** What speaks against a pattern, as a sentence; null if nothing does. Where it may lead is looked at elsewhere. */
export function objectionToPattern(pattern: string): string | null {
  const plain = filledIn(pattern);
  if (/[{}]/.test(plain)) return "Write a placeholder as {name}, of letters, digits, `_`, `-` and `.`.";
  if (!URL.canParse(plain)) return "This is not a URL.";
  const [beforeQuery = ""] = pattern.split(/[?#]/);
  if (placeholdersOf(pattern).length !== placeholdersOf(beforeQuery).length)
    return "A placeholder stands in the path only; for the query use a parameter in `query`.";
  const [authority = ""] = beforeQuery.replace(/^[a-z][a-z0-9+.-]*:\/*/i, "").split("/");
  if (/[{}]/.test(authority)) return "A placeholder stands in the path only: the host is fixed.";
  return null;
}

/** Each value takes one place in the path and no more: a slash in it is no step, and a dot no way back. */
export function fill(pattern: string, values: ReadonlyMap<string, string>): string {
  return pattern.replace(placeholder, (_, name: string) => encodeURIComponent(values.get(name) ?? ""));
}

/** These are read as "here" and "one up", whether encoded or not. */
export const isStep = (value: string) => value === "." || value === ".." || value === "";
