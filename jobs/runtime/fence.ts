/** This pool may have been declared dead, and its jobs given to another pool. Code that catches it must rethrow it. */
export class Fenced extends Error {
  constructor(message = "This pool sent no heartbeat for too long: another pool may have its jobs.") {
    super(message);
    this.name = "Fenced";
  }
}

/**
 * Measures by a monotonic clock how long ago the last confirmed heartbeat was sent. Past the limit it closes for good: a
 * process that was stopped and resumed must not work under an id that others have declared dead.
 */
export class Fence {
  readonly #limitMs: number;
  readonly #now: () => number;
  readonly #closing = new AbortController();
  #seenAt: number;
  #watch: NodeJS.Timeout | undefined;

  /** `seenAt`: when the first confirmed heartbeat was sent. */
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

  /** A heartbeat was confirmed. The time when it was sent counts. A late confirmation does not open the fence again. */
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
