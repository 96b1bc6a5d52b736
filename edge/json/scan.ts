/** The depth, the number of all values, and the number of names in one object. */
type Limits = { depth: number; values: number; names: number };
type Found = { problem: keyof Limits; path: string };

const [quote, backslash, comma, colon] = [34, 92, 44, 58];
const [openList, closeList, openObject, closeObject] = [91, 93, 123, 125];

/**
 * Finds out whether a JSON text is nested too deep or too large, before it is parsed: a parser would first build a million
 * small objects. It checks nothing else; the parser refuses invalid JSON.
 */
export function scanJson(text: string, limits: Limits): Found | null {
  // Per level: the index in a list, or minus one minus the number of names in an object; and where the present name starts
  // and ends in the text.
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

/** The index of the closing quote of the string that starts here. */
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
