import type { Ultravox } from "../../routers/providers/ultravox.ts";
import { accountsOf } from "./ultravox/accounts.ts";
import { agentsOf } from "./ultravox/agents.ts";
import { callsOf } from "./ultravox/calls.ts";
import { knowledgeOf } from "./ultravox/knowledge.ts";
import { openLine, type UltravoxOptions } from "./ultravox/line.ts";
import { telephonyOf } from "./ultravox/telephony.ts";
import { toolsOf } from "./ultravox/tools.ts";
import { voicesOf } from "./ultravox/voices.ts";

export type { UltravoxOptions } from "./ultravox/line.ts";

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
