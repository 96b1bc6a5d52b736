import { Connection, ConnectionLost, type ConnectionOptions } from "./connection.ts";
import { FairGate, type Owner } from "./fair-gate.ts";

type PoolOptions = ConnectionOptions & { size: number; maxWaiting: number; maxWaitMs: number };

/** One connection, lent for one transaction. */
export type Lease = { connection: Connection; release(): void };

/** Lends each connection to one transaction at a time. No client can hold all of them; the queue is bounded in length and time. */
export class ConnectionPool {
  /** The maximum number of connections. */
  readonly size: number;
  readonly #options: PoolOptions;
  readonly #gate: FairGate;
  readonly #connections = new Set<Connection>();
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
    if (this.#options.watch?.isSilent) {
      this.#gate.leave(owner);
      throw new ConnectionLost("The database responds on no connection.");
    }
    const connection = this.#free.pop() ?? this.#open();
    let isLent = true;
    const release = () => {
      if (!isLent) return;
      isLent = false;
      if (!connection.isDead) this.#free.push(connection);
      this.#gate.leave(owner);
    };
    return { connection, release };
  }

  /** Closes the connection. Its lease must still be released. */
  destroy(connection: Connection) {
    connection.destroy();
    this.#forget(connection);
  }

  async close() {
    this.#gate.close();
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }

  #open(): Connection {
    const connection = new Connection(this.#options, (dead) => this.#forget(dead));
    this.#connections.add(connection);
    return connection;
  }

  #forget(connection: Connection) {
    this.#connections.delete(connection);
    const place = this.#free.indexOf(connection);
    if (place >= 0) this.#free.splice(place, 1);
  }
}
