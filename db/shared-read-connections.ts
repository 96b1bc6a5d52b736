import { Connection, type ConnectionOptions } from "./connection.ts";
import { DatabaseBusy, FairGate, type Owner } from "./fair-gate.ts";

type Options = ConnectionOptions & { lanes: number; underWayPerLane: number; maxWaiting: number; maxWaitMs: number };

/**
 * A few connections that everybody's single statements share: each is a transaction by itself, so they may follow one
 * another without waiting, and what comes in the same moment goes out in one packet. How many of one client are under way
 * is bounded, since the others' follow behind them.
 */
export class SharedReadConnections {
  readonly #options: Options;
  readonly #gate: FairGate;
  readonly #lanes = new Set<Connection>();
  #closing = false;

  constructor(options: Options) {
    this.#options = options;
    this.#gate = new FairGate({ ...options, places: options.lanes * options.underWayPerLane });
  }

  async send(owner: Owner, text: string, parameters: readonly unknown[]) {
    const waited = this.#gate.enter(owner);
    if (waited) await waited;
    try {
      const lane = this.#leastLoaded();
      lane.forgetOldPlans();
      return await lane.send(text, parameters);
    } finally {
      this.#gate.leave(owner);
    }
  }

  async close() {
    this.#closing = true;
    this.#gate.close();
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }

  #leastLoaded(): Connection {
    if (this.#closing) throw new DatabaseBusy("The database pool is closing.");
    let chosen: Connection | undefined;
    for (const lane of this.#lanes) if (!chosen || lane.load < chosen.load) chosen = lane;
    if (!chosen || (chosen.load > 0 && this.#lanes.size < this.#options.lanes)) return this.#open();
    return chosen;
  }

  #open(): Connection {
    const lane = new Connection(this.#options, (dead) => this.#lanes.delete(dead));
    this.#lanes.add(lane);
    return lane;
  }
}
