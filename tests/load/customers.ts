import { sql } from "drizzle-orm";
import { type EventData, type EventType, emit, eventTypes } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { seedClient } from "../../dev/seed.ts";
import { createEndpoint } from "../../routers/webhooks/endpoints/service.ts";
import type { Ground } from "./ground.ts";

/** An event type whose data is a call. */
export type CallEvent = Extract<EventType, `call.${string}`>;
export const callEvents = eventTypes.filter((type): type is CallEvent => type.startsWith("call."));

export type Customer = {
  /** Its index among all endpoints, and its path at the receiver. */
  endpoint: number;
  clientId: string;
  id: string;
  secret: string;
  types: CallEvent[];
};

/** Endpoints at one receiver, assigned to the clients in turn. */
export async function openCustomers(
  { deps }: Ground,
  { clients, endpoints, url }: { clients: number; endpoints: readonly CallEvent[][]; url: string },
): Promise<Customer[]> {
  const clientKeys = [];
  for (let n = 0; n < clients; n++) {
    const { clientId, keyId } = await seedClient(deps, {
      name: `Client ${n}`,
      subject: `auth0|client-${n}`,
      credits: 1,
    });
    clientKeys.push({ clientId, keyId, ring: await deps.providers.vault.keys(clientId, "webhook_secret") });
  }
  const customers: Customer[] = [];
  for (const [endpoint, types] of endpoints.entries()) {
    const { clientId, keyId, ring } = clientKeys[endpoint % clients]!;
    const wanted = { url: `${url}/hook/${endpoint}`, description: null, eventTypes: types };
    const { id, secret } = await deps.db.asClient({ clientId }, (tx) =>
      createEndpoint(tx, wanted, keyId, ring, { allowPrivate: true }),
    );
    customers.push({ endpoint, clientId, id, secret: secret!, types }); // returned, since it signs by `v1`
  }
  return customers;
}

/** An earlier transaction has emitted this event. */
export class AlreadyStated extends Error {
  readonly eventId: string;

  constructor(eventId: string) {
    super(`It is ${eventId}.`);
    this.eventId = eventId;
  }
}

type Fact = { clientId: string; type: CallEvent; subjectId: string; n: number };

/**
 * Emits one event about a new subject in its own transaction, and returns its id after the commit. If an earlier attempt was
 * committed, nothing is written and AlreadyStated has its id: the subject's counter row makes this attempt wait until the
 * earlier one has ended.
 */
export async function stateOnce({ deps }: Ground, { clientId, type, subjectId, n }: Fact): Promise<string> {
  return await deps.db.asClient({ clientId }, async (tx) => {
    await emit(tx, type, subjectId, callNumbered(subjectId, n));
    const stated = await tx.execute<{ id: string }>(
      sql`select id from events where subject_id = ${subjectId} order by sequence`,
    );
    if (stated.length > 1) throw new AlreadyStated(stated[0]!.id);
    return stated[0]!.id;
  });
}

export const newSubject = () => newId("call");

/** The data of an event about a call that does not exist. */
export function callNumbered(id: string, n: number): EventData<CallEvent> {
  const unknown = { outcome: null, endReason: null, failureReason: null, billedSeconds: null, costMicros: null };
  const times = { createdAt: null, joinedAt: null, endedAt: null };
  return {
    ...{ id, agentId: "agent_00000000000000000000000000", agentVersion: 1, direction: "outbound" },
    ...{ to: "+14155550100", from: "+14155550199", status: "active", outcomeFinal: false, output: null },
    ...{ ...unknown, ...times, metadata: { n: String(n) } },
  };
}
