import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { agents } from "../../db/schema/agents.ts";
import { calls } from "../../db/schema/calls.ts";
import { ingressEvents } from "../../db/schema/platform.ts";

export const ingressProviders = ["ultravox", "stripe", "telnyx"] as const;
export const ingressStatuses = ["received", "applied", "ignored", "failed"] as const;
export type IngressProvider = (typeof ingressProviders)[number];

/** Among what is kept of a message: the call that the address named which it came to. */
export const callInAddress = "call-in-address";

export type Received = {
  provider: IngressProvider;
  providerAccountId: string;
  /** What makes it one event, however often it is sent. */
  key: string;
  /** As the provider calls it; empty where that cannot be read. */
  eventType: string;
  body: Buffer;
  headers: Record<string, string>;
  verifiedBy: string;
  stale: boolean;
  /** Whose it is, where the key that it was signed with is a client's own. */
  clientId?: string;
};

/**
 * Keeps each event once and queues the job that applies it, in one statement. Answers which of them were not here before.
 * The key lies in a table of its own: the events themselves are partitioned by month, and a month has an end.
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
  // Whoever stores at the same time waits for the same keys in the same order.
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
  return ids.map((id) => fresh.has(id));
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
      appliedAt: sql`clock_timestamp()` as unknown as Date,
      ...(mark.clientId && mark.subjectId ? { body: unlessErased(mark.clientId, mark.subjectId) } : {}),
    })
    .where(and(eq(ingressEvents.id, row.id), sql`${ingressEvents.receivedAt} = ${receivedAt}::timestamptz`));
}

/** What comes of a call that is erased already is applied, and not kept. */
const unlessErased = (clientId: string, callId: string) =>
  sql`case when exists (select from calls c where c.client_id = ${clientId} and c.id = ${callId}
    and (c.erased_at is not null or c.transcript_status = 'erased')) then ''::bytea else body end` as unknown as Buffer;

/** The body went with the call that it was about: there is nothing left to apply. */
export const isErased = ({ body }: Pick<IngressRow, "body">) => body.length === 0;

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

/**
 * Whose call it is that a carrier speaks of, by our own id alone: never by the numbers. `pacc_…` reports the calls of the
 * account at the voice provider that dials through it; `cred_…`, a client's own key, those of that client.
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

/** The agent that a call which nobody here placed belongs to: one of that account alone. */
export async function agentOfCall(
  tx: Tx,
  accountId: string,
  { callId, providerAgentId }: { callId: string | null; providerAgentId: string | null },
): Promise<{ clientId: string; agentId: string } | null> {
  // What carries an id of ours was placed by us, or by another installation that shares the account.
  if (callId !== null || providerAgentId === null) return null;
  const [found] = await tx
    .select({ clientId: agents.clientId, agentId: agents.id })
    .from(agents)
    .where(and(eq(agents.providerAccountId, accountId), eq(agents.providerAgentId, providerAgentId)));
  return found ?? null;
}
