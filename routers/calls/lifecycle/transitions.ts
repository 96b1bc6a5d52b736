export type CallStatus = "queued" | "ringing" | "active" | "ended" | "failed" | "unknown";
export type CallMove = "accept" | "markUnknown" | "join" | "end" | "fail";

/** `fail`: the provider never accepted the call. `markUnknown`: it is not known yet whether it did. */
const moves: Record<CallStatus, Partial<Record<CallMove, CallStatus>>> = {
  queued: { accept: "ringing", markUnknown: "unknown", fail: "failed" },
  unknown: { accept: "ringing", fail: "failed" },
  ringing: { join: "active", end: "ended" },
  active: { end: "ended" },
  ended: {},
  failed: {},
};

/** The status after the move; null if the move is not allowed. */
export const after = (status: CallStatus, move: CallMove): CallStatus | null => moves[status][move] ?? null;
