import { Connection, type ConnectionOptions } from "./connection.ts";
import { FairGate, type Owner } from "./fair-gate.ts";

type PoolOptions = ConnectionOptions & { size: number; maxWaiting: number; maxWaitMs: number };

/** One connection, lent for one transaction. */
export type Lease = { lane: Connection; giveBack(): void };

/** Lends lanes, each to one transaction at a time. No client can hold all of them; waiting is bounded in length and in time. */
export class ConnectionPool {
  /** How many lanes it opens at most. */
  readonly size: number;
  readonly #options: PoolOptions;
  readonly #gate: FairGate;
  readonly #lanes = new Set<Connection>();
  readonly #free: Connection[] = [];

  constructor(options: PoolOptions) {
    this.size = options.size;
    this.#options = options;
    this.#gate = new FairGate({ ...options, places: options.size });
  }

  /** Throws DatabaseBusy. */
  async acquire(owner: Owner): Promise<Lease> {
    const waited = this.#gate.enter(owner);
    if (waited) await waited;
    const lane = this.#free.pop() ?? this.#open();
    let isLent = true;
    const giveBack = () => {
      if (!isLent) return;
      isLent = false;
      if (!lane.dead) this.#free.push(lane);
      this.#gate.leave(owner);
    };
    return { lane, giveBack };
  }

  /** Closes it. The lease must still be given back. */
  destroy(lane: Connection) {
    lane.destroy();
    this.#forget(lane);
  }

  async close() {
    this.#gate.close();
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }

  #open(): Connection {
    const lane = new Connection(this.#options, (dead) => this.#forget(dead));
    this.#lanes.add(lane);
    return lane;
  }

  #forget(lane: Connection) {
    this.#lanes.delete(lane);
    const place = this.#free.indexOf(lane);
    if (place >= 0) this.#free.splice(place, 1);
  }
}
