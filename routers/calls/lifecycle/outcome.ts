import { ownTools } from "../../agents/references.ts";
import type { LegCause } from "../../ports/carriers.ts";
import { endReasons, type ProviderCall, type ProviderMessage } from "../../ports/ultravox.ts";

export type Outcome =
  | "completed"
  | "no_answer"
  | "busy"
  | "rejected"
  | "voicemail"
  | "invalid_number"
  | "failed"
  | "cancelled";

const bySipReason = {
  busy: "busy",
  rejected: "rejected",
  invalid_number: "invalid_number",
  timeout: "no_answer",
  unavailable: "no_answer",
  cancelled: "cancelled",
  normal: "no_answer",
  unknown: "failed",
} as const satisfies Record<NonNullable<ProviderCall["sipReason"]>, Outcome>;

/** What became of an ended call, as far as the call itself tells. */
export function provisionalOutcome(call: ProviderCall): Outcome {
  if (call.endReason === "connection_error" || call.endReason === "system_error") return "failed";
  if (call.joinedAt) return "completed";
  return call.sipReason ? bySipReason[call.sipReason] : "no_answer";
}

/** From answer to end, in whole seconds; of a call that nobody answered, none. */
export function talkedSeconds({ joinedAt, endedAt }: Pick<ProviderCall, "joinedAt" | "endedAt">): number {
  if (!joinedAt || !endedAt) return 0;
  return Math.max(0, Math.round((endedAt.getTime() - joinedAt.getTime()) / 1000));
}

/** What a leg's end says more exactly than `nobody joined`; the others are what that means. */
const byLegCause: Partial<Record<LegCause, Outcome>> = {
  busy: "busy",
  rejected: "rejected",
  invalid_number: "invalid_number",
  failed: "failed",
};

/** Of a call that nobody answered, the carrier knows why. */
export const refinedOutcome = (outcome: Outcome, cause: LegCause | null): Outcome =>
  outcome === "no_answer" && cause !== null ? (byLegCause[cause] ?? outcome) : outcome;

/** A voicemail shows only in the messages: the agent used its tool for it. */
export function finalOutcome(provisional: Outcome, messages: readonly ProviderMessage[]): Outcome {
  return provisional === "completed" && used(messages, ownTools.voicemail) ? "voicemail" : provisional;
}

/** Did a conversation take place, or was a message left? Otherwise nobody was reached. */
export const reached = (outcome: Outcome) => outcome === "completed" || outcome === "voicemail";

type Answered = Pick<ProviderCall, "joinedAt" | "endedAt">;

/**
 * What became of a call once its messages have been read; null: they could not be, and its own word stands. An agent that is
 * to hang up on machines uses `hangUpTool` for it, and leaves no message. A call that was over at once, without a word, was
 * no conversation.
 */
export function conclusionOf(
  provisional: Outcome,
  call: Answered,
  messages: readonly ProviderMessage[] | null,
  hangUpTool: string | null,
): { outcome: Outcome; reached: boolean } {
  const outcome = finalOutcome(provisional, messages ?? []);
  if (outcome !== "completed") return { outcome, reached: reached(outcome) };
  if (hangUpTool !== null && used(messages ?? [], hangUpTool)) return { outcome: "voicemail", reached: false };
  const isConversation = talkedSeconds(call) > 0 || (messages ?? []).some(isSpoken);
  return { outcome: isConversation ? "completed" : "no_answer", reached: isConversation };
}

const used = (messages: readonly ProviderMessage[], tool: string) =>
  messages.some(({ role, toolName }) => role === "tool_call" && toolName === tool);

const isSpoken = ({ role, text }: ProviderMessage) => (role === "user" || role === "agent") && text.trim() !== "";

/** A reason that we do not know is kept as the provider said it, and is `other` to the world. */
export const shownEndReason = (kept: string | null): string | null =>
  kept === null || (endReasons as readonly string[]).includes(kept) ? kept : "other";
