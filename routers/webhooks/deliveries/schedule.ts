/** How long after the attempt before it each attempt follows; the first at once. After the last, the delivery is dead. */
export const attemptAfterSeconds = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400] as const;

type Circumstances = {
  /** What the receiver asked for. */
  retryAfterSeconds: number | null;
  /** From 0 to 1. */
  random: number;
};

/**
 * Seconds until the next attempt when `made` have failed; null after the tenth.
 * A receiver's Retry-After counts between the schedule's own pause and twice that pause, or a minute if that is more.
 * Jitter adds up to a fifth: never earlier than promised.
 */
export function nextAttemptInSeconds(made: number, { retryAfterSeconds, random }: Circumstances): number | null {
  const pause = attemptAfterSeconds[made];
  if (pause === undefined) return null;
  const asked = Math.min(retryAfterSeconds ?? 0, Math.max(2 * pause, 60));
  return Math.max(pause, asked) * (1 + 0.2 * random);
}
