import type { LegCause } from "../providers/carriers.ts";
import { endReasons, type ProviderCall, type ProviderMessage } from "../providers/ultravox.ts";

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
export function finalOutcome(provisional: Outcome, messages: ProviderMessage[]): Outcome {
  const left = messages.some(({ role, toolName }) => role === "tool_call" && toolName === "leaveVoicemail");
  return provisional === "completed" && left ? "voicemail" : provisional;
}

/** Did a conversation take place, or was a message left? Otherwise nobody was reached. */
export const reached = (outcome: Outcome) => outcome === "completed" || outcome === "voicemail";

/** A reason that we do not know is kept as the provider said it, and is `other` to the world. */
export const shownEndReason = (kept: string | null): string | null =>
  kept === null || (endReasons as readonly string[]).includes(kept) ? kept : "other";
