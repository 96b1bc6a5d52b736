/** All rate limits: the requests of one principal in a window, per class of endpoint. */
export const limits = {
  read: { requests: 6000, windowSeconds: 60 },
  write: { requests: 1200, windowSeconds: 60 },
  dial: { requests: 600, windowSeconds: 60 },
} as const satisfies Record<string, { requests: number; windowSeconds: number }>;

export type LimitClass = keyof typeof limits;

/** The limit of all API keys and members of a client together, as a multiple of the limit of one. */
export const clientFactor = 3;

/** The maximum number of API keys of a client that are neither revoked nor expired. */
export const activeKeysPerClient = 100;
