import { randomInt } from "node:crypto";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import type { TelnyxAccount } from "../telnyx.ts";
import { serveWorld } from "./http.ts";
import { NUMBERS } from "./numbers.ts";
import { persistResources } from "./persistence.ts";
import { type Account, newWorld } from "./state.ts";

export { type Ending, type EndReason, NUMBERS, type SipTermination } from "./numbers.ts";
export type { WebhookEvent } from "./requests.ts";
export type { Account, LoggedRequest } from "./state.ts";
export type { CallView } from "./views.ts";

export interface UltravoxOptions {
  /** Absent or 0: any free port. */
  port?: number;
  /** The same seed gives the same ids and conversations. Absent: a new seed each time, since a database outlives the simulator. */
  seed?: number;
  /** Simulated seconds per real second. */
  speed?: number;
  /** Real milliseconds within which a webhook receiver must respond. */
  webhookTimeoutMs?: number;
  /** Stores everything but calls, since a database that outlives the simulator refers to it by id. */
  keepFile?: string;
  /** The Telnyx account through which every account dials. It reports the legs of calls to their `StatusCallback`. */
  telnyx?: TelnyxAccount;
  accounts: Account[];
}

export interface Ultravox {
  url: string;
  port: number;
  close(): Promise<void>;
}

/** A simulated provider on 127.0.0.1, described in `docs/simulator.md`. */
export async function startUltravox(options: UltravoxOptions): Promise<Ultravox> {
  const { port = 0, seed = randomInt(2 ** 32), speed = 1, webhookTimeoutMs = 5000, accounts } = options;
  if (!(speed > 0)) throw new Error(`speed must be greater than 0, not ${speed}`);
  const world = newWorld({ seed, speed, webhookTimeoutMs, telnyx: options.telnyx ?? null, accounts });
  const keep = options.keepFile ? await persistResources(world, options.keepFile) : async () => {};
  const server = serveWorld(world);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
  const listening = (server.address() as AddressInfo).port;
  return {
    url: `http://127.0.0.1:${listening}`,
    port: listening,
    async close() {
      world.stopped.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      await keep();
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "4010" },
      seed: { type: "string" },
      speed: { type: "string", default: "1" },
      "api-key": { type: "string", default: "simulat1.0123456789abcdef0123456789abcdef" },
      webhook: { type: "string" },
      secret: { type: "string", default: "simulated-webhook-secret" },
    },
  });
  const account: Account = {
    id: "00000000-0000-4000-8000-000000000001",
    apiKey: values["api-key"],
    webhooks: values.webhook === undefined ? [] : [{ url: values.webhook, secrets: [values.secret] }],
  };
  const simulator = await startUltravox({
    port: Number(values.port),
    ...(values.seed !== undefined && { seed: Number(values.seed) }),
    speed: Number(values.speed),
    accounts: [account],
  });
  console.log(`Ultravox, simulated, at ${simulator.url}; X-API-Key: ${account.apiKey}`);
  for (const [ending, { what }] of Object.entries(NUMBERS)) console.log(`  …${ending}  ${what}`);
}

if (import.meta.main) await main();
