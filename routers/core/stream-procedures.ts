import type { Tx } from "../../db/client.ts";
import type { Deadline } from "../ports/provider-error.ts";
import { authorizeTenant, membershipChecks, parseInput, reauthorize } from "./authorize.ts";
import { fromProviderError } from "./call-provider.ts";
import { ApiError, toApiError } from "./errors.ts";
import type { Follower } from "./event-followers.ts";
import type { Chunks } from "./reply.ts";
import { bounded, Cut, inBase64, safeToAbandon, streamSeconds } from "./stream.ts";
import { accessible } from "./trpc.ts";

/**
 * Responds with a stream of the media type in `produces`. No transaction is open while bytes are sent: `ctx.page` runs one
 * short read transaction, which checks the API key again, so read a long list by keyset, page by page. `ctx.deadline` aborts
 * when the caller disconnects, or after half an hour. An error before the first chunk becomes a normal error response; a
 * later one breaks the connection. On /trpc it needs httpBatchStreamLink, as in `edge/client.ts`.
 */
export const stream = accessible("tenant").use(async (call) => {
  const { ctx, next, signal } = call;
  const { principal, session } = await authorizeTenant(call);
  await parseInput(call);
  if (ctx.transport === "trpc" && !ctx.takesStream) {
    throw new ApiError(
      "header_invalid",
      "This response is a stream. Send `trpc-accept: application/jsonl`, or use httpBatchStreamLink.",
    );
  }
  const checkMembership = membershipChecks(call, principal);
  const page = async <T>(work: (tx: Tx) => Promise<T>) => {
    await checkMembership();
    return ctx.db.asClient(session, work, { mode: "read" });
  };
  const timeout = AbortSignal.timeout(streamSeconds * 1000);
  const deadline: Deadline = { signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
  const close = ctx.streams.take(principal.id, principal.clientId);
  deadline.signal.addEventListener("abort", close, { once: true }); // in case the first chunk is never read
  const result = await next({ ctx: { principal, page, deadline } });
  if (!result.ok) {
    close();
    throw fromProviderError(result.error.cause) ?? result.error;
  }
  const output = result.data as Chunks;
  const chunks = bounded(output, deadline.signal, (error) => fromProviderError(error) ?? error, close);
  const data = { ...output, chunks: ctx.transport === "trpc" ? inBase64(chunks) : chunks };
  const streamed: typeof result = { ...result, data }; // typed, because the type of `result` carries the new context
  return streamed;
});

/**
 * A subscription to the client's events, by `ctx.follower`. No transaction is open while it waits. Each read checks the API
 * key again; a person's token, membership and scope are checked every few seconds. An expired token cuts the connection, so
 * that the client reconnects with a new one. Any other loss of access ends the subscription with its error.
 */
export const liveQuery = accessible("tenant").use(async (call) => {
  const { ctx, path, next } = call;
  const { principal, session } = await authorizeTenant(call);
  await parseInput(call);
  const check = async () => {
    const caller = await ctx.authenticate("fresh").catch((error: unknown) => {
      throw principal.kind === "user" && toApiError(error).errorCode === "unauthenticated"
        ? new Cut("token expired")
        : error;
    });
    await reauthorize(call, caller, principal);
  };
  const follower: Follower = {
    enter: () => ctx.live.enter(principal.id, principal.clientId),
    page: (work) => ctx.db.asClient(session, work, { mode: "read" }),
    check,
    key: { secret: ctx.signingSecret, clientId: principal.clientId, procedure: path, filters: {} },
    signal: call.signal ?? new AbortController().signal,
  };
  const result = await next({ ctx: { principal, follower } });
  if (!result.ok) return result;
  const streamed: typeof result = { ...result, data: safeToAbandon(result.data as AsyncIterable<unknown>) };
  return streamed;
});
