import { fstatSync, write, writeSync } from "node:fs";
import { Socket } from "node:net";
import type { DestinationStream } from "pino";

const flushBytes = 4_096;
const flushMs = 100;
const retryMs = 250;
const maxBufferedBytes = 4_000_000;
const maxChunkBytes = 64_000;

/** Where log lines go, and how many were lost. */
export type LogOutput = DestinationStream & {
  flush(callback?: (error?: Error) => void): void;
  flushSync(): void;
  /** Lines that were dropped because the output could not take them. */
  readonly dropped: number;
};

/**
 * Writes log lines in the background, a few at a time; no request waits for it. While the output cannot take them (a full
 * disk, a pipe that is not read) up to a few megabytes are buffered; further lines are dropped and counted.
 */
export function logOutput(fd = 1): LogOutput {
  const keepOpen = withoutBlocking(fd);
  const buffer = new LineBuffer();
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
    writing = buffer.take();
    if (writing) return put(writing);
    for (const done of waiting.splice(0)) done();
  }

  function put(bytes: Buffer) {
    write(fd, bytes, (error, written = 0) => {
      buffer.written(written);
      writing = written < bytes.length ? bytes.subarray(written) : null;
      if (!error && writing) return put(writing);
      if (!error) return flush();
      // It may be temporary: a full disk, a slow reader of the pipe. Until then no caller waits for it.
      for (const done of waiting.splice(0)) done(error);
      timer = setTimeout(() => {
        timer = undefined;
        if (writing) put(writing);
      }, retryMs).unref();
    });
  }

  /** At exit: writes what can be written without waiting. */
  function flushSync() {
    const rest = [...(writing ? [writing] : []), ...buffer.takeAll()];
    writing = null;
    try {
      let bytes = Buffer.concat(rest);
      while (bytes.length > 0) bytes = bytes.subarray(writeSync(fd, bytes));
    } catch {
      // There is no place left to report it.
    }
  }

  process.once("exit", () => {
    void keepOpen;
    flushSync();
  });

  return {
    write(line) {
      if (!buffer.add(line) || writing) return;
      if (buffer.bytes >= flushBytes) flush();
      else schedule(flushMs);
    },
    flush(callback) {
      if (callback) waiting.push(callback);
      flush();
    },
    flushSync,
    get dropped() {
      return buffer.dropped;
    },
  };
}

/** Lines that wait to be written, up to `maxBufferedBytes`. */
class LineBuffer {
  #lines: Buffer[] = [];
  #unreported = 0;
  bytes = 0;
  dropped = 0;

  /** False if the line was dropped. */
  add(line: string): boolean {
    const bytes = Buffer.from(line);
    if (this.bytes + bytes.length > maxBufferedBytes) {
      this.dropped += 1;
      this.#unreported += 1;
      return false;
    }
    this.#lines.push(bytes);
    this.bytes += bytes.length;
    return true;
  }

  /** The next lines, or null. After a loss, a line that reports it comes first. */
  take(): Buffer | null {
    if (this.#unreported > 0 && this.bytes < maxBufferedBytes / 2) {
      const report = lossLine(this.#unreported);
      this.#lines.unshift(report);
      this.bytes += report.length;
      this.#unreported = 0;
    }
    let size = 0;
    let count = 0;
    while (count < this.#lines.length && (count === 0 || size < maxChunkBytes)) size += this.#lines[count++]!.length;
    return count === 0 ? null : Buffer.concat(this.#lines.splice(0, count), size);
  }

  takeAll(): Buffer[] {
    this.bytes = 0;
    return this.#lines.splice(0);
  }

  written(bytes: number) {
    this.bytes -= bytes;
  }
}

const lossLine = (lost: number) =>
  Buffer.from(
    `${JSON.stringify({ level: "warn", time: new Date().toISOString(), lines: lost, msg: "log lines dropped; the output could not take them" })}\n`,
  );

/**
 * A write to a full pipe would wait for its reader, in a thread for which the process waits when it exits. A socket handle
 * makes the pipe non-blocking, as `process.stdout` does; writes then fail with EAGAIN. Files do not block.
 */
function withoutBlocking(fd: number): Socket | null {
  try {
    const kind = fstatSync(fd);
    return kind.isFIFO() || kind.isSocket() ? new Socket({ fd, readable: false, writable: true }).unref() : null;
  } catch {
    return null; // the descriptor is closed: every write will fail
  }
}
