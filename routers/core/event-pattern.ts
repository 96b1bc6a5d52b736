/** Whether a list such as `["call.*", "agent.created"]` matches this type. `*` matches all; `call.*` all that begin with `call.`. */
export function matchesAny(patterns: readonly string[], type: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === type) return true;
    return pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1));
  });
}

/** Whether a pattern matches any type at all: if not, it is a typing error. */
export const canMatch = (pattern: string, types: readonly string[]) =>
  types.some((type) => matchesAny([pattern], type));
