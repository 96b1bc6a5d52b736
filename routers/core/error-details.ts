export type ErrorDetail = {
  path: string;
  message: string;
  /** Set when the problem is another resource: `path` is then its kind, and these are its id and name. */
  id?: string;
  name?: string;
};

export const maxDetails = 20;
const maxDetailsBytes = 4_500;
const maxPath = 200;
const maxMessage = 500;

/**
 * Makes a caller's text safe to repeat in a response. Each control character would take six bytes of JSON, and a lone
 * surrogate is not valid text.
 */
const safe = (text: string, maximum: number) => {
  const cut = text.length > maximum ? `${text.slice(0, maximum - 1)}…` : text;
  return cut.toWellFormed().replace(/\p{Cc}/gu, "\ufffd");
};

export const boundedMessage = (message: string) => safe(message, maxMessage);

/** The first details, within a few kilobytes, whatever the size of the request. */
export function boundedDetails<D extends ErrorDetail>(details: readonly D[]): D[] {
  const bounded: D[] = [];
  let left = maxDetailsBytes;
  for (const detail of details.slice(0, maxDetails)) {
    const kept = { ...detail, path: safe(detail.path, maxPath), message: safe(detail.message, maxMessage) };
    if (detail.name !== undefined) kept.name = safe(detail.name, maxPath);
    left -= Buffer.byteLength(JSON.stringify(kept));
    if (left < 0 && bounded.length > 0) break;
    bounded.push(kept);
  }
  return bounded;
}

/** The end of a message whose `details` are incomplete. */
export const omittedDetails = (count: number) =>
  count > 0 ? ` There are ${count} more problems, which are not listed.` : "";
