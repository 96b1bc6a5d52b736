/** The pause before each attempt; the first starts immediately. After the last one fails, the delivery is dead. */
export const attemptAfterSeconds = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400] as const;

type Circumstances = {
  /** The receiver's `Retry-After`. */
  retryAfterSeconds: number | null;
  /** From 0 to 1. */
  random: number;
};

/**
 * Seconds until the next attempt after `made` attempts have failed; null after the tenth.
 * `Retry-After` can extend the schedule's pause to twice its length, or to a minute if that is more; it never shortens it.
 * Jitter adds up to a fifth, so an attempt never starts early.
 */
export function nextAttemptInSeconds(made: number, { retryAfterSeconds, random }: Circumstances): number | null {
  const pause = attemptAfterSeconds[made];
  if (pause === undefined) return null;
  const requested = Math.min(retryAfterSeconds ?? 0, Math.max(2 * pause, 60));
  return Math.max(pause, requested) * (1 + 0.2 * random);
}
