import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Providers } from "../ports/index.ts";
import { type Deadline, isPassing, ProviderError } from "../ports/provider-error.ts";
import type { Failure, ProviderCommand } from "./provider-command.ts";
import { outsideTurn } from "./turn.ts";

/** The outcome of a provider command. `orphans`: further copies of the resource at the provider, beside the accepted one. */
export type Settlement<G> = { outcome: "accepted"; resource: G; orphans?: G[]; lookedUp?: true } | Failure;

/** What step 2 uses of a provider command. */
type Sent<A, G> = Pick<
  ProviderCommand<never, A, G, unknown>,
  "kind" | "execute" | "lookup" | "look" | "lookupRepeatsRequest"
>;
type Call<A> = { providers: Providers; accountId: string; request: A; deadline: Deadline; log: Logger };

const tries = 3;
const firstPauseMs = 250;
const longestPauseSeconds = 15;
/** The provider's clock can be behind ours. */
const clockSkewMs = 5 * 60_000;

/**
 * Step 2 of a provider command. null: the outcome is unknown. After a 503 the provider may have executed the request, so the
 * resource is looked up by our id before the request is repeated, and before it counts as not executed.
 */
export async function callProvider<A, G>(command: Sent<A, G>, call: Call<A>): Promise<Settlement<G> | null> {
  const since = new Date(Date.now() - clockSkewMs);
  const lookup: { lookedUp?: true } = {};
  for (let attempt = 1; ; attempt += 1) {
    const result = await attemptOnce(command, call);
    if (result === null) return null;
    if ("outcome" in result) return { ...result, ...lookup }; // an earlier attempt may have been executed as well
    if (result.kind !== "unknown") return { ...failureOf(result), ...lookup };
    if (result.status !== 503) return null;
    const canRetry = await pauseAfter(result, attempt, call.deadline);
    const found = await lookUp(command, call, since);
    if (!found) return null;
    const [resource, ...orphans] = found;
    if (resource !== undefined) return { outcome: "accepted", resource, orphans, ...lookup };
    lookup.lookedUp = true;
    if (!canRetry) return { ...failureOf(result), outcome: "unavailable", ...lookup };
  }
}

/** The settlement, or the reason why there is none yet. null: our adapter failed (a bug), so the outcome is unknown. */
async function attemptOnce<A, G>(
  command: Sent<A, G>,
  { providers, accountId, request, deadline, log }: Call<A>,
): Promise<Settlement<G> | ProviderError | null> {
  try {
    return { outcome: "accepted", resource: await command.execute(providers, accountId, request, deadline) };
  } catch (error) {
    if (error instanceof ProviderError) return error;
    log.error({ err: error, command: command.kind }, "provider adapter failed; the outcome is unknown");
    return null;
  }
}

/** All copies of the resource at the provider; null if the lookup failed. */
async function lookUp<A, G>(
  command: Sent<A, G>,
  { providers, accountId, request, deadline, log }: Call<A>,
  since: Date,
): Promise<G[] | null> {
  try {
    if (command.lookupRepeatsRequest) return (await command.look?.(providers, accountId, request, deadline)) ?? null;
    return await command.lookup(providers, accountId, request, since, deadline);
  } catch (error) {
    log.warn({ err: error, command: command.kind }, "provider lookup failed; the outcome is unknown");
    return null;
  }
}

/** Waits before the next attempt. False, after a short wait for the provider's lists to catch up: no attempts are left. */
async function pauseAfter(error: ProviderError, attempt: number, { signal }: Deadline): Promise<boolean> {
  const seconds = error.retryAfterSeconds ?? 0;
  const canRetry = attempt < tries && seconds <= longestPauseSeconds;
  const jitterMs = firstPauseMs * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
  const ms = (canRetry ? seconds * 1000 : 0) + jitterMs;
  return outsideTurn(() => sleep(ms, canRetry, { signal }).catch(() => false));
}

function failureOf(error: ProviderError): Failure {
  const { kind, message, retryAfterSeconds } = error;
  return {
    outcome: kind === "refused" ? "refused" : "unavailable",
    message,
    passing: isPassing(error) || undefined,
    retryAfterSeconds,
  };
}
