import { setTimeout as sleep } from "node:timers/promises";
import { Connection, type ConnectionLost, type ConnectionOptions } from "./connection.ts";

/** Without a response for this time on any connection, the server is probed. */
const suspectMs = 1_500;
const probeMs = 2_000;
const pauseMs = 250;

/**
 * Tells a silent server from a slow statement. A statement may take ten seconds, but a server that responds on no connection
 * and to no probe is silent: then what waits for it fails within four seconds, and requests are refused until it responds.
 */
export class SilenceWatch {
  isSilent = false;
  readonly #options: ConnectionOptions;
  #respondedAt = performance.now();
  #isProbing = false;
  #isClosed = false;

  constructor(options: ConnectionOptions) {
    this.#options = { ...options, name: "patchbay-probe", connectMs: probeMs, quickMs: probeMs, watch: undefined };
  }

  responded() {
    this.#respondedAt = performance.now();
    this.isSilent = false;
  }

  /** A connection waits for a response. */
  suspect() {
    if (this.#isProbing || performance.now() - this.#respondedAt < suspectMs) return;
    this.#isProbing = true;
    this.#probe().finally(() => {
      this.#isProbing = false;
    });
  }

  close() {
    this.#isClosed = true;
  }

  async #probe() {
    while (!this.#isClosed) {
      const startedAt = performance.now();
      if (await this.#responds()) return this.responded();
      // Another connection may have had a response meanwhile.
      if (this.#respondedAt < startedAt) this.isSilent = true;
      await sleep(pauseMs, undefined, { ref: false });
    }
  }

  /** An error from the server is a response too, such as "too many connections". */
  async #responds(): Promise<boolean> {
    const connection = new Connection(this.#options, () => {});
    try {
      await connection.command("begin read only");
      return true;
    } catch (error) {
      const { code } = ((error as ConnectionLost).cause ?? error) as { code?: unknown };
      return typeof code === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(code);
    } finally {
      connection.destroy();
    }
  }
}
