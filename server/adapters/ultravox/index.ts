import type { Ultravox } from "../../../routers/ports/ultravox.ts";
import { accountsOf } from "./accounts.ts";
import { agentsOf } from "./agents.ts";
import { callsOf } from "./calls.ts";
import { openUltravoxClient, type UltravoxOptions } from "./http-client.ts";
import { knowledgeOf } from "./knowledge.ts";
import { telephonyOf } from "./telephony.ts";
import { toolsOf } from "./tools.ts";
import { voicesOf } from "./voices.ts";

export type { UltravoxOptions } from "./http-client.ts";

/** The Ultravox Realtime API (docs.ultravox.ai/api-reference). It has no idempotency keys: see `repeat` of each request. */
export function ultravox(options: UltravoxOptions): Ultravox {
  const client = openUltravoxClient(options);
  return {
    ...agentsOf(client),
    ...callsOf(client, { sipTrunk: options.sipTrunk, publicUrl: options.publicUrl }),
    ...voicesOf(client),
    ...toolsOf(client),
    ...knowledgeOf(client),
    ...telephonyOf(client),
    ...accountsOf(client, options),
  };
}
