/** Does a list such as `["call.*", "agent.created"]` want this type? `*` wants all; `call.*` all that begin with `call.`. */
export function matchesAny(patterns: readonly string[], type: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === type) return true;
    return pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1));
  });
}

/** A pattern that no type could ever match is a slip of the pen. */
export const canMatch = (pattern: string, types: readonly string[]) =>
  types.some((type) => matchesAny([pattern], type));
