export type CallStatus = "queued" | "ringing" | "active" | "ended" | "failed" | "unknown";
export type CallMove = "accept" | "lose" | "join" | "end" | "fail";

/** `fail`: the provider never accepted it. `lose`: nobody knows yet whether it did. */
const moves: Record<CallStatus, Partial<Record<CallMove, CallStatus>>> = {
  queued: { accept: "ringing", lose: "unknown", fail: "failed" },
  unknown: { accept: "ringing", fail: "failed" },
  ringing: { join: "active", end: "ended" },
  active: { end: "ended" },
  ended: {},
  failed: {},
};

/** Where the move leads, or null when it is not allowed from here. */
export const after = (status: CallStatus, move: CallMove): CallStatus | null => moves[status][move] ?? null;
