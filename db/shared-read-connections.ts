import { Connection, ConnectionLost, type ConnectionOptions } from "./connection.ts";
import { DatabaseBusy, FairGate, type Owner } from "./fair-gate.ts";

type Options = ConnectionOptions & {
  connections: number;
  pendingPerConnection: number;
  maxWaiting: number;
  maxWaitMs: number;
};

/**
 * A few connections that all single-statement reads share. Each statement is a transaction by itself, so statements can
 * follow one another without waiting, and those of the same moment leave in one packet. The number of pending statements
 * of one client is bounded, because the statements of other clients queue behind them.
 */
export class SharedReadConnections {
  readonly #options: Options;
  readonly #gate: FairGate;
  readonly #connections = new Set<Connection>();
  #closing = false;

  constructor(options: Options) {
    this.#options = options;
    this.#gate = new FairGate({ ...options, places: options.connections * options.pendingPerConnection });
  }

  async send(owner: Owner, text: string, parameters: readonly unknown[], asArrays = false) {
    const waited = this.#gate.enter(owner);
    if (waited) await waited;
    try {
      if (this.#options.watch?.isSilent) throw new ConnectionLost("The database responds on no connection.");
      const connection = this.#leastLoaded();
      connection.discardOldPlans();
      const sent = connection.send(text, parameters);
      return await (asArrays ? sent.values() : sent);
    } finally {
      this.#gate.leave(owner);
    }
  }

  async close() {
    this.#closing = true;
    this.#gate.close();
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }

  #leastLoaded(): Connection {
    if (this.#closing) throw new DatabaseBusy("The database pool is closing.");
    let chosen: Connection | undefined;
    for (const connection of this.#connections) {
      if (!chosen || connection.load < chosen.load) chosen = connection;
    }
    if (!chosen || (chosen.load > 0 && this.#connections.size < this.#options.connections)) return this.#open();
    return chosen;
  }

  #open(): Connection {
    const connection = new Connection(this.#options, (dead) => this.#connections.delete(dead));
    this.#connections.add(connection);
    return connection;
  }
}
