import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import type { Recipient } from "./message.ts";
import type { Reservation } from "./record-attempts.ts";
import { tuneForKeyLookups } from "./slots.ts";

/** A delivery with its endpoint and its event: everything that an attempt needs. */
export type LoadedDelivery = Reservation & {
  status: string;
  /** Attempts made so far. `scheduleFrom`: how many of them came before the last redelivery; the schedule starts there. */
  attempts: number;
  scheduleFrom: number;
  endpointStatus: "enabled" | "disabled" | "deleted";
  /** The most attempts per second; null: the endpoint has no rate limit. */
  ratePerSecond: number | null;
  recipient: Recipient;
  /** null: the retention of the event has ended. */
  event: LoadedEvent | null;
};

type LoadedEvent = {
  id: string;
  type: string;
  createdAt: Date;
  clientId: string;
  subjectType: string;
  subjectId: string;
  sequence: number;
  data: unknown;
};

/** Loads each delivery with the endpoint and event of the same client. null: there is no such delivery. */
export async function loadDeliveries(
  tx: Tx,
  refs: readonly { clientId: string; deliveryId: string }[],
): Promise<(LoadedDelivery | null)[]> {
  const given = refs.map(({ clientId, deliveryId }, n) => ({ n, clientId, deliveryId }));
  const [, rows] = await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute<Row>(sql`
      select g.n, d.id, d.client_id, d.endpoint_id, d.claim, d.status, d.attempts, d.schedule_from, w.url, w.payload, w.secret, w.previous_secrets, w.headers, w.rate_per_second,
        case when w.deleted_at is not null then 'deleted' else w.status end as endpoint_status,
        e.id as event_id, e.type, e.created_at, e.subject_type, e.subject_id, e.sequence, e.data
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, "clientId" text, "deliveryId" text)
      join deliveries d on d.client_id = g."clientId" and d.id = g."deliveryId"
      join webhook_endpoints w on w.client_id = d.client_id and w.id = d.endpoint_id
      left join events e on e.client_id = d.client_id and e.id = d.event_id and e.created_at = d.event_created_at`),
  ]);
  const found = new Map(rows.map((row) => [row.n, toDelivery(row)]));
  return refs.map((_, n) => found.get(n) ?? null);
}

/** As the driver returns it: timestamps and bigints are text. */
type Row = {
  n: number;
  id: string;
  client_id: string;
  endpoint_id: string;
  claim: string;
  status: string;
  attempts: number;
  schedule_from: number;
  url: string;
  payload: Recipient["payload"];
  secret: Buffer;
  previous_secrets: Recipient["previousSecrets"];
  headers: Buffer | null;
  endpoint_status: LoadedDelivery["endpointStatus"];
  rate_per_second: number | null;
  event_id: string | null;
  type: string;
  created_at: string;
  subject_type: string;
  subject_id: string;
  sequence: number;
  data: unknown;
};

function toDelivery(row: Row): LoadedDelivery {
  const { id, client_id: clientId, endpoint_id: endpointId, claim, status, attempts } = row;
  const { url, payload, secret, previous_secrets: previousSecrets, headers } = row;
  return {
    ...{ clientId, deliveryId: id, endpointId, claim: Number(claim), status, attempts },
    scheduleFrom: row.schedule_from,
    endpointStatus: row.endpoint_status,
    ratePerSecond: row.rate_per_second,
    recipient: { id: endpointId, url, payload, secret, previousSecrets, headers },
    event: row.event_id === null ? null : toEvent(row, row.event_id),
  };
}

function toEvent(row: Row, id: string): LoadedEvent {
  const { client_id: clientId, type, sequence, data } = row;
  const subject = { subjectType: row.subject_type, subjectId: row.subject_id, sequence };
  return { id, clientId, type, ...subject, data, createdAt: new Date(row.created_at) };
}
