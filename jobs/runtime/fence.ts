/** This pool may have been declared dead, and its jobs given to another. Whoever catches it must throw it on. */
export class Fenced extends Error {
  constructor(message = "This pool was silent for too long: its jobs may have been given to another.") {
    super(message);
    this.name = "Fenced";
  }
}

/**
 * Knows how long ago this process was last certainly seen alive, by a clock that nobody sets. Too long, and it is
 * closed for good: a process that was stopped and goes on must not work under a name that others have buried.
 */
export class Fence {
  readonly #limitMs: number;
  readonly #now: () => number;
  readonly #closing = new AbortController();
  #seenAt: number;
  #watch: NodeJS.Timeout | undefined;

  /** `seenAt`: when the first confirmed beat was sent. */
  constructor(limitMs: number, seenAt: number, now = () => performance.now()) {
    this.#limitMs = limitMs;
    this.#now = now;
    this.#seenAt = seenAt;
    this.#watchOver();
  }

  get closed(): boolean {
    if (!this.#closing.signal.aborted && this.#now() - this.#seenAt > this.#limitMs) this.close();
    return this.#closing.signal.aborted;
  }

  /** Aborts when the fence closes. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  check() {
    if (this.closed) throw new Fenced();
  }

  /** A beat was confirmed. What counts is when it was sent, and an answer that comes too late opens nothing again. */
  confirm(sentAt: number) {
    if (this.closed) return;
    this.#seenAt = sentAt;
    this.#watchOver();
  }

  close() {
    clearTimeout(this.#watch);
    this.#closing.abort(new Fenced());
  }

  #watchOver() {
    clearTimeout(this.#watch);
    const left = this.#limitMs - (this.#now() - this.#seenAt);
    this.#watch = setTimeout(() => (this.closed ? undefined : this.#watchOver()), Math.max(1, left + 1));
    this.#watch.unref();
  }
}
