import { eq, sql } from "drizzle-orm";
import { enqueue } from "../db/queue.ts";
import { intents } from "../db/schema/agents.ts";
import { dbNow } from "../db/time.ts";
import type { Settlement } from "../routers/core/attempt-provider-command.ts";
import { cipherFor, type IntentRow, removeOrphans, settleIntent } from "../routers/core/intents.ts";
import type { AnyProviderCommand } from "../routers/core/provider-command.ts";
import { isPassing, ProviderError } from "../routers/ports/provider-error.ts";
import { providerCommandOf } from "./provider-commands.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";

const providerDeadlineMs = 20_000;
/** Between two lookups that find nothing: a provider's lists may lag behind. */
const secondLookupSeconds = 60;

/** Finds the outcome of a provider request, when the API request that made it could not. */
export const resolve: Task<"intents.resolve"> = {
  async run({ intentId }, ctx) {
    const intent = await readIntent(ctx, intentId);
    if (!intent) return;
    const command = providerCommandOf(intent.kind);
    if (intent.status === "settled") return removeLateArrivals(ctx, command, intent);
    const asked = await ctx.asClient((tx) => command.rebuildRequest(tx, intent.subjectId));
    const since = new Date(intent.createdAt.getTime() - 5 * 60_000); // their clock may be behind ours
    const deadline = { signal: AbortSignal.timeout(providerDeadlineMs) };
    const lookup = command.lookup(ctx.providers, intent.providerAccountId, asked, since, deadline);
    const found: never[] | ProviderError = await lookup.catch((error) => {
      if (!command.lookupRepeatsRequest || !(error instanceof ProviderError)) throw error;
      if (error.kind !== "refused" || isPassing(error)) throw error;
      return error;
    });

    const cipher = await cipherFor(ctx.providers.vault, intent.clientId, intent.idempotencyKey);
    ctx.fence.check();
    await ctx.asClient(async (tx) => {
      const close = (settlement: Settlement<never>) =>
        settleIntent(tx, command, { intentId, subjectId: intent.subjectId }, settlement, cipher);
      if (found instanceof ProviderError) return close({ outcome: "refused", message: found.message });
      const [taken, ...strays] = found;
      if (taken !== undefined) {
        await close({ outcome: "accepted", resource: taken, orphans: strays });
        return;
      }
      const lookedBefore = intent.absentAt !== null && intent.absences > 0;
      const [looked] = await tx.execute<{ apart: boolean }>(
        sql`select coalesce(clock_timestamp() - absent_at >= make_interval(secs => ${secondLookupSeconds}), false) as apart
            from ${intents} where id = ${intentId}`,
      );
      if (lookedBefore && looked?.apart) {
        return close({
          outcome: "absent",
          message: "The voice provider did not receive this request, or did not answer. Try again.",
        });
      }
      if (!lookedBefore) await noteAbsence(tx, intentId);
      await enqueue(tx, "intents.resolve", { intentId }, { delaySeconds: secondLookupSeconds + 1 });
    });
  },

  /** The intent holds credits, and a telephone may be ringing: it is never abandoned. The dead letter raises an alert. */
  async onExhausted({ intentId }, ctx) {
    if ((await readIntent(ctx, intentId)) === null) return;
    await ctx.asClient((tx) => enqueue(tx, "intents.resolve", { intentId }, { key: intentId, delaySeconds: 900 }));
  },
};

/** Recovers intents that lost their job. An intent it takes is not taken again for a quarter of an hour. */
export const sweep: Task<"intents.sweep"> = {
  async run(_payload, ctx) {
    const isLeft = sql`status = 'open' and deadline_at < statement_timestamp() - interval '15 minutes'`;
    await sweepInto(ctx, "intents.sweep", "intents.resolve", async (tx) => {
      const left = await tx.execute<{ clientId: string; intentId: string }>(sql`
        update intents i set deadline_at = clock_timestamp()
        from (select i.client_id, i.id from ${roundRobin(
          sql`select client_id, id, deadline_at as due_at from intents where ${isLeft} order by deadline_at`,
          200,
        )} first join intents i on i.client_id = first.client_id and i.id = first.id
          where ${isLeft} for no key update of i skip locked) due
        where i.client_id = due.client_id and i.id = due.id
        returning i.client_id as "clientId", i.id as "intentId"`);
      return left.map(({ clientId, intentId }) => ({ clientId, payload: { intentId }, key: intentId }));
    });
  },
};

const readIntent = (ctx: JobContext, intentId: string) =>
  ctx.asClient(async (tx) => {
    const [intent] = await tx.select().from(intents).where(eq(intents.id, intentId));
    const isDoubted = intent?.status === "settled" && intent.outcome !== "absent" && intent.absences > 0;
    return intent && (intent.status === "open" || isDoubted) ? intent : null;
  });

/** The intent was closed after one lookup, and its key runs again. A resource that appears later is removed. */
async function removeLateArrivals(ctx: JobContext, command: AnyProviderCommand, intent: IntentRow) {
  if (command.lookupRepeatsRequest || command.unnamed) return;
  const asked = await ctx.asClient((tx) => command.rebuildRequest(tx, intent.subjectId));
  const since = new Date(intent.createdAt.getTime() - 5 * 60_000);
  const deadline = { signal: AbortSignal.timeout(providerDeadlineMs) };
  const found = await command.lookup(ctx.providers, intent.providerAccountId, asked, since, deadline);
  ctx.fence.check();
  await ctx.asClient((tx) => removeOrphans(tx, command, intent, found));
}

async function noteAbsence(tx: Parameters<typeof settleIntent>[0], intentId: string) {
  await tx.update(intents).set({ absences: 1, absentAt: dbNow() }).where(eq(intents.id, intentId));
}
