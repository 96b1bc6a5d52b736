/** No connection is free, and the queue is full or the wait was too long. */
export class DatabaseBusy extends Error {
  constructor(message: string) {
    super(message);
    this.name = "DatabaseBusy";
  }
}

/**
 * The client or person that a connection is used for. `jobsOf`: a client's jobs, which share its places and give way to its
 * requests. null: the installation itself, which has no limit.
 */
export type Owner = string | null | { jobsOf: string };

type Waiter = { grant: () => void; refuse: (error: DatabaseBusy) => void; timer: NodeJS.Timeout; isJob: boolean };
type Held = { places: number; jobs: number; requestedAt: number; waiting: Waiter[] };
type Options = {
  places: number;
  /** The maximum number of waiting requests, over all owners. */
  maxWaiting: number;
  maxWaitMs: number;
};

/** The fraction of the places that one owner may hold. */
const shareOfOne = 0.4;
/** The fraction of this share that an owner's jobs may hold, while it sends requests too. */
const shareOfJobs = 0.5;
/** An owner sends requests if it had one in this time. */
const requestingMs = 1_000;

/**
 * Shares a number of places fairly. One owner holds at most a share of them, so that places remain for others. Waiting owners
 * are served round-robin, each in order of arrival, so that a long queue delays its own owner only.
 */
export class FairGate {
  /** Places that one owner may hold. */
  readonly share: number;
  readonly #shareOfJobs: number;
  readonly #options: Options;
  /** Owners with a place or a waiter. Waiting owners are served in this order. */
  readonly #owners = new Map<string | null, Held>();
  #taken = 0;
  #waiting = 0;
  #closed = false;

  constructor(options: Options) {
    this.#options = options;
    this.share = Math.max(1, Math.floor(options.places * shareOfOne));
    this.#shareOfJobs = Math.max(1, Math.floor(this.share * shareOfJobs));
  }

  /** Takes a place: now (undefined), or when the promise resolves. Throws or rejects with DatabaseBusy. */
  enter(owner: Owner): Promise<void> | undefined {
    if (this.#closed) throw closing();
    const { client, isJob } = read(owner);
    const held = this.#heldBy(client);
    if (!isJob) held.requestedAt = performance.now();
    if (this.#taken < this.#options.places && this.#mayTake(client, held, isJob)) return void this.#take(held, isJob);
    this.#refuseBeyondBound(client, held);
    return new Promise((grant, refuse) => this.#queue(client, held, { grant, refuse, isJob }));
  }

  leave(owner: Owner) {
    this.#taken--;
    const { client, isJob } = read(owner);
    const held = this.#heldBy(client);
    held.places--;
    if (isJob) held.jobs--;
    this.#forgetIdle(client, held);
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

  #heldBy(client: string | null): Held {
    const known = this.#owners.get(client);
    if (known) return known;
    const held = { places: 0, jobs: 0, requestedAt: Number.NEGATIVE_INFINITY, waiting: [] };
    this.#owners.set(client, held);
    return held;
  }

  #mayTake(client: string | null, { places, jobs, requestedAt }: Held, isJob: boolean): boolean {
    if (client === null) return true;
    const isLimited = isJob && performance.now() - requestedAt < requestingMs;
    return places < this.share && !(isLimited && jobs >= this.#shareOfJobs);
  }

  #take(held: Held, isJob: boolean) {
    this.#taken++;
    held.places++;
    if (isJob) held.jobs++;
  }

  /** An owner may queue as many as it leaves free, so at most half of the queue: there is always room for others. */
  #refuseBeyondBound(client: string | null, held: Held) {
    const free = this.#options.maxWaiting - this.#waiting;
    if (free > 0 && (client === null || held.waiting.length < free)) return;
    this.#forgetIdle(client, held);
    throw new DatabaseBusy(`Too many requests wait for the database: ${held.waiting.length} of this owner.`);
  }

  #queue(client: string | null, held: Held, { grant, refuse, isJob }: Omit<Waiter, "timer">) {
    const timer = setTimeout(() => {
      held.waiting.splice(held.waiting.indexOf(waiter), 1);
      this.#waiting--;
      this.#forgetIdle(client, held);
      refuse(new DatabaseBusy(`No database connection came free within ${this.#options.maxWaitMs} ms.`));
    }, this.#options.maxWaitMs);
    const waiter: Waiter = { grant, refuse, timer, isJob };
    held.waiting.push(waiter);
    this.#waiting++;
  }

  #serve() {
    while (this.#waiting > 0 && this.#taken < this.#options.places && this.#serveNext());
  }

  /** Gives a place to the next owner's first waiter. false: all waiting owners have their full share. */
  #serveNext(): boolean {
    for (const [client, held] of this.#owners) {
      const next = this.#nextOf(client, held);
      if (!next) continue;
      held.waiting.splice(held.waiting.indexOf(next), 1);
      clearTimeout(next.timer);
      this.#waiting--;
      this.#take(held, next.isJob);
      this.#owners.delete(client); // moves the owner to the end of the round
      this.#owners.set(client, held);
      next.grant();
      return true;
    }
    return false;
  }

  /** Requests before jobs, each in order of arrival. */
  #nextOf(client: string | null, held: Held): Waiter | undefined {
    const [first] = held.waiting;
    if (!first || !this.#mayTake(client, held, false)) return undefined;
    const request = first.isJob ? held.waiting.find(({ isJob }) => !isJob) : first;
    return request ?? (this.#mayTake(client, held, true) ? first : undefined);
  }

  #forgetIdle(client: string | null, held: Held) {
    if (held.places === 0 && held.waiting.length === 0) this.#owners.delete(client);
  }
}

const read = (owner: Owner) =>
  typeof owner === "object" && owner !== null ? { client: owner.jobsOf, isJob: true } : { client: owner, isJob: false };

const closing = () => new DatabaseBusy("The database pool is closing.");
