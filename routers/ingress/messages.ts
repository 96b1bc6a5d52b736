import { sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueueFor, type JobPayload } from "../../db/queue.ts";
import type { IngressProvider, IngressRow } from "./service.ts";

/** A stored message. `receivedAt` is the database's text of it, so that only one partition is read. */
export type IngressRef = JobPayload<"ingress.apply">;

/** A message that is not applied yet. */
export type WaitingMessage = IngressRef &
  Pick<IngressRow, "providerAccountId" | "key" | "body" | "headers" | "stale" | "clientId"> & {
    provider: IngressProvider;
  };

type Row = {
  id: string;
  provider: IngressProvider; // only `storeReceived` writes it
  provider_account_id: string;
  key: string;
  body: Buffer;
  headers: Record<string, string>;
  stale: boolean;
  client_id: string | null;
};

/**
 * The planner settings force index lookups: a prepared statement keeps its plan, and the plan may come from a time when the
 * table was empty. A crash may lose the last marks; those messages are applied again, which changes nothing, because the
 * queue removes their job in a later commit.
 */
const tuneForKeyLookups = (tx: Tx) =>
  tx.execute(sql`
    select set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),
      set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`);

/** Loads those of the messages that wait to be applied, in the order of receipt. */
export async function loadWaiting(tx: Tx, refs: readonly IngressRef[]): Promise<WaitingMessage[]> {
  const given = refs.map(({ ingressId: id, receivedAt }) => ({ id, receivedAt }));
  const [, rows] = await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute<Row>(sql`
      select e.id, e.provider, e.provider_account_id, e.key, e.body, e.headers, e.stale, e.client_id
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(id text, "receivedAt" timestamptz)
      join ingress_events e on e.id = g.id and e.received_at = g."receivedAt"
      where e.status = 'received' order by e.id`),
  ]);
  const refOf = new Map(refs.map((ref) => [ref.ingressId, ref]));
  return rows.map((row) => ({
    ...refOf.get(row.id)!,
    provider: row.provider,
    providerAccountId: row.provider_account_id,
    key: row.key,
    body: row.body,
    headers: row.headers,
    stale: row.stale,
    clientId: row.client_id,
  }));
}

/** The body was erased with its call, so there is nothing to apply. A body that arrived empty has an `unreadable:` key. */
export const isErased = ({ body, key }: Pick<IngressRow, "body" | "key">) =>
  body.length === 0 && !key.startsWith("unreadable:");

/** What became of a message. */
export type Mark = {
  status: "applied" | "ignored" | "failed";
  clientId?: string | null;
  subjectId?: string | null;
  note?: string;
};
export type MarkedMessage = { ref: IngressRef; mark: Mark };

/** Records what became of the messages, in one statement. An event of an erased call is applied, but its body is not kept. */
export async function markMessages(tx: Tx, marked: readonly MarkedMessage[]) {
  if (marked.length === 0) return;
  const given = marked.map(({ ref: { ingressId: id, receivedAt }, mark }) => ({ id, receivedAt, ...mark }));
  given.sort((one, other) => (one.id < other.id ? -1 : 1)); // the same order everywhere, which prevents deadlocks
  await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute(sql`
      update ingress_events e set status = g.status, note = g.note, attempts = e.attempts + 1, applied_at = clock_timestamp(),
        client_id = coalesce(g."clientId", e.client_id), subject_id = coalesce(g."subjectId", e.subject_id),
        body = case when exists (select from calls c where c.client_id = g."clientId" and c.id = g."subjectId"
          and (c.erased_at is not null or c.transcript_status = 'erased')) then ''::bytea else e.body end
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(
        id text, "receivedAt" timestamptz, status text, note text, "clientId" text, "subjectId" text)
      where e.id = g.id and e.received_at = g."receivedAt"`),
  ]);
}

/** Queues each message in a job of its own. The key prevents a second job when this runs twice. */
export async function applyAlone(
  tx: Tx,
  ref: IngressRef,
  { attempt, delaySeconds }: { attempt?: number; delaySeconds?: number } = {},
) {
  await enqueueFor(tx, null, "ingress.apply", ref, { key: ref.ingressId, attempt, delaySeconds });
}
