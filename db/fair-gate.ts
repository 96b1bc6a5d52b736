/** No connection is free, and the queue is full or the wait was too long. */
export class DatabaseBusy extends Error {
  constructor(message: string) {
    super(message);
    this.name = "DatabaseBusy";
  }
}

/** The client or person that a connection is used for. null: the installation itself, which has no limit. */
export type Owner = string | null;

type Waiter = { grant: () => void; refuse: (error: DatabaseBusy) => void; timer: NodeJS.Timeout };
type Held = { places: number; waiting: Waiter[] };
type Options = {
  places: number;
  /** The maximum number of waiting requests, over all owners. */
  maxWaiting: number;
  maxWaitMs: number;
};

/** The fraction of the places that one owner may hold. */
const shareOfOne = 0.4;

/**
 * Shares a number of places fairly. One owner holds at most a share of them, so that places remain for others. Waiting owners
 * are served round-robin, each in order of arrival, so that a long queue delays its own owner only.
 */
export class FairGate {
  /** Places that one owner may hold. */
  readonly share: number;
  readonly #options: Options;
  /** Owners with a place or a waiter. Waiting owners are served in this order. */
  readonly #owners = new Map<Owner, Held>();
  #taken = 0;
  #waiting = 0;
  #closed = false;

  constructor(options: Options) {
    this.#options = options;
    this.share = Math.max(1, Math.floor(options.places * shareOfOne));
  }

  /** Takes a place: now (undefined), or when the promise resolves. Throws or rejects with DatabaseBusy. */
  enter(owner: Owner): Promise<void> | undefined {
    if (this.#closed) throw closing();
    const held = this.#heldBy(owner);
    if (this.#taken < this.#options.places && this.#hasShare(owner, held)) return void this.#take(held);
    this.#refuseBeyondBound(owner, held);
    return new Promise((grant, refuse) => this.#queue(owner, held, { grant, refuse }));
  }

  leave(owner: Owner) {
    this.#taken--;
    const held = this.#heldBy(owner);
    held.places--;
    this.#forgetIdle(owner, held);
    this.#serve();
  }

  close() {
    this.#closed = true;
    for (const { waiting } of this.#owners.values()) {
      for (const { refuse, timer } of waiting.splice(0)) {
        clearTimeout(timer);
        refuse(closing());
      }
    }
    this.#waiting = 0;
  }

  #heldBy(owner: Owner): Held {
    const known = this.#owners.get(owner);
    if (known) return known;
    const held = { places: 0, waiting: [] };
    this.#owners.set(owner, held);
    return held;
  }

  #hasShare = (owner: Owner, { places }: Held) => owner === null || places < this.share;

  #take(held: Held) {
    this.#taken++;
    held.places++;
  }

  /** An owner may queue as many as it leaves free, so at most half of the queue: there is always room for others. */
  #refuseBeyondBound(owner: Owner, held: Held) {
    const free = this.#options.maxWaiting - this.#waiting;
    if (free > 0 && (owner === null || held.waiting.length < free)) return;
    this.#forgetIdle(owner, held);
    throw new DatabaseBusy(`Too many requests wait for the database: ${held.waiting.length} of this owner.`);
  }

  #queue(owner: Owner, held: Held, { grant, refuse }: Pick<Waiter, "grant" | "refuse">) {
    const timer = setTimeout(() => {
      held.waiting.splice(held.waiting.indexOf(waiter), 1);
      this.#waiting--;
      this.#forgetIdle(owner, held);
      refuse(new DatabaseBusy(`No database connection came free within ${this.#options.maxWaitMs} ms.`));
    }, this.#options.maxWaitMs);
    const waiter: Waiter = { grant, refuse, timer };
    held.waiting.push(waiter);
    this.#waiting++;
  }

  #serve() {
    while (this.#waiting > 0 && this.#taken < this.#options.places && this.#serveNext());
  }

  /** Gives a place to the next owner's first waiter. false: all waiting owners have their full share. */
  #serveNext(): boolean {
    for (const [owner, held] of this.#owners) {
      const next = this.#hasShare(owner, held) ? held.waiting.shift() : undefined;
      if (!next) continue;
      clearTimeout(next.timer);
      this.#waiting--;
      this.#take(held);
      this.#owners.delete(owner); // moves the owner to the end of the round
      this.#owners.set(owner, held);
      next.grant();
      return true;
    }
    return false;
  }

  #forgetIdle(owner: Owner, held: Held) {
    if (held.places === 0 && held.waiting.length === 0) this.#owners.delete(owner);
  }
}

const closing = () => new DatabaseBusy("The database pool is closing.");
