/** How deep, how many values in all, and how many names one object has. */
type Limits = { depth: number; values: number; names: number };
type Found = { problem: keyof Limits; path: string };

const [quote, backslash, comma, colon] = [34, 92, 44, 58];
const [openList, closeList, openObject, closeObject] = [91, 93, 123, 125];

/**
 * Whether a JSON text is nested too deep or holds too much, found before it is parsed: a parser builds a million
 * small objects before anybody can count them. It judges nothing else; what is no JSON is the parser's to refuse.
 */
export function scanJson(text: string, limits: Limits): Found | null {
  // Per level: the place in a list, or how many names the object has, as a negative number and one less; and where the
  // present name begins and ends in the text.
  const items = new Int32Array(limits.depth + 1);
  const starts = new Int32Array(limits.depth + 1);
  const ends = new Int32Array(limits.depth + 1);
  let depth = 0;
  let values = 1;
  let [lastStart, lastEnd] = [0, 0];
  const found = (problem: Found["problem"]): Found => ({ problem, path: pathOf(text, depth, items, starts, ends) });

  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      lastStart = at + 1;
      at = endOfText(text, lastStart);
      lastEnd = at;
    } else if (code === colon) {
      starts[depth] = lastStart;
      ends[depth] = lastEnd;
      items[depth]! -= 1;
      if (items[depth]! < -1 - limits.names) return found("names");
    } else if (code === comma) {
      values += 1;
      if (items[depth]! >= 0) items[depth]! += 1;
      if (values > limits.values) return found("values");
    } else if (code === openList || code === openObject) {
      if (depth === limits.depth) return found("depth");
      depth += 1;
      values += 1;
      items[depth] = code === openList ? 0 : -1;
      starts[depth] = 0;
      ends[depth] = 0;
    } else if ((code === closeList || code === closeObject) && depth > 0) {
      depth -= 1;
    }
  }
  return null;
}

/** Where the text ends that begins here: at its closing quote. */
function endOfText(text: string, start: number): number {
  let at = start;
  for (; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === quote) break;
    if (code === backslash) at += 1;
  }
  return at;
}

const shownLevels = 32;

function pathOf(text: string, depth: number, items: Int32Array, starts: Int32Array, ends: Int32Array): string {
  const levels = Math.min(depth, shownLevels);
  return Array.from({ length: levels }, (_, n) => {
    const level = n + 1;
    return items[level]! >= 0 ? String(items[level]) : text.slice(starts[level], ends[level]).slice(0, 64);
  }).join(".");
}
