import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { idFloor } from "../db/ids.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { Task } from "./runtime/task.ts";

/** A run ends by itself before the next minute's begins; what is left is that one's. */
const runForMs = 50_000;
const atOnce = 1_000;

export const expire: Task<"idempotency.expire"> = {
  async run(_, ctx) {
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from idempotency_keys where (client_id, principal, key) in (
          select client_id, principal, key from idempotency_keys where expires_at < now() limit ${atOnce}
          for update skip locked)`);
      return count;
    });
  },
};

/** Tables that lose their oldest months; how many are kept stands in `app.partitioned_tables`, which no login can change. */
const shortened = ["delivery_attempts", "ingress_events", "events"] as const;

export const keepPartitions: Task<"partitions.keep"> = {
  async run(_, ctx) {
    const drops = shortened.map((table) => (tx: Tx) => tx.execute(sql`select app.drop_partitions(${table})`));
    // A table that is in use at the moment does not keep the others from their partitions.
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
          limit ${atOnce} for update skip locked)`);
      return count;
    });
  },
};

/** Does all of it, and throws the first failure at the end. */
async function eachThenThrow<T>(all: readonly T[], work: (one: T) => Promise<unknown>) {
  const failures: unknown[] = [];
  for (const one of all) await work(one).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** As old as the oldest attempts that are kept, at least: see `app.partitioned_tables`. */
const deliveryDays = 92;

/**
 * By the ids, which begin with the time: client by client, so that the primary key serves and no index is kept for it. A
 * batch of each client goes before the second batch of any, and one whose rows cannot be removed keeps nobody else's.
 * Replays of that age go too; there are few, and one statement goes through the clients.
 */
export const expireDeliveries: Task<"deliveries.expire"> = {
  async run(_, ctx) {
    const oldest = new Date(Date.now() - deliveryDays * 86_400_000);
    const floor = idFloor("delivery", oldest);
    const clients = await ctx.asSystem((tx) => tx.execute<{ id: string }>(sql`select id from clients order by id`), {
      mode: "read",
    });
    const until = performance.now() + runForMs;
    const hasMore = new Set<string>();
    const expireOf = (clientId: string) =>
      ctx.asSystem(async (tx) => {
        const { count } = await tx.execute(sql`
          delete from deliveries where client_id = ${clientId} and id in (
            select id from deliveries where client_id = ${clientId} and id < ${floor} and status <> 'pending'
            order by id limit ${atOnce} for update skip locked)`);
        if (count === atOnce) hasMore.add(clientId);
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
            where client_id = c.id and id < ${replayFloor} and status <> 'running' order by id limit ${atOnce}
          ) old limit ${atOnce}
        ) old where r.client_id = old.client_id and r.id = old.id`);
      return count;
    });
  },
};

/** Whoever waits for a table makes everybody else wait behind: better to fail and come again. */
async function refuseToWait(tx: Tx) {
  await tx.execute(sql`select set_config('lock_timeout', '3s', true)`);
}

async function inBatches(ctx: SystemWork, batch: (tx: Tx) => Promise<number>) {
  const until = performance.now() + runForMs;
  while (performance.now() < until && !ctx.signal.aborted) {
    if ((await ctx.asSystem(batch)) < atOnce) return;
  }
}
