import type { voices } from "../../db/schema/voices.ts";

export type VoiceState = (typeof voices.$inferSelect)["status"];

/** Where a voice may go from where it is. `active` to `failed`: the provider does not have it any more. */
const moves: Record<VoiceState, readonly VoiceState[]> = {
  pending: ["training", "failed", "deleted"],
  training: ["active", "failed", "deleted"],
  active: ["failed", "deleted"],
  failed: ["deleted"],
  deleted: [],
};

export const canMove = (from: VoiceState, to: VoiceState): boolean => moves[from].includes(to);

/** Being made: a workflow is about it, and credits may be held for it. */
export const isBeingMade = (status: VoiceState): boolean => status === "pending" || status === "training";
