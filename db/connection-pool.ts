import { Connection, type ConnectionOptions } from "./connection.ts";

/** Every connection is in use, and the line of those who wait is full or too slow. */
export class DatabaseBusy extends Error {
  constructor(message: string) {
    super(message);
    this.name = "DatabaseBusy";
  }
}

type Waiter = { give: (lane: Connection) => void; refuse: (error: DatabaseBusy) => void; timer: NodeJS.Timeout };
type PoolOptions = ConnectionOptions & { size: number; maxWaiting: number; maxWaitMs: number };

/** Lends lanes, each to one transaction at a time. Waiting is bounded in length and in time. */
export class ConnectionPool {
  /** How many lanes it opens at most. */
  readonly size: number;
  readonly #options: PoolOptions;
  readonly #lanes = new Set<Connection>();
  readonly #free: Connection[] = [];
  readonly #waiting: Waiter[] = [];
  #closing = false;

  constructor(options: PoolOptions) {
    this.size = options.size;
    this.#options = options;
  }

  acquire(): Connection | Promise<Connection> {
    if (this.#closing) throw new DatabaseBusy("The database pool is closing.");
    const free = this.#free.pop();
    if (free) return free;
    if (this.#lanes.size < this.size) return this.#open();
    if (this.#waiting.length >= this.#options.maxWaiting) {
      throw new DatabaseBusy(`More than ${this.#options.maxWaiting} requests wait for the database.`);
    }
    return new Promise((give, refuse) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        refuse(new DatabaseBusy(`No database connection came free within ${this.#options.maxWaitMs} ms.`));
      }, this.#options.maxWaitMs);
      const waiter = { give, refuse, timer };
      this.#waiting.push(waiter);
    });
  }

  release(lane: Connection) {
    if (lane.dead) return this.#forget(lane);
    this.#lend(lane);
  }

  destroy(lane: Connection) {
    lane.destroy();
    this.#forget(lane);
  }

  async close() {
    this.#closing = true;
    for (const { refuse, timer } of this.#waiting.splice(0)) {
      clearTimeout(timer);
      refuse(new DatabaseBusy("The database pool is closing."));
    }
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }

  #open(): Connection {
    const lane = new Connection(this.#options, (dead) => this.#forget(dead));
    this.#lanes.add(lane);
    return lane;
  }

  #lend(lane: Connection) {
    const next = this.#waiting.shift();
    if (!next) return void this.#free.push(lane);
    clearTimeout(next.timer);
    next.give(lane);
  }

  /** A lane that is gone makes room for a new one, which goes to whoever waits. */
  #forget(lane: Connection) {
    if (!this.#lanes.delete(lane)) return;
    const place = this.#free.indexOf(lane);
    if (place >= 0) this.#free.splice(place, 1);
    if (this.#waiting.length > 0 && !this.#closing) this.#lend(this.#open());
  }
}
