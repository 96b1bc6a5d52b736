/** The limits of the product in one list: requests that one principal may make in a window, per class of door. */
export const limits = {
  read: { requests: 6000, windowSeconds: 60 },
  write: { requests: 1200, windowSeconds: 60 },
  dial: { requests: 600, windowSeconds: 60 },
} as const satisfies Record<string, { requests: number; windowSeconds: number }>;

export type LimitClass = keyof typeof limits;

/** What all keys and members of one client may do together: so many times the limit of one of them. */
export const clientFactor = 3;

/** A client's API keys that are neither revoked nor expired. */
export const activeKeysPerClient = 100;
