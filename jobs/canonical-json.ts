type Part = { text: string } | { value: unknown };

/**
 * JSON with sorted keys and no spaces: the same value has one text. It uses its own stack, so that a deeply nested value
 * cannot overflow the process's. Keys that are whole numbers come first, as in every JavaScript object.
 */
export function canonicalJson(value: unknown): string {
  const written: string[] = [];
  const left: Part[] = [{ value }];
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    if ("text" in part) written.push(part.text);
    else if (part.value === null || typeof part.value !== "object") written.push(JSON.stringify(part.value) ?? "null");
    else for (const next of partsOf(part.value).toReversed()) left.push(next);
  }
  return written.join("");
}

function partsOf(value: object): Part[] {
  if (Array.isArray(value)) {
    const items = value.flatMap((item: unknown, at): Part[] => [{ text: at === 0 ? "" : "," }, { value: item }]);
    return [{ text: "[" }, ...items, { text: "]" }];
  }
  const known = Object.entries(value).filter(([, inner]) => inner !== undefined);
  const inOrder = Object.fromEntries(known.sort(([a], [b]) => (a < b ? -1 : 1)));
  const fields = Object.entries(inOrder).flatMap(([name, inner], at): Part[] => [
    { text: `${at === 0 ? "" : ","}${JSON.stringify(name)}:` },
    { value: inner },
  ]);
  return [{ text: "{" }, ...fields, { text: "}" }];
}
