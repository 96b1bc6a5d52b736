/** The parsed body, or undefined if it is not JSON: then the schema reports the error. */
export function parsedOrUndefined(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
