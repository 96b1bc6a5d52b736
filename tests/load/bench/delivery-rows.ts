import { eventTypes } from "../../../db/events.ts";
import { newId } from "../../../db/ids.ts";
import { seedClient } from "../../../dev/seed.ts";
import { eventEnvelope } from "../../../routers/events/service.ts";
import { createEndpoint } from "../../../routers/webhooks/endpoints/service.ts";
import type { Ground } from "../ground.ts";

/** Enough of both that slots per endpoint and per client never limit the rate. */
const clientCount = 10;
const endpointsEach = 5;
const wantedBytes = 1024;
/** Earlier deliveries on both sides: Postgres plans badly for a nearly empty table. */
export const history = 20_000;

export type Endpoint = { clientId: string; id: string; type: string };
export type Event = Endpoint & { eventId: string; at: string; data: string };
/** Each subscribes to one event type, so that one event is one delivery. */
export async function openEndpoints({ deps }: Ground, url: string): Promise<Endpoint[]> {
  const endpoints: Endpoint[] = [];
  for (let n = 0; n < clientCount; n++) {
    const { clientId, keyId } = await seedClient(deps, {
      name: `Client ${n}`,
      subject: `auth0|client-${n}`,
      credits: 1,
    });
    const ring = await deps.providers.vault.keys(clientId, "webhook_secret");
    for (const type of eventTypes.slice(0, endpointsEach)) {
      const wanted = { url, description: null, eventTypes: [type] };
      const made = await deps.db.asClient({ clientId }, (tx) =>
        createEndpoint(tx, wanted, keyId, ring, { allowPrivate: true }),
      );
      endpoints.push({ clientId, id: made.id, type });
    }
  }
  return endpoints;
}

export function eventsFor(endpoints: Endpoint[], wanted: number): Event[] {
  const at = new Date().toISOString();
  return Array.from({ length: wanted }, (_, place) => {
    const bare = { ...endpoints[place % endpoints.length]!, eventId: newId("event"), at, data: '{"note":""}' };
    const missing = wantedBytes - bodyOf(bare).length;
    return { ...bare, data: JSON.stringify({ note: "n".repeat(Math.max(0, missing)) }) };
  });
}

export function bodyOf({ clientId, eventId: id, type, at, data }: Event): string {
  const subject = { subjectType: "call", subjectId: id, sequence: 1 };
  return JSON.stringify(
    eventEnvelope({ clientId, id, type, ...subject, createdAt: new Date(at), data: JSON.parse(data) }),
  );
}

export async function insertEvents({ owner }: Ground, events: Event[]) {
  const column = (read: (event: Event) => string) => owner.array(events.map(read));
  await owner`
    insert into events (client_id, id, type, subject_type, subject_id, sequence, data, created_at)
    select client_id, id, type, 'call', id, 1, data::jsonb, at::timestamptz
    from unnest(${column((e) => e.clientId)}::text[], ${column((e) => e.eventId)}::text[], ${column((e) => e.type)}::text[],
      ${column((e) => e.data)}::text[], ${column((e) => e.at)}::text[]) as made(client_id, id, type, data, at)`;
}

export async function insertHistory(ground: Ground, endpoints: Endpoint[]) {
  const events = eventsFor(endpoints, history);
  await insertEvents(ground, events);
  await insertDeliveries(ground, events, "delivered");
  await ground.owner`analyze`;
}

/** As the fan-out leaves them without a free slot: the next sweep reserves slots for the first of each endpoint. */
export async function insertDeliveries(
  { owner }: Ground,
  events: Event[],
  status: "pending" | "delivered" = "pending",
) {
  const column = (read: (event: Event) => string) => owner.array(events.map(read));
  await owner`
    insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status, next_attempt_at)
    select e.client_id, made.id, made.endpoint_id, e.id, e.type, e.created_at, ${status},
      case when ${status} = 'pending' then clock_timestamp() end
    from unnest(${owner.array(events.map(() => newId("delivery")))}::text[], ${column((e) => e.eventId)}::text[],
      ${column((e) => e.id)}::text[]) as made(id, event_id, endpoint_id)
    join events e on e.id = made.event_id`;
}

/** As `emit` enqueues them, in one commit. */
export async function queueFanOuts({ owner }: Ground, events: Event[]) {
  const rows = events.map(({ clientId, eventId, at }) => ({ clientId, eventId, at }));
  await owner`
    insert into event_fan_outs (client_id, event_id, event_created_at)
    select "clientId", "eventId", at from json_to_recordset(${JSON.stringify(rows)}::text::json)
      as g("clientId" text, "eventId" text, at timestamptz)`;
}
