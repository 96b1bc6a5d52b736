import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import type { Recipient } from "./message.ts";
import type { Reservation } from "./record-attempts.ts";
import { swiftly } from "./slots.ts";

/** A delivery with its endpoint and its event: all that an attempt needs to know. */
export type LoadedDelivery = Reservation & {
  status: string;
  /** Attempts made so far, and how many of them before it was last sent anew: the schedule counts from there. */
  attempts: number;
  scheduleFrom: number;
  endpointStatus: "enabled" | "disabled" | "deleted";
  /** Attempts that may begin in a second; null where the endpoint has no rate of its own. */
  ratePerSecond: number | null;
  recipient: Recipient;
  /** null when the event is past its age and gone. */
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

/** Each with the endpoint and the event of its own client: the keys of all three carry it. null: there is none. */
export async function loadDeliveries(
  tx: Tx,
  asked: readonly { clientId: string; deliveryId: string }[],
): Promise<(LoadedDelivery | null)[]> {
  const given = asked.map(({ clientId, deliveryId }, n) => ({ n, clientId, deliveryId }));
  const [, rows] = await Promise.all([
    swiftly(tx),
    tx.execute<Row>(sql`
      select g.n, d.id, d.client_id, d.endpoint_id, d.claim, d.status, d.attempts, d.schedule_from, w.url, w.payload, w.secret, w.previous_secrets, w.headers, w.rate_per_second,
        case when w.deleted_at is not null then 'deleted' else w.status end as endpoint_status,
        e.id as event_id, e.type, e.created_at, e.subject_type, e.subject_id, e.sequence, e.data
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, "clientId" text, "deliveryId" text)
      join deliveries d on d.client_id = g."clientId" and d.id = g."deliveryId"
      join webhook_endpoints w on w.client_id = d.client_id and w.id = d.endpoint_id
      left join events e on e.client_id = d.client_id and e.id = d.event_id and e.created_at = d.event_created_at`),
  ]);
  const found = new Map(rows.map((row) => [row.n, fromRow(row)]));
  return asked.map((_, n) => found.get(n) ?? null);
}

/** As the driver gives it: timestamps and bigints are text. */
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

function fromRow(row: Row): LoadedDelivery {
  const { id, client_id: clientId, endpoint_id: endpointId, claim, status, attempts } = row;
  const { url, payload, secret, previous_secrets: previousSecrets, headers } = row;
  return {
    ...{ clientId, deliveryId: id, endpointId, claim: Number(claim), status, attempts },
    scheduleFrom: row.schedule_from,
    endpointStatus: row.endpoint_status,
    ratePerSecond: row.rate_per_second,
    recipient: { id: endpointId, url, payload, secret, previousSecrets, headers },
    event: row.event_id === null ? null : eventOf(row, row.event_id),
  };
}

function eventOf(row: Row, id: string): LoadedEvent {
  const { client_id: clientId, type, sequence, data } = row;
  const subject = { subjectType: row.subject_type, subjectId: row.subject_id, sequence };
  return { id, clientId, type, ...subject, data, createdAt: new Date(row.created_at) };
}
