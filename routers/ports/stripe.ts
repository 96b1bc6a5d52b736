export type Stripe = {
  /** Throws when this is no event of Stripe. */
  readEvent(rawBody: Buffer): { id: string; type: string; apiVersion: string | null; livemode: boolean };
};
