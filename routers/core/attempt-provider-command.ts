import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Providers } from "../ports/index.ts";
import { type Deadline, isPassing, ProviderError } from "../ports/provider-error.ts";
import type { Failure, ProviderCommand } from "./provider-command.ts";

/** What an outbound came to. `strays`: more of the same that the provider has, beside the one that is taken. */
export type Settlement<G> = { outcome: "accepted"; got: G; strays?: G[]; lookedUp?: true } | Failure;

type Call<A> = { providers: Providers; accountId: string; asked: A; deadline: Deadline; log: Logger };

const tries = 3;
const firstPauseMs = 250;
const longestPauseSeconds = 15;
/** The provider's clock may be behind ours. */
const clockSkewMs = 5 * 60_000;

/**
 * Step 2 of an outbound. null: it may have happened, and nobody can tell yet. After a 503 the provider may have done what it
 * was asked, so it is looked up by our id before the request is repeated, and before it counts as not done.
 */
export async function callProvider<A, G>(
  what: ProviderCommand<never, A, G, unknown>,
  call: Call<A>,
): Promise<Settlement<G> | null> {
  const since = new Date(Date.now() - clockSkewMs);
  const doubt: { lookedUp?: true } = {};
  for (let attempt = 1; ; attempt += 1) {
    const error = await attemptOnce(what, call);
    if (error === null) return null;
    if ("outcome" in error) return { ...error, ...doubt }; // an earlier attempt may have done it as well
    if (error.kind !== "unknown") return { ...failureOf(error), ...doubt };
    if (error.status !== 503) return null;
    const again = await pauseAfter(error, attempt, call.deadline);
    const found = await lookUp(what, call, since);
    if (!found) return null;
    const [got, ...strays] = found;
    if (got !== undefined) return { outcome: "accepted", got, strays, ...doubt };
    doubt.lookedUp = true;
    if (!again) return { ...failureOf(error), outcome: "unavailable", ...doubt };
  }
}

/** The settlement, or why there is none yet. An error that is no provider's is a bug of ours: nobody knows what happened. */
async function attemptOnce<A, G>(
  what: ProviderCommand<never, A, G, unknown>,
  { providers, accountId, asked, deadline, log }: Call<A>,
): Promise<Settlement<G> | ProviderError | null> {
  try {
    return { outcome: "accepted", got: await what.execute(providers, accountId, asked, deadline) };
  } catch (error) {
    if (error instanceof ProviderError) return error;
    log.error({ err: error }, `${what.kind}: the provider's adapter failed`);
    return null;
  }
}

/** What the provider has of it; null when that cannot be told. */
async function lookUp<A, G>(
  what: ProviderCommand<never, A, G, unknown>,
  { providers, accountId, asked, deadline, log }: Call<A>,
  since: Date,
): Promise<G[] | null> {
  try {
    if (what.lookupRepeatsRequest) return (await what.look?.(providers, accountId, asked, deadline)) ?? null;
    return await what.lookup(providers, accountId, asked, since, deadline);
  } catch (error) {
    log.warn({ err: error }, `${what.kind}: the provider could not be searched; the outcome is unknown for now`);
    return null;
  }
}

/** Waits before the next attempt. False, after a short wait for the provider's own lists, when there is to be none. */
async function pauseAfter(error: ProviderError, attempt: number, { signal }: Deadline): Promise<boolean> {
  const seconds = error.retryAfterSeconds ?? 0;
  const again = attempt < tries && seconds <= longestPauseSeconds;
  const jitterMs = firstPauseMs * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
  const ms = (again ? seconds * 1000 : 0) + jitterMs;
  return sleep(ms, again, { signal }).catch(() => false);
}

function failureOf(error: ProviderError): Failure {
  const { kind, message, retryAfterSeconds } = error;
  return {
    outcome: kind === "refused" ? "refused" : "unavailable",
    message,
    ...(isPassing(error) ? { passing: true } : {}),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  };
}
