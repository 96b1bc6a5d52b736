const headEnd = Buffer.from("\r\n\r\n");

/**
 * Cuts a stream of HTTP/1.1 messages at their ends, by Content-Length; `tell` gets each message's head. It knows nothing
 * else of the protocol, which is what makes it cheaper than what it measures.
 */
export function framesOf(tell: (head: string) => void): (chunk: Buffer) => void {
  let held: Buffer | null = null;
  let skip = 0;
  let head = "";
  return (chunk) => {
    let rest = held ? Buffer.concat([held, chunk]) : chunk;
    held = null;
    for (;;) {
      if (skip > 0) {
        const step = Math.min(skip, rest.length);
        skip -= step;
        rest = rest.subarray(step);
        if (skip > 0) return;
        tell(head);
      }
      if (rest.length === 0) return;
      const end = rest.indexOf(headEnd);
      if (end < 0) {
        held = rest;
        return;
      }
      head = rest.toString("latin1", 0, end);
      rest = rest.subarray(end + headEnd.length);
      skip = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      if (skip === 0) tell(head);
    }
  };
}
