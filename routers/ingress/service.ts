import { sql } from "drizzle-orm";
import { announce, type Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { jobs } from "../../db/queue.ts";
import type { ingressEvents } from "../../db/schema/platform.ts";

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
 * Stores each event once and queues one job that applies them, in one statement. Returns which events are new.
 * Keys are in a separate table: events are partitioned by month, so a unique key on them would not span months.
 */
export async function storeReceived(
  tx: Tx,
  batch: readonly { received: Received; requestId: string }[],
): Promise<boolean[]> {
  const ids = batch.map(() => newId("ingress"));
  const given = batch.map(({ received: { body, clientId = null, ...rest }, requestId }, index) => ({
    ...{ id: ids[index]!, requestId, body: body.toString("base64"), clientId },
    ...rest,
  }));
  // The same order in every transaction, which prevents deadlocks on the keys.
  given.sort((a, b) =>
    `${a.provider} ${a.providerAccountId} ${a.key}` < `${b.provider} ${b.providerAccountId} ${b.key}` ? -1 : 1,
  );
  const { priority } = jobs["ingress.applyBatch"];
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
      select graphile_worker.patchbay_enqueue_for(null, json_build_array(json_build_object(
        'task', 'ingress.applyBatch', 'requestId', ${batch[0]?.requestId ?? null}::text, 'priority', ${priority}::integer,
        'body', json_build_object('messages', json_agg(json_build_object(
          'ingressId', id, 'receivedAt', received_at::text, 'requestId', "requestId") order by id))))) as queued
      from kept join given using (id) having count(*) > 0
    )
    select (select string_agg(id, ' ') from kept) as fresh from (select count(queued) from jobs) as done`);
  const fresh = new Set(row?.fresh?.split(" "));
  announce(tx, { jobs: fresh.size > 0 ? 1 : 0 });
  return ids.map((id) => fresh.has(id));
}

export type IngressRow = typeof ingressEvents.$inferSelect;

export type CallOwner = { clientId: string; callId: string };
