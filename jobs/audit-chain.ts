import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { isSetApart } from "../routers/set-apart/service.ts";
import { canonicalJson } from "./canonical-json.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { TimerContext } from "./runtime/timers.ts";

const loop = "audit.chain";
/** A run ends after this; the next run continues. */
const budgetMs = 50_000;
const batchSize = 1_000;
/** Rows of each client per batch, so that a client with many rows does not delay the others. */
const rowsPerClient = 100;

type AuditRow = {
  clientId: string;
  id: string;
  actor: string;
  action: string;
  subjectId: string | null;
  input: unknown;
  requestId: string;
  /** ISO 8601 in UTC to the microsecond, as in the database: a Date would lose the microseconds. */
  createdAt: string;
};
type Key = Pick<AuditRow, "clientId" | "id" | "createdAt">;
type Link = { position: number; hash: string };

/**
 * Chains audit rows in order, each to the previous row of its client. It runs on a worker's timer and not once a minute:
 * a minute is long enough to tamper. A row that cannot be chained is set apart, and the chain continues without it. When
 * it is retried, it is chained behind the rows that came meanwhile.
 */
export async function chainAudit({ db, signal, log }: Pick<TimerContext, "db" | "signal" | "log">) {
  const ctx: SystemWork = { asSystem: (work, options) => db.asSystem(work, options), signal, log };
  const horizon = await settledHorizon(ctx);
  if (!horizon) return "skipped";
  const until = performance.now() + budgetMs;
  let isLeader = true;
  while (isLeader && performance.now() < until && !signal.aborted) {
    const rows = await ctx.asSystem((tx) => listUnchained(tx, horizon), { mode: "read" });
    await eachOrApart(ctx, {
      loop,
      rows,
      subjectOf: ({ id, clientId }) => ({ id, clientId }),
      work: async (some) => {
        isLeader &&= await ctx.asSystem((tx) => chainSome(tx, some));
      },
    });
    if (rows.length === 0) break;
  }
  return isLeader ? "done" : "skipped";
}

/** The hash of a row in its chain. The first row of a client follows the empty string. */
export function auditHash(previous: string, row: AuditRow): string {
  return createHash("sha256")
    .update(previous + canonicalJson(row))
    .digest("hex");
}

/**
 * Returns an instant before which no audit row can appear any more. A row carries the time at which it was written, and
 * becomes visible when its transaction commits, so a later row may appear first. Every transaction that may have written
 * before the instant got its transaction id before ours. Once all lower ids have finished, the rows before it are final.
 * This needs no guessed timeout: a long transaction is waited for, by the next run if necessary.
 */
async function settledHorizon(ctx: SystemWork): Promise<string | undefined> {
  const [mark] = await ctx.asSystem(
    // The second covers the moment between a row's time and the id of its transaction.
    (tx) =>
      tx.execute<{ before: string; next: string }>(sql`
        select (now() - interval '1 second')::text as before, pg_current_xact_id()::text as next`),
  );
  const until = performance.now() + 10_000;
  while (performance.now() < until && !ctx.signal.aborted) {
    const [seen] = await ctx.asSystem(
      (tx) =>
        tx.execute<{ settled: boolean }>(
          sql`select pg_snapshot_xmin(pg_current_snapshot()) >= ${mark!.next}::text::xid8 as settled`,
        ),
      { mode: "read" },
    );
    if (seen?.settled) return mark!.before;
    await sleep(200, undefined, { signal: ctx.signal });
  }
  ctx.log.warn("audit chain delayed by a long transaction");
}

/** The first unchained rows of every client, in order. Rows of different clients are interleaved. */
function listUnchained(tx: Tx, horizon: string) {
  return tx.execute<Key>(sql`
    with recursive owners as (
      (select client_id from audit_log where position is null order by client_id limit 1)
      union all
      select next.client_id from owners cross join lateral (
        select a.client_id from audit_log a where a.position is null and a.client_id > owners.client_id
        order by a.client_id limit 1) next
    )
    select first.client_id as "clientId", first.id, ${text(sql`first.created_at`)} as "createdAt"
    from owners cross join lateral (
      select a.client_id, a.id, a.created_at, row_number() over (order by a.created_at, a.id) as turn from (
        select a.client_id, a.id, a.created_at from audit_log a
        where a.client_id = owners.client_id and a.position is null and a.created_at < ${horizon}::text::timestamptz
          and not ${isSetApart(loop, sql`a.id`)}
        order by a.created_at, a.id limit ${rowsPerClient}) a
    ) first order by first.turn, first.client_id limit ${batchSize}`);
}

const text = (at: ReturnType<typeof sql>) => sql`to_char(${at} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Chains these rows, each to the last row of its client. Returns false if another worker is chaining. */
async function chainSome(tx: Tx, keys: readonly Key[]): Promise<boolean> {
  const [lock] = await tx.execute<{ mine: boolean }>(sql`select pg_try_advisory_xact_lock(7234119, 3) as mine`);
  if (!lock?.mine) return false;
  // Read under the lock: rows that another worker has chained meanwhile have a position.
  const rows = await tx.execute<AuditRow>(sql`
    select a.client_id as "clientId", a.id, a.actor, a.action, a.subject_id as "subjectId", a.input,
      a.request_id as "requestId", ${text(sql`a.created_at`)} as "createdAt"
    from json_to_recordset(${JSON.stringify(keys.map((key, n) => ({ ...key, n })))}::text::json)
      as k("clientId" text, id text, "createdAt" timestamptz, n int)
    join audit_log a on a.client_id = k."clientId" and a.id = k.id and a.created_at = k."createdAt" and a.position is null
    order by k.n`);
  if (rows.length === 0) return true;
  const ends = await chainEnds(tx, [...new Set(rows.map(({ clientId }) => clientId))]);
  const links = rows.map((row): Key & Link => {
    const last = ends.get(row.clientId);
    const link = { position: (last?.position ?? 0) + 1, hash: auditHash(last?.hash ?? "", row) };
    ends.set(row.clientId, link);
    const { clientId, id, createdAt } = row;
    return { clientId, id, createdAt, ...link };
  });
  const { count } = await tx.execute(sql`
    update audit_log a set position = l.position, hash = l.hash
    from json_to_recordset(${JSON.stringify(links)}::text::json)
      as l("clientId" text, id text, "createdAt" timestamptz, position bigint, hash text)
    where a.client_id = l."clientId" and a.id = l.id and a.created_at = l."createdAt" and a.position is null`);
  if (count !== rows.length) throw new Error(`Only ${count} of ${rows.length} audit rows could be chained.`);
  return true;
}

async function chainEnds(tx: Tx, clientIds: string[]): Promise<Map<string, Link>> {
  const ends = await tx.execute<{ clientId: string; position: string; hash: string }>(sql`
    select c.id as "clientId", last.position, last.hash
    from json_array_elements_text(${JSON.stringify(clientIds)}::text::json) c(id) cross join lateral (
      select position, hash from audit_log a where a.client_id = c.id and a.position is not null
      order by position desc limit 1) last`);
  return new Map(ends.map(({ clientId, position, hash }) => [clientId, { position: Number(position), hash }]));
}
