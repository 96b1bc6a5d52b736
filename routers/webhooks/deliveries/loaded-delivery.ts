import { sql } from "drizzle-orm";
import type { Recipient } from "./message.ts";
import type { Reservation } from "./record-attempts.ts";

/** A delivery with its endpoint and its event: everything that an attempt needs. */
export type LoadedDelivery = Reservation & {
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

export type LoadedEvent = {
  id: string;
  type: string;
  createdAt: Date;
  clientId: string;
  subjectType: string;
  subjectId: string;
  sequence: number;
  data: unknown;
};

/** The columns of a `LoadedRow`, for `deliveries d` with `endpointAndEvent`. */
export const loadedColumns = sql`d.id, d.client_id, d.endpoint_id, d.claim, d.attempts, d.schedule_from, w.url, w.payload, w.secret, w.previous_secrets, w.headers, w.rate_per_second,
        case when w.deleted_at is not null then 'deleted' else w.status end as endpoint_status,
        e.id as event_id, e.type, e.created_at, e.subject_type, e.subject_id, e.sequence, e.data`;

/** Both of the same client as the delivery. */
export const endpointAndEvent = sql`join webhook_endpoints w on w.client_id = d.client_id and w.id = d.endpoint_id
      left join events e on e.client_id = d.client_id and e.id = d.event_id and e.created_at = d.event_created_at`;

/** As the driver returns it: timestamps and bigints are text. */
export type LoadedRow = {
  id: string;
  client_id: string;
  endpoint_id: string;
  claim: string;
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

export function toLoadedDelivery(row: LoadedRow): LoadedDelivery {
  const { id, client_id: clientId, endpoint_id: endpointId, claim, attempts } = row;
  const { url, payload, secret, previous_secrets: previousSecrets, headers } = row;
  return {
    ...{ clientId, deliveryId: id, endpointId, claim: Number(claim), attempts },
    scheduleFrom: row.schedule_from,
    endpointStatus: row.endpoint_status,
    ratePerSecond: row.rate_per_second,
    recipient: { id: endpointId, url, payload, secret, previousSecrets, headers },
    event: row.event_id === null ? null : toEvent(row, row.event_id),
  };
}

function toEvent(row: LoadedRow, id: string): LoadedEvent {
  const { client_id: clientId, type, sequence, data } = row;
  const subject = { subjectType: row.subject_type, subjectId: row.subject_id, sequence };
  return { id, clientId, type, ...subject, data, createdAt: new Date(row.created_at) };
}
