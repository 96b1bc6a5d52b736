import { enqueue, enqueueFor } from "../db/queue.ts";
import { hangUpStray, placeCall } from "../routers/calls/place.ts";
import { applyCall, contradictsBill, lockCall } from "../routers/calls/service.ts";
import { markReceived, ownerOfCall, readReceived } from "../routers/ingress/service.ts";
import type { AnyOutbound } from "../routers/intents/kinds.ts";
import { openIntentOf, settle } from "../routers/intents/service.ts";
import type { ProviderCall } from "../routers/providers.ts";
import type { JobContext, Task } from "./task.ts";

/** Applies what a provider told us, whatever the order and however often: the call only ever moves forward. */
export const apply: Task<"ingress.apply"> = {
  async run({ ingressId, receivedAt }, ctx) {
    const row = await ctx.asHouse((tx) => readReceived(tx, ingressId, receivedAt));
    if (row?.state !== "received") return;
    const mark = (mark: Parameters<typeof markReceived>[3]) =>
      ctx.asHouse((tx) => markReceived(tx, row, receivedAt, mark));

    const event = readOrNull(() => ctx.providers.ultravox.readEvent(row.body));
    if (!event) return mark({ state: "failed", note: "The body is not an event that we know." });
    const owner = await ctx.asHouse((tx) => ownerOfCall(tx, row.providerAccountId, event.call));
    if (!owner) return mark({ state: "ignored", note: "No call of this provider account." });
    const { clientId, callId } = owner;

    if (row.stale) {
      await ctx.asHouse((tx) => enqueueFor(tx, clientId, "calls.refresh", { callId }, { key: callId }));
      return mark({
        state: "ignored",
        clientId,
        subjectId: callId,
        note: "Outside the time window: the provider is asked instead.",
      });
    }
    await bringForward(ctx, clientId, callId, event.call, "told");
    await mark({ state: "applied", clientId, subjectId: callId });
  },

  async gaveUp({ ingressId, receivedAt }, ctx, error) {
    const row = await ctx.asHouse((tx) => readReceived(tx, ingressId, receivedAt));
    if (row)
      await ctx.asHouse((tx) =>
        markReceived(tx, row, receivedAt, { state: "failed", note: error.message.slice(0, 500) }),
      );
  },
};

/**
 * An event may come before the request that placed the call has heard its answer: then it settles the intent itself.
 * `told`: by an event, which may be older than what we know; `asked`: it is so at this moment.
 */
export async function bringForward(
  ctx: JobContext,
  clientId: string,
  callId: string,
  seen: ProviderCall,
  how: "told" | "asked",
) {
  const ring = await ctx.providers.vault.keys(clientId, "idempotency");
  ctx.fence.check();
  await ctx.db.asClient({ clientId, requestId: ctx.requestId }, async (tx) => {
    const intent = await openIntentOf(tx, callId);
    if (intent) {
      const settlement = { outcome: "accepted", got: seen as never } as const;
      await settle(tx, placeCall as unknown as AnyOutbound, intent.id, settlement, ring);
      return;
    }
    const call = await lockCall(tx, callId);
    if (call.providerCallId !== seen.providerCallId) return hangUpStray(tx, callId, call.providerAccountId, seen);
    if (how === "told" && contradictsBill(call, seen)) return enqueue(tx, "calls.refresh", { callId }, { key: callId });
    await applyCall(tx, call, seen);
  });
}

function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
