import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { calls } from "../../db/schema/calls.ts";
import { ingressEvents } from "../../db/schema/platform.ts";

export type Received = {
  provider: "ultravox";
  providerAccountId: string;
  /** What makes it one event, however often it is sent. */
  key: string;
  body: Buffer;
  headers: Record<string, string>;
  verifiedBy: string;
  stale: boolean;
};

/**
 * Keeps an event once and queues the job that applies it, in one statement. False when it was here before.
 * The key lies in a table of its own: the events themselves are partitioned by month, and a month has an end.
 */
export async function storeReceived(tx: Tx, received: Received): Promise<boolean> {
  const { provider, providerAccountId, key, verifiedBy, stale } = received;
  const rows = await tx.execute(sql`
    with fresh as (
      insert into ingress_keys (provider, provider_account_id, key, ingress_id)
      values (${provider}, ${providerAccountId}, ${key}, ${newId("ingress")})
      on conflict do nothing returning ingress_id
    ), kept as (
      insert into ingress_events (id, provider, provider_account_id, key, body, headers, verified_by, stale)
      select ingress_id, ${provider}, ${providerAccountId}, ${key}, ${received.body}::bytea,
             ${JSON.stringify(received.headers)}::text::jsonb, ${verifiedBy}, ${stale}
      from fresh returning id, received_at
    )
    select graphile_worker.patchbay_enqueue_for(null, json_build_array(json_build_object(
      'task', 'ingress.apply', 'body', json_build_object('ingressId', id, 'receivedAt', received_at::text))))
    from kept`);
  return rows.length > 0;
}

export type IngressRow = typeof ingressEvents.$inferSelect;

/** `receivedAt` is the database's own text of it, so that only one partition is read. */
export async function readReceived(tx: Tx, id: string, receivedAt: string): Promise<IngressRow | null> {
  const [row] = await tx
    .select()
    .from(ingressEvents)
    .where(and(eq(ingressEvents.id, id), sql`${ingressEvents.receivedAt} = ${receivedAt}::timestamptz`));
  return row ?? null;
}

type Mark = {
  state: "applied" | "ignored" | "failed";
  clientId?: string | null;
  subjectId?: string | null;
  note?: string;
};

export async function markReceived(tx: Tx, row: Pick<IngressRow, "id" | "receivedAt">, receivedAt: string, mark: Mark) {
  await tx
    .update(ingressEvents)
    .set({ ...mark, attempts: sql`attempts + 1`, appliedAt: sql`clock_timestamp()` as unknown as Date })
    .where(and(eq(ingressEvents.id, row.id), sql`${ingressEvents.receivedAt} = ${receivedAt}::timestamptz`));
}

export type CallOwner = { clientId: string; callId: string };

/** Whose call this is: by our own id first, since an event may come before we know the provider's. Only calls of that account. */
export async function ownerOfCall(
  tx: Tx,
  accountId: string,
  { callId, providerCallId }: { callId: string | null; providerCallId: string },
): Promise<CallOwner | null> {
  const columns = { clientId: calls.clientId, callId: calls.id };
  if (callId) {
    const [own] = await tx
      .select(columns)
      .from(calls)
      .where(and(eq(calls.id, callId), eq(calls.providerAccountId, accountId)));
    if (own) return own;
  }
  const [known] = await tx
    .select(columns)
    .from(calls)
    .where(and(eq(calls.providerAccountId, accountId), eq(calls.providerCallId, providerCallId)));
  return known ?? null;
}
