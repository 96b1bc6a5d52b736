import type { Ultravox } from "../../../routers/ports/ultravox.ts";
import { accountsOf } from "./accounts.ts";
import { agentsOf } from "./agents.ts";
import { callsOf } from "./calls.ts";
import { openLine, type UltravoxOptions } from "./http-client.ts";
import { knowledgeOf } from "./knowledge.ts";
import { telephonyOf } from "./telephony.ts";
import { toolsOf } from "./tools.ts";
import { voicesOf } from "./voices.ts";

export type { UltravoxOptions } from "./http-client.ts";

/**
 * The Ultravox Realtime API (docs.ultravox.ai/api-reference). It has no idempotency keys: see `repeat` of each verb.
 */
export function ultravox(options: UltravoxOptions): Ultravox {
  const line = openLine(options);
  return {
    ...agentsOf(line),
    ...callsOf(line, { sipTrunk: options.sipTrunk, publicUrl: options.publicUrl }),
    ...voicesOf(line),
    ...toolsOf(line),
    ...knowledgeOf(line),
    ...telephonyOf(line),
    ...accountsOf(line, options),
  };
}
