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

/** The outcome of an ended call from the call itself, before its messages are read. */
export function provisionalOutcome(call: ProviderCall): Outcome {
  if (call.endReason === "connection_error" || call.endReason === "system_error") return "failed";
  if (call.joinedAt) return "completed";
  return call.sipReason ? bySipReason[call.sipReason] : "no_answer";
}

/** From answer to end, in whole seconds. 0 for an unanswered call. */
export function talkedSeconds({ joinedAt, endedAt }: Pick<ProviderCall, "joinedAt" | "endedAt">): number {
  if (!joinedAt || !endedAt) return 0;
  return Math.max(0, Math.round((endedAt.getTime() - joinedAt.getTime()) / 1000));
}

/** Leg causes that are more exact than `no_answer`. The other causes mean the same as `no_answer`. */
const byLegCause: Partial<Record<LegCause, Outcome>> = {
  busy: "busy",
  rejected: "rejected",
  invalid_number: "invalid_number",
  failed: "failed",
};

/** For an unanswered call, the carrier reports why. */
export const refinedOutcome = (outcome: Outcome, cause: LegCause | null): Outcome =>
  outcome === "no_answer" && cause !== null ? (byLegCause[cause] ?? outcome) : outcome;

/** Only the messages show a voicemail: the agent used its voicemail tool. */
export function finalOutcome(provisional: Outcome, messages: readonly ProviderMessage[]): Outcome {
  return provisional === "completed" && used(messages, ownTools.voicemail) ? "voicemail" : provisional;
}

/** Whether a conversation took place or a voicemail was left. */
export const reached = (outcome: Outcome) => outcome === "completed" || outcome === "voicemail";

type Answered = Pick<ProviderCall, "joinedAt" | "endedAt">;

/**
 * The final outcome of a call from its messages. `messages` is null if they could not be read; then the provisional outcome
 * counts. An agent that hangs up on answering machines uses `hangUpTool` and leaves no message. A call that ended within a
 * second and without a spoken word was no conversation.
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

/** An unknown reason is stored as received, and shown as `other`. */
export const shownEndReason = (stored: string | null): string | null =>
  stored === null || (endReasons as readonly string[]).includes(stored) ? stored : "other";
