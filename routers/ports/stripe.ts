export type Stripe = {
  /** Throws if this is not a Stripe event. */
  readEvent(rawBody: Buffer): { id: string; type: string; apiVersion: string | null; livemode: boolean };
};
