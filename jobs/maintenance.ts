import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { idFloor } from "../db/ids.ts";
import type { JobContext, Task } from "./task.ts";
import type { TimerContext } from "./timers.ts";

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
    await ctx.asHouse(async (tx) => {
      await refuseToWait(tx);
      await tx.execute(sql`select app.make_partitions()`);
    });
    for (const table of shortened) {
      await ctx.asHouse(async (tx) => {
        await refuseToWait(tx);
        await tx.execute(sql`select app.drop_partitions(${table})`);
      });
    }
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from ingress_keys where (provider, provider_account_id, key) in (
          select provider, provider_account_id, key from ingress_keys where received_at < now() - interval '90 days'
          limit ${atOnce} for update skip locked)`);
      return count;
    });
  },
};

/** As old as the oldest attempts that are kept, at least: see `app.partitioned_tables`. */
const deliveryDays = 92;

/**
 * By the ids, which begin with the time: client by client, so that the primary key serves and no index is kept for it.
 * Replays of that age go too; there are few, and one statement goes through the clients.
 */
export const expireDeliveries: Task<"deliveries.expire"> = {
  async run(_, ctx) {
    const oldest = new Date(Date.now() - deliveryDays * 86_400_000);
    const floor = idFloor("delivery", oldest);
    const clients = await ctx.asHouse((tx) => tx.execute<{ id: string }>(sql`select id from clients order by id`), {
      mode: "read",
    });
    for (const { id: clientId } of clients) {
      await inBatches(ctx, async (tx) => {
        const { count } = await tx.execute(sql`
          delete from deliveries where client_id = ${clientId} and id in (
            select id from deliveries where client_id = ${clientId} and id < ${floor} and state <> 'pending'
            order by id limit ${atOnce} for update skip locked)`);
        return count;
      });
    }
    const replayFloor = idFloor("replay", oldest);
    await inBatches(ctx, async (tx) => {
      const { count } = await tx.execute(sql`
        delete from webhook_replays r using (
          select old.client_id, old.id from clients c cross join lateral (
            select client_id, id from webhook_replays
            where client_id = c.id and id < ${replayFloor} and state <> 'running' order by id limit ${atOnce}
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

async function inBatches(ctx: HouseWork, batch: (tx: Tx) => Promise<number>) {
  const until = performance.now() + runForMs;
  while (performance.now() < until && !ctx.signal.aborted) {
    if ((await ctx.asHouse(batch)) < atOnce) return;
  }
}

type AuditRow = {
  clientId: string;
  id: string;
  actor: string;
  action: string;
  subjectId: string | null;
  input: unknown;
  requestId: string;
  /** ISO 8601 in UTC to the microsecond, as the database has it: a Date would cut it short. */
  createdAt: string;
};
type Link = { position: number; hash: string };

type HouseWork = Pick<JobContext, "asHouse" | "signal" | "log">;

/** Chains audit rows in order, each to the one before: on the worker's own timer, since a minute is a long time to tamper. */
export async function chainAudit({ db, signal, log }: Pick<TimerContext, "db" | "signal" | "log">) {
  const ctx: HouseWork = { asHouse: (work, options) => db.asHouse(work, options), signal, log };
  const horizon = await settledHorizon(ctx);
  if (horizon) await inBatches(ctx, (tx) => chainBatch(tx, horizon));
}

/** The hash of a row in its chain. The first of a client follows the empty text. */
export function auditHash(previous: string, row: AuditRow): string {
  return createHash("sha256")
    .update(previous + canonicalJson(row))
    .digest("hex");
}

/** JSON with sorted keys and no spaces: the same value has one text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/**
 * An instant before which no audit row can appear any more. A row carries the time at which it was written, and shows
 * when its transaction commits: a later one may show first. Every transaction that can have written before the instant
 * had its number before we took ours; so once all below ours are finished, what stands there stands. No timeout is
 * guessed at, and a transaction that takes long is waited for, by the next run if need be.
 */
async function settledHorizon(ctx: HouseWork): Promise<string | undefined> {
  const [mark] = await ctx.asHouse(
    // The second covers the moment between a row's time and its transaction's number.
    (tx) =>
      tx.execute<{ before: string; next: string }>(sql`
        select (now() - interval '1 second')::text as before, pg_current_xact_id()::text as next`),
  );
  const until = performance.now() + 10_000;
  while (performance.now() < until && !ctx.signal.aborted) {
    const [seen] = await ctx.asHouse(
      (tx) =>
        tx.execute<{ settled: boolean }>(
          sql`select pg_snapshot_xmin(pg_current_snapshot()) >= ${mark!.next}::text::xid8 as settled`,
        ),
      { mode: "read" },
    );
    if (seen?.settled) return mark!.before;
    await sleep(200, undefined, { signal: ctx.signal });
  }
  ctx.log.warn("a transaction has been open for so long that audit rows wait to be chained");
}

/** Chains the oldest rows without a place, each to the one before it of its client. One worker at a time. */
async function chainBatch(tx: Tx, horizon: string): Promise<number> {
  const [lock] = await tx.execute<{ mine: boolean }>(sql`select pg_try_advisory_xact_lock(7234119, 3) as mine`);
  if (!lock?.mine) return 0;
  // The oldest of all clients hold the oldest of each: the order within a client is (created_at, id).
  const rows = await tx.execute<AuditRow>(sql`
    select client_id as "clientId", id, actor, action, subject_id as "subjectId", input, request_id as "requestId",
      to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdAt"
    from audit_log where position is null and created_at < ${horizon}::text::timestamptz
    order by created_at, id limit ${atOnce}`);
  if (rows.length === 0) return 0;
  const ends = await chainEnds(tx, [...new Set(rows.map(({ clientId }) => clientId))]);
  const links = rows.map((row): AuditRow & Link => {
    const last = ends.get(row.clientId);
    const link = { position: (last?.position ?? 0) + 1, hash: auditHash(last?.hash ?? "", row) };
    ends.set(row.clientId, link);
    return { ...row, ...link };
  });
  const { count } = await tx.execute(sql`
    update audit_log a set position = l.position, hash = l.hash
    from json_to_recordset(${JSON.stringify(links)}::text::json)
      as l("clientId" text, id text, "createdAt" timestamptz, position bigint, hash text)
    where a.client_id = l."clientId" and a.id = l.id and a.created_at = l."createdAt" and a.position is null`);
  if (count !== rows.length) throw new Error(`Of ${rows.length} audit rows only ${count} could be chained.`);
  return count;
}

async function chainEnds(tx: Tx, clientIds: string[]): Promise<Map<string, Link>> {
  const ends = await tx.execute<{ clientId: string; position: string; hash: string }>(sql`
    select c.id as "clientId", last.position, last.hash
    from json_array_elements_text(${JSON.stringify(clientIds)}::text::json) c(id) cross join lateral (
      select position, hash from audit_log a where a.client_id = c.id and a.position is not null
      order by position desc limit 1) last`);
  return new Map(ends.map(({ clientId, position, hash }) => [clientId, { position: Number(position), hash }]));
}
