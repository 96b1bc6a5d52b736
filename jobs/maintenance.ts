import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { idFloor } from "../db/ids.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { Task } from "./runtime/task.ts";

/** A run ends before the next minute's run begins; that one continues. */
const budgetMs = 50_000;
const batchSize = 1_000;

export const expire: Task<"idempotency.expire"> = {
  async run(_, ctx) {
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from idempotency_keys where (client_id, principal, key) in (
          select client_id, principal, key from idempotency_keys where expires_at < now() limit ${batchSize}
          for update skip locked)`);
      return count;
    });
  },
};

/** Tables that lose their oldest months. The number of months is in `app.partitioned_tables`, which no login can change. */
const shortened = ["delivery_attempts", "ingress_events", "events"] as const;

export const keepPartitions: Task<"partitions.keep"> = {
  async run(_, ctx) {
    const drops = shortened.map((table) => (tx: Tx) => tx.execute(sql`select app.drop_partitions(${table})`));
    // A table that is locked at the moment does not prevent the maintenance of the others.
    await eachThenThrow([(tx: Tx) => tx.execute(sql`select app.make_partitions()`), ...drops], (work) =>
      ctx.asSystem(async (tx) => {
        await refuseToWait(tx);
        await work(tx);
      }),
    );
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from ingress_keys where (provider, provider_account_id, key) in (
          select provider, provider_account_id, key from ingress_keys where received_at < now() - interval '90 days'
          limit ${batchSize} for update skip locked)`);
      return count;
    });
  },
};

/** Runs all of them, and throws the first failure at the end. */
async function eachThenThrow<T>(all: readonly T[], work: (one: T) => Promise<unknown>) {
  const failures: unknown[] = [];
  for (const one of all) await work(one).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** At least as old as the oldest attempts that are kept: see `app.partitioned_tables`. */
const deliveryDays = 92;

/**
 * Deletes by id, which begins with the time: client by client, so that the primary key serves and no other index is
 * necessary. Each client gets a first batch before any gets its second. A client whose rows cannot be deleted does not
 * stop the others. Replays of that age are deleted too: there are few, so one statement covers all clients.
 */
export const expireDeliveries: Task<"deliveries.expire"> = {
  async run(_, ctx) {
    const oldest = new Date(Date.now() - deliveryDays * 86_400_000);
    const floor = idFloor("delivery", oldest);
    const clients = await ctx.asSystem((tx) => tx.execute<{ id: string }>(sql`select id from clients order by id`), {
      mode: "read",
    });
    const until = performance.now() + budgetMs;
    const hasMore = new Set<string>();
    const expireOf = (clientId: string) =>
      ctx.asSystem(async (tx) => {
        const { count } = await tx.execute(sql`
          delete from deliveries where client_id = ${clientId} and id in (
            select id from deliveries where client_id = ${clientId} and id < ${floor} and status <> 'pending'
            order by id limit ${batchSize} for update skip locked)`);
        if (count === batchSize) hasMore.add(clientId);
      });
    let left = clients.map(({ id }) => id);
    while (left.length > 0 && performance.now() < until && !ctx.signal.aborted) {
      hasMore.clear();
      await eachOrApart(ctx, {
        loop: "deliveries.expire",
        rows: left,
        subjectOf: (clientId) => ({ id: clientId, clientId }),
        work: async (some) => {
          for (const clientId of some) await expireOf(clientId); // each commits by itself, and may run again
        },
      });
      left = [...hasMore];
    }
    const replayFloor = idFloor("replay", oldest);
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from webhook_replays r using (
          select old.client_id, old.id from clients c cross join lateral (
            select client_id, id from webhook_replays
            where client_id = c.id and id < ${replayFloor} and status <> 'running' order by id limit ${batchSize}
          ) old limit ${batchSize}
        ) old where r.client_id = old.client_id and r.id = old.id`);
      return count;
    });
  },
};

/** A statement that waits for a table lock blocks all later ones: it fails instead, and the next run tries again. */
async function refuseToWait(tx: Tx) {
  await tx.execute(sql`select set_config('lock_timeout', '3s', true)`);
}

async function inBatches(ctx: SystemWork, batch: (tx: Tx) => Promise<number>) {
  const until = performance.now() + budgetMs;
  while (performance.now() < until && !ctx.signal.aborted) {
    if ((await ctx.asSystem(batch)) < batchSize) return;
  }
}
