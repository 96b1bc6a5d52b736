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
import { bringForward } from "./ingress.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { Task } from "./runtime/task.ts";

const providerDeadlineMs = 20_000;
const deadline = () => ({ signal: AbortSignal.timeout(providerDeadlineMs) });

/** Asks the provider how a call stands, and brings it there. */
export const refresh: Task<"calls.refresh"> = {
  async run({ callId, refundReported }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (!call.providerCallId) return; // nobody accepted it yet: its intent is looked after elsewhere
    const seen = await ctx.providers.ultravox.getCall(call.providerAccountId, call.providerCallId, deadline());
    if (seen) await bringForward(ctx, call.clientId, callId, seen, "lookup");
    await ctx.asClient(async (tx) => {
      const after = await lockCall(tx, callId);
      if (!seen && refundReported) return refundVanished(tx, after);
      if (!seen && (await closeVanished(tx, after))) return;
      if (after.checkAt !== null && after.status === call.status) await postponeCheck(tx, after);
    });
  },

  async onExhausted({ callId, refundReported }, ctx) {
    await ctx.asClient(async (tx) => {
      // Nobody else remembers a refund; an unbilled call the sweep finds again.
      if (refundReported) return enqueueRefundCheck(tx, callId, { delaySeconds: 3600 });
      const call = await lockCall(tx, callId);
      if (!(await closeUnbillable(tx, call, ctx.requestId))) await postponeCheck(tx, call);
    });
  },
};

/** Reads the messages of an ended call. Should the provider not give them in time, the call's own word stands. */
export const finalise: Task<"calls.finalise"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.status !== "ended" || call.outcomeFinal || !call.providerCallId) return;
    const messages = await ctx.providers.ultravox.listMessages(call.providerAccountId, call.providerCallId, deadline());
    if (messages.length === 0 && talked(call))
      throw new Error("Somebody talked, and the provider has no messages yet.");
    ctx.fence.check();
    await ctx.asClient((tx) => finaliseCall(tx, callId, messages));
  },

  async onExhausted({ callId }, ctx) {
    await ctx.asClient((tx) => finaliseCall(tx, callId, null));
  },
};

/** Long enough for a word: then an empty list of messages is one that is not filled yet. */
const talked = ({ joinedAt, endedAt }: { joinedAt: Date | null; endedAt: Date | null }) =>
  joinedAt !== null && endedAt !== null && endedAt.getTime() - joinedAt.getTime() > 5_000;

/**
 * Finds calls about which nothing was heard when something should have been. What it takes goes to the end of the line,
 * beyond the schedule of its job: those of an account that opens no more keep nobody else waiting.
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

/** Ends a call that nobody here knows as his. One that rings still cannot be ended: it is tried again. */
export const hangUpOrphan: Task<"calls.hangUpOrphan"> = {
  async run({ providerAccountId, providerCallId }, ctx) {
    const { ultravox } = ctx.providers;
    if ((await ultravox.hangUp(providerAccountId, providerCallId, deadline())) === "done") return;
    const seen = await ultravox.getCall(providerAccountId, providerCallId, deadline());
    if (seen && !seen.endedAt) throw new Error("It rings still, and cannot be ended before somebody answers.");
  },
};

/**
 * Ends a call of ours that is under way; one that is over is left as it is.
 */
export const hangUp: Task<"calls.hangUp"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.status !== "active" || !call.providerCallId) return;
    const { providerAccountId, providerCallId, clientId } = call;
    const { ultravox } = ctx.providers;
    if ((await ultravox.hangUp(providerAccountId, providerCallId, deadline())) === "done") return;
    const seen = await ultravox.getCall(providerAccountId, providerCallId, deadline());
    if (seen) await bringForward(ctx, clientId, callId, seen, "lookup");
    if (seen?.joinedAt && !seen.endedAt) throw new Error("It goes on, and the provider would not end it yet.");
  },
};

/** What was told of an erased call goes too, wherever it stands. */
export const eraseCopies: Task<"calls.eraseCopies"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    if (call.erasedAt === null && call.transcriptStatus !== "erased") return;
    const ring = await ctx.providers.vault.keys(call.clientId, "idempotency");
    ctx.fence.check();
    await ctx.asClient((tx) => eraseOwnCopies(tx, call, ring));
    await ctx.asSystem((tx) => eraseSystemCopies(tx, call));
  },
};

/** What is erased here goes at the provider too, as soon as nothing more will have to be asked there. */
export const eraseUpstream: Task<"calls.eraseUpstream"> = {
  async run({ callId }, ctx) {
    const call = await ctx.asClient((tx) => lockCall(tx, callId));
    // By the client's own wish, or because its agent keeps it no longer.
    const isErased = call.erasedAt !== null || call.transcriptStatus === "erased" || call.recordingStatus === "erased";
    if (!isErased || !call.providerCallId) return;
    const { providerAccountId, providerCallId } = call;
    const erased = await ctx.providers.ultravox.deleteCall(providerAccountId, providerCallId, deadline());
    if (erased === "ongoing") throw new Error("The provider says that the call goes on.");
  },
};
