/** The most deliveries in flight (queued or being sent). Only due deliveries take slots; waiting ones do not. */
export const slotLimits = {
  perEndpoint: 10,
  /** For an endpoint after `failingFrom` consecutive failures: its receiver may hang, which occupies a worker for long. */
  perFailing: 2,
  failingFrom: 5,
  perClient: 100,
} as const;

/**
 * How clients share the slots of all workers. A client may hold as many slots as are free, and a quarter of all at most.
 * Slow endpoints share half of the slots by the same rule. The last tenth is reserved for new events of clients that hold
 * no slot; a backlog never gets it.
 */
export const slotSharing = {
  clientsPart: 4,
  slowPart: 2,
  reservedPart: 10,
  /** An endpoint counts as slow for `slowForSeconds` after a response that took this long. */
  slowFromMs: 5_000,
  slowForSeconds: 300,
  /** Used while no worker has reported its slots. */
  defaultSlots: 400,
  /** A worker without a heartbeat for this long does not count. */
  silentSeconds: 30,
} as const;
