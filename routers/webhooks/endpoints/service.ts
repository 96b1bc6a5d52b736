import { and, count, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { catalogue, emit, eventTypes } from "../../../db/events.ts";
import { newId } from "../../../db/ids.ts";
import { deliveryPauses, webhookEndpoints } from "../../../db/schema/events.ts";
import { ApiError } from "../../core/errors.ts";
import { toIso, toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { codeOf, type DisableCode } from "../../core/webhook-error-codes.ts";
import type { Cipher } from "../../ports/vault.ts";
import { dispatchLimits } from "../deliveries/dispatch.ts";
import type {
  CreatedEndpoint,
  CreateEndpoint,
  Endpoint,
  ListEndpoints,
  RotateSecret,
  UpdateEndpoint,
} from "../schema.ts";
import { sealHeaders } from "./headers.ts";
import { makeSecret, replaceSecret, stillSigning } from "./secrets.ts";
import { type AddressRules, objectionTo } from "./url.ts";

export type EndpointRow = typeof webhookEndpoints.$inferSelect;

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value
export const endpointNotFound = (id: string) =>
  new ApiError("webhook_not_found", `There is no webhook endpoint ${id}.`);
const isEndpoint = (id: string) => and(eq(webhookEndpoints.id, id), isNull(webhookEndpoints.deletedAt));

/** Makes an endpoint. Its secret is shown this once and kept sealed. One that is made switched off misses what is said from now on. */
export async function createEndpoint(
  tx: Tx,
  { headers = {}, signing = "v1", status = "enabled", ...input }: CreateEndpoint,
  ring: Cipher,
  rules: AddressRules,
): Promise<CreatedEndpoint> {
  refuseForbidden(input.url, rules);
  await refuseTooMany(tx);
  const id = newId("endpoint");
  const { columns, shown } = makeSecret(id, signing, ring);
  const [made] = await tx
    .insert(webhookEndpoints)
    .values({ id, ...input, ...columns, ...sealHeaders(headers, id, ring) })
    .returning();
  const stands = status === "disabled" ? await switchOff(tx, id, byRequest) : made!;
  return { ...(await show(tx, stands)), secret: shown };
}

export async function getEndpoint(tx: Tx, id: string): Promise<Endpoint> {
  return show(tx, await findEndpoint(tx, id));
}

export async function findEndpoint(tx: Tx, id: string): Promise<EndpointRow> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id));
  if (!found) throw endpointNotFound(id);
  return found;
}

export async function listEndpoints(tx: Tx, { limit, cursor, status }: ListEndpoints, key: ListKey) {
  const before = readCursor(key, cursor);
  const isBefore = before === null ? undefined : lt(webhookEndpoints.id, before);
  const isThus = status && eq(webhookEndpoints.status, status);
  const rows = await tx
    .select()
    .from(webhookEndpoints)
    .where(and(isBefore, isThus, isNull(webhookEndpoints.deletedAt)))
    .orderBy(desc(webhookEndpoints.id))
    .limit(limit + 1);
  const page = toPage(key, rows, limit, ({ id }) => id);
  const pauses = await pausesOf(tx);
  return { ...page, items: page.items.map((row) => onTheWire(row, pauses)) };
}

/**
 * Changes an endpoint. While it is disabled nothing new is queued for it, and what falls due for it is dead; once it is
 * enabled again, what was stated in between can be replayed.
 */
export async function updateEndpoint(
  tx: Tx,
  { id, missed, ...change }: Omit<UpdateEndpoint, "headers">,
  rules: AddressRules,
): Promise<Endpoint> {
  if (change.url !== undefined) refuseForbidden(change.url, rules);
  const before = await lockEndpoint(tx, id);
  if (change.status === "disabled" && before.status === "enabled")
    await disableEndpoint(tx, before, "request", byRequest);
  const enabling = change.status === "enabled" && before.status === "disabled";
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({ ...change, ...(enabling ? enabled : {}), ...(missed === null ? forgotten(enabling) : {}), updatedAt: now })
    .where(eq(webhookEndpoints.id, id))
    .returning();
  return show(tx, changed!);
}

/** It begins anew: what it did wrong before it was switched off is not held against it. */
const enabled = {
  disabledReason: null,
  disabledAt: null,
  missedUntil: sql`case when missed_since is not null then clock_timestamp() end` as unknown as Date,
  consecutiveFailures: 0,
  failingSince: null,
};

/** Nothing was missed, but what an endpoint that stays off misses from now on. The statement sees the row as it was before. */
const forgotten = (enabling: boolean) => ({
  missedSince: enabling ? null : (sql`case when disabled_at is not null then clock_timestamp() end` as unknown as Date),
  missedUntil: null,
});

/** Replaces the client's own headers on every request to come. */
export async function setHeaders(tx: Tx, id: string, headers: Record<string, string>, ring: Cipher) {
  await lockEndpoint(tx, id);
  await tx
    .update(webhookEndpoints)
    .set({ ...sealHeaders(headers, id, ring), updatedAt: now })
    .where(eq(webhookEndpoints.id, id));
}

/** Gives an endpoint a new secret, shown this once. */
export async function rotateSecret(tx: Tx, input: RotateSecret, ring: Cipher): Promise<CreatedEndpoint> {
  const { row, secret } = await replaceSecret(tx, await lockEndpoint(tx, input.id), input, ring);
  return { ...(await show(tx, row)), secret };
}

/** Locks an endpoint; always before its deliveries. */
export async function lockEndpoint(tx: Tx, id: string): Promise<EndpointRow> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id)).for("no key update");
  if (!found) throw endpointNotFound(id);
  return found;
}

/** Switches a locked endpoint off, and says so to the others. */
async function disableEndpoint(tx: Tx, { id, url }: EndpointRow, code: DisableCode, reason: string) {
  await switchOff(tx, id, reason);
  await emit(tx, "webhook.endpoint.disabled", id, { id, url, reason, code });
}

const byRequest = "Disabled by request.";

/** From now on it misses what is said, and still misses what it missed before. */
async function switchOff(tx: Tx, id: string, reason: string): Promise<EndpointRow> {
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({
      status: "disabled",
      disabledReason: reason,
      disabledAt: now,
      missedSince: sql`coalesce(missed_since, clock_timestamp())`,
      missedUntil: null,
      updatedAt: now,
    })
    .where(eq(webhookEndpoints.id, id))
    .returning();
  return changed!;
}

/**
 * Switches an endpoint off that is still on and as bad as it was found; true when it was. `gone` is the receiver's own
 * word and stands by itself; a success since then takes the other two back.
 */
export async function disableFailing(
  tx: Tx,
  id: string,
  why: Exclude<DisableCode, "request">,
  reason: string,
): Promise<boolean> {
  const [endpoint] = await tx.select().from(webhookEndpoints).where(isEndpoint(id)).for("no key update");
  if (endpoint?.status !== "enabled" || (why !== "gone" && endpoint.consecutiveFailures === 0)) return false;
  await disableEndpoint(tx, endpoint, why, reason);
  return true;
}

/** Removes an endpoint and forgets its secrets. What was still on its way there is dead; the record stays. */
export async function removeEndpoint(tx: Tx, id: string) {
  await lockEndpoint(tx, id);
  const nothing = { secret: Buffer.alloc(0), previousSecrets: [], headers: null, headerNames: [] };
  await tx
    .update(webhookEndpoints)
    .set({ deletedAt: now, updatedAt: now, ...nothing })
    .where(eq(webhookEndpoints.id, id));
  await tx.execute(sql`
    with mine as (
      select d.id from deliveries d where d.endpoint_id = ${id} and d.status = 'pending' order by d.id for update
    )
    update deliveries d set status = 'dead', last_error = 'endpoint_deleted', next_attempt_at = null, admitted_until = null,
      finished_at = clock_timestamp()
    from mine where d.id = mine.id`);
}

/** Every event that there is, with what it says. */
export function listEventTypes() {
  const items = eventTypes.map((type) => ({ type, description: catalogue[type].description }));
  return { items, nextCursor: null, hasMore: false };
}

function refuseForbidden(url: string, rules: AddressRules) {
  const objection = objectionTo(url, rules);
  if (objection)
    throw new ApiError("webhook_url_forbidden", objection, { details: [{ path: "url", message: objection }] });
}

/** Counted under a lock, so that two at once do not both become the last. */
async function refuseTooMany(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('webhooks.create:' || current_setting('app.client_id'), 0))`,
  );
  const [existing] = await tx.select({ n: count() }).from(webhookEndpoints).where(isNull(webhookEndpoints.deletedAt));
  if (existing!.n < dispatchLimits.endpointsPerClient) return;
  const most = dispatchLimits.endpointsPerClient;
  throw new ApiError("webhook_limit_reached", `A client has at most ${most} webhook endpoints. Delete one first.`);
}

/** Where the operator holds back what goes to this client's endpoints: by the wall it sees no other pauses, and the scope alone. */
async function pausesOf(tx: Tx): Promise<ReadonlySet<string>> {
  const rows = await tx.select({ scope: deliveryPauses.scope }).from(deliveryPauses);
  return new Set(rows.map(({ scope }) => scope));
}

const show = async (tx: Tx, row: EndpointRow) => onTheWire(row, await pausesOf(tx));

function onTheWire(row: EndpointRow, pauses: ReadonlySet<string>): Endpoint {
  return {
    id: row.id,
    url: row.url,
    description: row.description,
    eventTypes: row.eventTypes,
    headerNames: row.headerNames,
    payload: row.payload,
    ratePerSecond: row.ratePerSecond,
    signing: row.signing,
    publicKey: row.publicKey,
    previousSecrets: stillSigning(row.previousSecrets, new Date()).map(({ until }) => ({ validUntil: until })),
    status: row.status,
    disabledReason: row.disabledReason,
    disabledCode: codeOf(row.disabledReason),
    disabledAt: toIsoOrNull(row.disabledAt),
    paused: ["all", row.clientId, row.id].some((scope) => pauses.has(scope)),
    health: healthOf(row),
    missed: row.missedSince && { since: toIso(row.missedSince), until: toIsoOrNull(row.missedUntil) },
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}

function healthOf(row: EndpointRow): Endpoint["health"] {
  const working = row.failingSince === null ? "healthy" : "failing";
  return {
    status: row.status === "disabled" ? "disabled" : working,
    consecutiveFailures: row.consecutiveFailures,
    failingSince: toIsoOrNull(row.failingSince),
    lastSuccessAt: toIsoOrNull(row.lastSuccessAt),
    lastFailureAt: toIsoOrNull(row.lastFailureAt),
  };
}
