import { fstatSync, write, writeSync } from "node:fs";
import { Socket } from "node:net";
import type { DestinationStream } from "pino";

const flushBytes = 4_096;
const flushMs = 100;
const retryMs = 250;
const maxBufferedBytes = 4_000_000;
const maxChunkBytes = 64_000;

/** How much is written and how much was lost. */
export type LogOutput = DestinationStream & {
  flush(callback?: (error?: Error) => void): void;
  flushSync(): void;
  /** Lines that were dropped, since the output could not take them. */
  readonly dropped: number;
};

/**
 * Where log lines go. Nothing waits for it: lines are written a few at a time, behind the request's back. While the output
 * cannot take them (a full disk, a pipe that nobody reads) they are kept up to a few megabytes, then dropped and counted.
 */
export function logOutput(fd = 1): LogOutput {
  const keepOpen = withoutBlocking(fd);
  let lines: Buffer[] = [];
  let bufferedBytes = 0;
  let dropped = 0;
  let unreported = 0;
  let writing: Buffer | null = null;
  let timer: NodeJS.Timeout | undefined;
  const waiting: ((error?: Error) => void)[] = [];

  function schedule(ms: number) {
    timer ??= setTimeout(flush, ms);
    timer.unref();
  }

  function flush() {
    clearTimeout(timer);
    timer = undefined;
    if (writing) return;
    writing = take();
    if (writing) return put(writing);
    for (const done of waiting.splice(0)) done();
  }

  /** The next lines, of which there may be none. After lines were lost, one that says so comes first. */
  function take(): Buffer | null {
    if (unreported > 0 && bufferedBytes < maxBufferedBytes / 2) {
      lines.unshift(lossLine(unreported));
      bufferedBytes += lines[0]!.length;
      unreported = 0;
    }
    let size = 0;
    let count = 0;
    while (count < lines.length && (count === 0 || size < maxChunkBytes)) size += lines[count++]!.length;
    if (count === 0) return null;
    return Buffer.concat(lines.splice(0, count), size);
  }

  function put(bytes: Buffer) {
    write(fd, bytes, (error, written = 0) => {
      bufferedBytes -= written;
      writing = written < bytes.length ? bytes.subarray(written) : null;
      if (!error && writing) return put(writing);
      if (!error) return flush();
      // It may be over in a moment: room on the disk, a reader of the pipe. Until then nothing waits for it.
      for (const done of waiting.splice(0)) done(error);
      timer = setTimeout(() => {
        timer = undefined;
        if (writing) put(writing);
      }, retryMs).unref();
    });
  }

  /** At the very end: what can be written without waiting is. */
  function flushSync() {
    const rest = [...(writing ? [writing] : []), ...lines];
    writing = null;
    lines = [];
    bufferedBytes = 0;
    try {
      let bytes = Buffer.concat(rest);
      while (bytes.length > 0) bytes = bytes.subarray(writeSync(fd, bytes));
    } catch {
      // There is nowhere to say it.
    }
  }

  process.once("exit", () => {
    void keepOpen;
    flushSync();
  });

  return {
    write(line) {
      const bytes = Buffer.from(line);
      if (bufferedBytes + bytes.length > maxBufferedBytes) {
        dropped += 1;
        unreported += 1;
        return;
      }
      lines.push(bytes);
      bufferedBytes += bytes.length;
      if (writing) return;
      if (bufferedBytes >= flushBytes) flush();
      else schedule(flushMs);
    },
    flush(callback) {
      if (callback) waiting.push(callback);
      flush();
    },
    flushSync,
    get dropped() {
      return dropped;
    },
  };
}

const lossLine = (lost: number) =>
  Buffer.from(
    `${JSON.stringify({ level: "warn", time: new Date().toISOString(), lines: lost, msg: "log lines were dropped: the output could not take them" })}\n`,
  );

/**
 * A write to a full pipe would wait for its reader, in a thread that the process waits for when it exits. A socket handle of
 * Node's makes the pipe non-blocking, as `process.stdout` does; writes then fail with EAGAIN. Files do not block.
 */
function withoutBlocking(fd: number): Socket | null {
  try {
    const kind = fstatSync(fd);
    return kind.isFIFO() || kind.isSocket() ? new Socket({ fd, readable: false, writable: true }).unref() : null;
  } catch {
    return null; // it is closed: every write will say so
  }
}
