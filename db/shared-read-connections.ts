import { Connection, type ConnectionOptions } from "./connection.ts";
import { DatabaseBusy } from "./connection-pool.ts";

type Options = ConnectionOptions & { lanes: number; maxUnderWayPerLane: number };

/**
 * A few connections that everybody's single statements share: each is a transaction by itself, so they may follow one
 * another without waiting, and what comes in the same moment goes out in one packet.
 */
export class SharedReadConnections {
  readonly #options: Options;
  readonly #lanes = new Set<Connection>();
  #closing = false;

  constructor(options: Options) {
    this.#options = options;
  }

  send(text: string, parameters: readonly unknown[]) {
    const lane = this.#leastLoaded();
    lane.forgetOldPlans();
    return lane.send(text, parameters);
  }

  async close() {
    this.#closing = true;
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }

  #leastLoaded(): Connection {
    if (this.#closing) throw new DatabaseBusy("The database pool is closing.");
    let chosen: Connection | undefined;
    for (const lane of this.#lanes) if (!chosen || lane.load < chosen.load) chosen = lane;
    const { lanes, maxUnderWayPerLane } = this.#options;
    if (!chosen || (chosen.load > 0 && this.#lanes.size < lanes)) return this.#open();
    if (chosen.load >= maxUnderWayPerLane)
      throw new DatabaseBusy(`More than ${maxUnderWayPerLane} reads wait for each connection.`);
    return chosen;
  }

  #open(): Connection {
    const lane = new Connection(this.#options, (dead) => this.#lanes.delete(dead));
    this.#lanes.add(lane);
    return lane;
  }
}
