const headEnd = Buffer.from("\r\n\r\n");

/**
 * Splits a stream of HTTP/1.1 messages by Content-Length. The callback gets each message's head and body length. It supports
 * nothing else of the protocol, which makes it cheaper than what it measures: a chunked message is an error.
 */
export function framesOf(emit: (head: string, length: number) => void): (chunk: Buffer) => void {
  let held: Buffer | null = null;
  let skip = 0;
  let length = 0;
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
        emit(head, length);
      }
      if (rest.length === 0) return;
      const end = rest.indexOf(headEnd);
      if (end < 0) {
        held = rest;
        return;
      }
      head = rest.toString("latin1", 0, end);
      rest = rest.subarray(end + headEnd.length);
      length = lengthIn(head);
      skip = length;
      if (skip === 0) emit(head, length);
    }
  };
}

function lengthIn(head: string): number {
  const [, length] = /\r\ncontent-length: *(\d+)/i.exec(head) ?? [];
  const isHttp = head.startsWith("HTTP/1.1 ") || head.includes(" HTTP/1.1\r\n");
  if (!isHttp || /\r\ntransfer-encoding:/i.test(head))
    throw new Error(`no message of known length: ${head.slice(0, 80)}`);
  return Number(length ?? 0);
}
