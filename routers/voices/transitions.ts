import type { voices } from "../../db/schema/voices.ts";

export type VoiceStatus = (typeof voices.$inferSelect)["status"];

/** The allowed transitions. `active` to `failed`: the provider no longer has the voice. */
const moves: Record<VoiceStatus, readonly VoiceStatus[]> = {
  pending: ["training", "failed", "deleted"],
  training: ["active", "failed", "deleted"],
  active: ["failed", "deleted"],
  failed: ["deleted"],
  deleted: [],
};

export const canMove = (from: VoiceStatus, to: VoiceStatus): boolean => moves[from].includes(to);

/** True while a workflow creates the voice. Credits may be held for it. */
export const isBeingMade = (status: VoiceStatus): boolean => status === "pending" || status === "training";
