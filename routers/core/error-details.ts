export type ErrorDetail = {
  path: string;
  message: string;
  /** The resource in the way, where the problem is one: `path` is then its kind. */
  id?: string;
  name?: string;
};

export const maxDetails = 20;
const maxDetailsBytes = 4_500;
const maxPath = 200;
const maxMessage = 500;

/**
 * A text that may come from outside, as an answer may repeat it. Control characters would each take six bytes of JSON, and
 * half of a surrogate pair is no text.
 */
const safe = (text: string, maximum: number) => {
  const cut = text.length > maximum ? `${text.slice(0, maximum - 1)}…` : text;
  return cut.toWellFormed().replace(/\p{Cc}/gu, "\ufffd");
};

export const boundedMessage = (message: string) => safe(message, maxMessage);

/** What an answer says of each problem: the first few, in a few kilobytes, however much a caller sent. */
export function boundedDetails<D extends ErrorDetail>(details: readonly D[]): D[] {
  const bounded: D[] = [];
  let left = maxDetailsBytes;
  for (const detail of details.slice(0, maxDetails)) {
    const kept = { ...detail, path: safe(detail.path, maxPath), message: safe(detail.message, maxMessage) };
    left -= Buffer.byteLength(JSON.stringify(kept));
    if (left < 0 && bounded.length > 0) break;
    bounded.push(kept);
  }
  return bounded;
}

/** How a message says that `details` does not name everything. */
export const andMore = (count: number) => (count > 0 ? ` There are ${count} more problems, which are not listed.` : "");
