import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhenResult, isBrokenCircuitError } from "cockatiel";
import type { Outcome } from "./outcome.ts";

/** Stops requests to a provider that keeps failing. One per account: a problem of one account does not affect the others. */
export type Breaker = {
  /** Does the work, or returns null when it did not start. */
  run(work: () => Promise<Outcome>): Promise<Outcome | null>;
  retryAfterSeconds(): number;
};

export function openBreaker(options: { failures?: number; halfOpenAfterMs?: number } = {}): Breaker {
  const halfOpenAfter = options.halfOpenAfterMs ?? 10_000;
  let halfOpenAt = 0; // monotonic
  const createPolicy = () => {
    const breaker = new ConsecutiveBreaker(options.failures ?? 10);
    const policy = circuitBreaker(handleWhenResult(isDown), { halfOpenAfter, breaker });
    policy.onBreak(() => {
      halfOpenAt = performance.now() + halfOpenAfter;
    });
    return policy;
  };
  let policy = createPolicy();
  return {
    async run(work) {
      // While one request probes, cockatiel would hold the others back, past their deadlines and into a late send.
      if (policy.state === CircuitState.HalfOpen) return null;
      try {
        return await policy.execute(work);
      } catch (error) {
        if (!isBrokenCircuitError(error)) throw error;
        // cockatiel reads the system clock: if that is set back, the breaker would stay open for as long.
        if (performance.now() > halfOpenAt + 1_000) policy = createPolicy();
        return null;
      }
    },
    retryAfterSeconds: () => Math.max(1, Math.ceil((halfOpenAt - performance.now()) / 1000)),
  };
}

/** A refusal and a rate limit show that the provider works. */
function isDown(outcome: unknown): boolean {
  return typeof outcome === "object" && outcome !== null && "isDown" in outcome && outcome.isDown === true;
}
