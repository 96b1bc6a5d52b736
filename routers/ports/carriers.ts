/** Our own values for why a leg of a call ended. */
export const legCauses = ["normal", "busy", "no_answer", "rejected", "invalid_number", "cancelled", "failed"] as const;
export type LegCause = (typeof legCauses)[number];

/** A carrier's report on one leg of a call. Values that it lacks are null. */
export type LegReport = {
  carrierLegId: string;
  carrierSessionId: string | null;
  /** Our call id, if the carrier returns it. */
  callId: string | null;
  direction: "incoming" | "outgoing" | null;
  from: string | null;
  to: string | null;
  status: "initiated" | "answered" | "ended" | null;
  /** By the carrier's clock. */
  occurredAt: Date | null;
  startedAt: Date | null;
  answeredAt: Date | null;
  endedAt: Date | null;
  /** Set once the leg has ended. */
  end: {
    cause: LegCause;
    hangupCause: string | null;
    hangupSource: string | null;
    sipHangupCause: string | null;
    durationSeconds: number | null;
  } | null;
  /** `amount` is an exact decimal. */
  cost: { amount: string; currency: string | null } | null;
};

/** A carrier's webhook: its own event type, the deduplication key, and the leg that it is about, if any. */
export type CarrierEvent = { type: string; key: string; leg: LegReport | null };

export type Telnyx = {
  /** Throws if this is not a Telnyx webhook. */
  readEvent(rawBody: Buffer): CarrierEvent;
};
