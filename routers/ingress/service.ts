import { and, eq, sql } from "drizzle-orm";
import { announce, type Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { agents } from "../../db/schema/agents.ts";
import { calls } from "../../db/schema/calls.ts";
import { ingressEvents } from "../../db/schema/platform.ts";
import { dbNow } from "../../db/time.ts";

export const ingressProviders = ["ultravox", "stripe", "telnyx"] as const;
export const ingressStatuses = ["received", "applied", "ignored", "failed"] as const;
export type IngressProvider = (typeof ingressProviders)[number];

/** The name under which the stored headers keep the call id from the receiving address. */
export const callInAddress = "call-in-address";

export type Received = {
  provider: IngressProvider;
  providerAccountId: string;
  /** Identifies repeated deliveries of the same event. */
  key: string;
  /** The provider's name; empty if it cannot be read. */
  eventType: string;
  body: Buffer;
  headers: Record<string, string>;
  verifiedBy: string;
  stale: boolean;
  /** Set when a client's own key signed the event. */
  clientId?: string;
};

/**
 * Stores each event once and queues the job that applies it, in one statement. Returns which events are new.
 * Keys are in a separate table: events are partitioned by month, so a unique key on them would not span months.
 */
export async function storeReceived(
  tx: Tx,
  batch: readonly { received: Received; requestId: string }[],
): Promise<boolean[]> {
  const ids = batch.map(() => newId("ingress"));
  const given = batch.map(({ received: { body, clientId = null, ...rest }, requestId }, index) => ({
    ...{ id: ids[index], requestId, body: body.toString("base64"), clientId },
    ...rest,
  }));
  // The same order in every transaction, which prevents deadlocks on the keys.
  given.sort((a, b) =>
    `${a.provider} ${a.providerAccountId} ${a.key}` < `${b.provider} ${b.providerAccountId} ${b.key}` ? -1 : 1,
  );
  const [row] = await tx.execute<{ fresh: string | null }>(sql`
    with given as materialized (
      select * from json_to_recordset(${JSON.stringify(given)}::text::json) as g(
        id text, "requestId" text, provider text, "providerAccountId" text, key text, "eventType" text, body text,
        headers jsonb, "verifiedBy" text, stale boolean, "clientId" text)
    ), fresh as (
      insert into ingress_keys (provider, provider_account_id, key, ingress_id)
      select provider, "providerAccountId", key, id from given
      on conflict do nothing returning ingress_id
    ), kept as (
      insert into ingress_events
        (id, provider, provider_account_id, key, event_type, body, headers, verified_by, stale, client_id)
      select id, provider, "providerAccountId", key, "eventType", decode(body, 'base64'), headers, "verifiedBy", stale, "clientId"
      from given join fresh on ingress_id = id returning id, received_at
    ), jobs as (
      select graphile_worker.patchbay_enqueue_for(null, json_agg(json_build_object(
        'task', 'ingress.apply', 'requestId', "requestId",
        'body', json_build_object('ingressId', id, 'receivedAt', received_at::text)))) as queued
      from kept join given using (id) having count(*) > 0
    )
    select (select string_agg(id, ' ') from kept) as fresh from (select count(queued) from jobs) as done`);
  const fresh = new Set(row?.fresh?.split(" "));
  announce(tx, { jobs: fresh.size });
  return ids.map((id) => fresh.has(id));
}

export type IngressRow = typeof ingressEvents.$inferSelect;

/** `receivedAt` is the database's text of it, so that only one partition is read. */
export async function readReceived(tx: Tx, id: string, receivedAt: string): Promise<IngressRow | null> {
  const [row] = await tx
    .select()
    .from(ingressEvents)
    .where(and(eq(ingressEvents.id, id), sql`${ingressEvents.receivedAt} = ${receivedAt}::timestamptz`));
  return row ?? null;
}

export type Mark = {
  status: "applied" | "ignored" | "failed";
  clientId?: string | null;
  subjectId?: string | null;
  note?: string;
};

export async function markReceived(tx: Tx, row: Pick<IngressRow, "id" | "receivedAt">, receivedAt: string, mark: Mark) {
  await tx
    .update(ingressEvents)
    .set({
      note: null,
      ...mark,
      attempts: sql`attempts + 1`,
      appliedAt: dbNow(),
      body: mark.clientId && mark.subjectId ? bodyUnlessErased(mark.clientId, mark.subjectId) : undefined,
    })
    .where(and(eq(ingressEvents.id, row.id), sql`${ingressEvents.receivedAt} = ${receivedAt}::timestamptz`));
}

/** An event of an erased call is applied, but its body is not kept. */
const bodyUnlessErased = (clientId: string, callId: string) =>
  sql<Buffer>`case when exists (select from calls c where c.client_id = ${clientId} and c.id = ${callId}
    and (c.erased_at is not null or c.transcript_status = 'erased')) then ''::bytea else body end`;

/** The body was erased with its call, so there is nothing to apply. A body that arrived empty has an `unreadable:` key. */
export const isErased = ({ body, key }: Pick<IngressRow, "body" | "key">) =>
  body.length === 0 && !key.startsWith("unreadable:");

export type CallOwner = { clientId: string; callId: string };

/** Finds the call of an event, within that account. Our id comes first: an event may arrive before we know the provider's id. */
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

/**
 * Finds the call of a carrier's event, only by our id and never by phone numbers. An event of `pacc_…` must belong to a call
 * of that voice provider account; an event of `cred_…`, a client's own key, to a call of that client.
 */
export async function ownerOfLeg(
  tx: Tx,
  { providerAccountId, clientId }: Pick<IngressRow, "providerAccountId" | "clientId">,
  callId: string,
): Promise<CallOwner | null> {
  const isOwn = providerAccountId.startsWith("cred_");
  if (isOwn && clientId === null) return null;
  const [found] = await tx
    .select({ clientId: calls.clientId, callId: calls.id })
    .from(calls)
    .where(
      and(eq(calls.id, callId), isOwn ? eq(calls.clientId, clientId!) : eq(calls.providerAccountId, providerAccountId)),
    );
  return found ?? null;
}

/** Finds the agent of an inbound call, within that account. */
export async function agentOfCall(
  tx: Tx,
  accountId: string,
  { callId, providerAgentId }: { callId: string | null; providerAgentId: string | null },
): Promise<{ clientId: string; agentId: string } | null> {
  // A call with an id in our format was placed by us, or by another installation that shares the account.
  if (callId !== null || providerAgentId === null) return null;
  const [found] = await tx
    .select({ clientId: agents.clientId, agentId: agents.id })
    .from(agents)
    .where(and(eq(agents.providerAccountId, accountId), eq(agents.providerAgentId, providerAgentId)));
  return found ?? null;
}
