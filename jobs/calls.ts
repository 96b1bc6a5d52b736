import { sql } from "drizzle-orm";
import { eraseOwnCopies, eraseSystemCopies } from "../routers/calls/artifacts/erase-copies.ts";
import { closeUnbillable } from "../routers/calls/lifecycle/close-unbillable.ts";
import {
  closeVanished,
  enqueueRefundCheck,
  finaliseCall,
  lockCall,
  postponeCheck,
  refundVanished,
} from "../routers/calls/service.ts";
import { bringForward } from "./ingress-apply.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { Task } from "./runtime/task.ts";

const providerDeadlineMs = 20_000;
const deadline = () => ({ signal: AbortSignal.timeout(providerDeadlineMs) });

/** Reads the call from the provider, and applies its status. */
export const refresh: Task<"calls.refresh"> = {
  async run({ callId, refundReported }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (!call.providerCallId) return; // not accepted yet: the recovery of its intent takes care of it
    const seen = await ctx.providers.ultravox.getCall(call.providerAccountId, call.providerCallId, deadline());
    if (seen) await bringForward(ctx, call.clientId, callId, seen);
    await ctx.asClient(async (tx) => {
      const after = await lockCall(tx, callId);
      if (!seen && refundReported) return refundVanished(tx, after);
      if (!seen && (await closeVanished(tx, after))) return;
      if (after.checkAt !== null && after.status === call.status) await postponeCheck(tx, after);
    });
  },

  async onExhausted({ callId, refundReported }, ctx) {
    await ctx.asClient(async (tx) => {
      // This job alone knows of the refund. The sweep finds an unbilled call again.
      if (refundReported) return enqueueRefundCheck(tx, callId, { delaySeconds: 3600 });
      const call = await lockCall(tx, callId);
      if (!(await closeUnbillable(tx, call, ctx.requestId))) await postponeCheck(tx, call);
    });
  },
};

/** Reads the messages of an ended call. If the provider has none by the last attempt, the call's own outcome is final. */
export const finalise: Task<"calls.finalise"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.status !== "ended" || call.outcomeFinal || !call.providerCallId) return;
    const messages = await ctx.providers.ultravox.listMessages(call.providerAccountId, call.providerCallId, deadline());
    if (messages.length === 0 && isLongEnoughToSpeak(call))
      throw new Error("The caller isLongEnoughToSpeak, and the provider has no messages yet.");
    ctx.fence.check();
    await ctx.asClient((tx) => finaliseCall(tx, callId, messages));
  },

  async onExhausted({ callId }, ctx) {
    await ctx.asClient((tx) => finaliseCall(tx, callId, null));
  },
};

/** Long enough for a word: then an empty list of messages is incomplete. */
const isLongEnoughToSpeak = ({ joinedAt, endedAt }: { joinedAt: Date | null; endedAt: Date | null }) =>
  joinedAt !== null && endedAt !== null && endedAt.getTime() - joinedAt.getTime() > 5_000;

/**
 * Finds calls whose expected event did not arrive. A call it takes goes to the end of the queue, beyond the schedule of
 * its job: calls of an account whose key no longer works do not delay the others.
 */
export const sweep: Task<"calls.sweep"> = {
  async run(_payload, ctx) {
    await sweepInto(ctx, "calls.sweep", "calls.refresh", async (tx) => {
      const due = await tx.execute<{ clientId: string; callId: string }>(sql`
        update calls c set check_at = clock_timestamp() + interval '20 minutes'
        from (select c.client_id, c.id from ${roundRobin(
          sql`select client_id, id, check_at as due_at from calls where check_at <= statement_timestamp() order by check_at`,
          500,
        )} first join calls c on c.client_id = first.client_id and c.id = first.id
          where c.check_at <= statement_timestamp() for no key update of c skip locked) due
        where c.client_id = due.client_id and c.id = due.id
        returning c.client_id as "clientId", c.id as "callId"`);
      return due.map(({ clientId, callId }) => ({ clientId, payload: { callId }, key: callId }));
    });
  },
};

/** Ends a call that belongs to no call of ours. A call that still rings cannot be ended: the job retries. */
export const hangUpOrphan: Task<"calls.hangUpOrphan"> = {
  async run({ providerAccountId, providerCallId }, ctx) {
    const { ultravox } = ctx.providers;
    if ((await ultravox.hangUp(providerAccountId, providerCallId, deadline())) === "done") return;
    const seen = await ultravox.getCall(providerAccountId, providerCallId, deadline());
    if (seen && !seen.endedAt) throw new Error("The call still rings, and cannot be ended before it is answered.");
  },
};

/** Ends an active call. */
export const hangUp: Task<"calls.hangUp"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.status !== "active" || !call.providerCallId) return;
    const { providerAccountId, providerCallId, clientId } = call;
    const { ultravox } = ctx.providers;
    if ((await ultravox.hangUp(providerAccountId, providerCallId, deadline())) === "done") return;
    const seen = await ultravox.getCall(providerAccountId, providerCallId, deadline());
    if (seen) await bringForward(ctx, clientId, callId, seen);
    if (seen?.joinedAt && !seen.endedAt) throw new Error("The call is still active. The provider did not end it yet.");
  },
};

/** Erases the copies of a call: in stored responses, events, deliveries and provider messages. */
export const eraseCopies: Task<"calls.eraseCopies"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.erasedAt === null && call.transcriptStatus !== "erased") return;
    const cipher = await ctx.providers.vault.keys(call.clientId, "idempotency");
    ctx.fence.check();
    await ctx.asClient((tx) => eraseOwnCopies(tx, call, cipher));
    await ctx.asSystem((tx) => eraseSystemCopies(tx, call));
  },
};

/** Erases the call at the provider, as soon as no more requests about it are necessary. */
export const eraseUpstream: Task<"calls.eraseUpstream"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    // Erased on request of the client, or because the agent's retention has ended.
    const isErased = call.erasedAt !== null || call.transcriptStatus === "erased" || call.recordingStatus === "erased";
    if (!isErased || !call.providerCallId) return;
    const { providerAccountId, providerCallId } = call;
    const erased = await ctx.providers.ultravox.deleteCall(providerAccountId, providerCallId, deadline());
    if (erased === "ongoing") throw new Error("The provider reports that the call is still active.");
  },
};
