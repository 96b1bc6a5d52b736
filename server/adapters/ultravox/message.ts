import { z } from "zod";
import type { ProviderMessage } from "../../../routers/ports/ultravox.ts";
import { translated } from "../shared/unknown-words.ts";
import { Seconds } from "./values.ts";

const roles = {
  MESSAGE_ROLE_USER: "user",
  MESSAGE_ROLE_AGENT: "agent",
  MESSAGE_ROLE_TOOL_CALL: "tool_call",
  MESSAGE_ROLE_TOOL_RESULT: "tool_result",
} as const satisfies Record<string, ProviderMessage["role"]>;

/** A message with an unknown role is part of the conversation, and has the role `other`. */
function roleOf(word: string): ProviderMessage["role"] | null {
  if (word === "" || word === "MESSAGE_ROLE_UNSPECIFIED") return null;
  return translated<ProviderMessage["role"]>(roles, word, "other", ["ultravox", "message.role"]);
}

const Timespan = z.looseObject({ start: Seconds.nullish(), end: Seconds.nullish() }).nullish();

/** null for a message without a role, which is no part of the conversation. */
export const Message = z
  .looseObject({
    role: z.string().nullish(),
    text: z.string().nullish(),
    toolName: z.string().nullish(),
    // An unreadable state must not lose the message.
    callState: z.record(z.string(), z.unknown()).nullish().catch(null),
    timespan: Timespan,
    wallClockTimespan: Timespan,
  })
  .transform((message): ProviderMessage | null => {
    const role = roleOf(message.role ?? "");
    const span = message.timespan ?? message.wallClockTimespan;
    if (role === null) return null;
    return {
      role,
      text: message.text ?? "",
      toolName: message.toolName || null,
      ...(message.callState ? { status: message.callState } : {}),
      startSeconds: span?.start ?? null,
      endSeconds: span?.end ?? null,
    };
  });
