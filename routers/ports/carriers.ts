/** Why a leg of a call is over, in our words. */
export const legCauses = ["normal", "busy", "no_answer", "rejected", "invalid_number", "cancelled", "failed"] as const;
export type LegCause = (typeof legCauses)[number];

/** What a carrier says of one leg of a call. What it does not say is null. */
export type LegReport = {
  carrierLegId: string;
  carrierSessionId: string | null;
  /** Our call, where the carrier gives back what we gave it. */
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
  /** Of a leg that is over. */
  end: {
    cause: LegCause;
    hangupCause: string | null;
    hangupSource: string | null;
    sipHangupCause: string | null;
    durationSeconds: number | null;
  } | null;
  /** An exact decimal; the currency where the carrier names one. */
  cost: { amount: string; currency: string | null } | null;
};

/** A message of the carrier: what it calls it, what makes it one, and the leg that it is about, if it is about one. */
export type CarrierEvent = { type: string; key: string; leg: LegReport | null };

export type Telnyx = {
  /** Throws when this is no message of Telnyx. */
  readEvent(rawBody: Buffer): CarrierEvent;
};
