import { and, count, desc, eq, getTableColumns, inArray, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { catalogue, emit, eventTypes } from "../../../db/events.ts";
import { newId } from "../../../db/ids.ts";
import { type Given, hotRead, pages, type Wire } from "../../../db/prepared.ts";
import { deliveryPauses, webhookEndpoints } from "../../../db/schema/events.ts";
import { dbNow } from "../../../db/time.ts";
import { lockCreator } from "../../api-keys/creators.ts";
import { requireScope } from "../../core/authorize.ts";
import { ApiError } from "../../core/errors.ts";
import { toIso, toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { type DisableCode, disableReasons } from "../../core/webhook-error-codes.ts";
import { type AddressRules, objectionTo } from "../../ports/addresses.ts";
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

export type EndpointRow = typeof webhookEndpoints.$inferSelect;

export const endpointNotFound = (id: string) =>
  new ApiError("webhook_not_found", `There is no webhook endpoint ${id}.`);
const isEndpoint = (id: string) => and(eq(webhookEndpoints.id, id), isNull(webhookEndpoints.deletedAt));

/** Creates an endpoint. Its secret is returned only here and stored sealed. A disabled endpoint misses all events from now on. */
export async function createEndpoint(
  tx: Tx,
  { headers = {}, signing = "v1", status = "enabled", ...input }: CreateEndpoint,
  createdBy: string,
  cipher: Cipher,
  rules: AddressRules,
): Promise<CreatedEndpoint> {
  requireScope((await lockCreator(tx, createdBy)).scopes, "webhooks:write");
  refuseForbidden(input.url, rules);
  await refuseTooMany(tx);
  const id = newId("endpoint");
  const { columns, shown } = makeSecret(id, signing, cipher);
  const [made] = await tx
    .insert(webhookEndpoints)
    .values({ id, ...input, createdBy, ...columns, ...sealHeaders(headers, id, cipher) })
    .returning();
  const row = status === "disabled" ? await setDisabled(tx, id, "request") : made!;
  return { ...(await withPauses(tx, row)), secret: shown };
}

export async function getEndpoint(tx: Tx, id: string): Promise<Endpoint> {
  const [found] = await endpointById(tx, { id });
  if (!found) throw endpointNotFound(id);
  return toEndpoint(found.endpoint, found.isPaused);
}

const { secret: _, headers: __, rateDueAt: ___, slowAt: ____, ...shownColumns } = getTableColumns(webhookEndpoints);

/** The operator's pauses that concern this client: tenant isolation shows only those, and only their scope. */
const isPaused = sql<boolean>`exists (
  select from ${deliveryPauses} p where p.scope in ('all', ${webhookEndpoints.clientId}, ${webhookEndpoints.id}))`;

const shownEndpoints = (db: Tx) => db.select({ endpoint: shownColumns, isPaused }).from(webhookEndpoints).$dynamic();

const endpointById = hotRead((db) =>
  shownEndpoints(db).where(and(eq(webhookEndpoints.id, sql.placeholder("id")), isNull(webhookEndpoints.deletedAt))),
);

export async function findEndpoint(tx: Tx, id: string): Promise<EndpointRow> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id));
  if (!found) throw endpointNotFound(id);
  return found;
}

export async function listEndpoints(tx: Tx, { limit, cursor, status, createdBy }: ListEndpoints, key: ListKey) {
  const rows = await endpointPages(tx, { status, createdBy, before: readCursor(key, cursor), limit: limit + 1 });
  const items = rows.map(({ endpoint, isPaused }) => toEndpoint(endpoint, isPaused));
  return toPage(key, items, limit, ({ id }) => id);
}

const endpointPages = pages((db, given: Given<"status" | "createdBy">) =>
  shownEndpoints(db)
    .where(
      and(
        given.before && lt(webhookEndpoints.id, given.before),
        given.status && eq(webhookEndpoints.status, given.status),
        given.createdBy && eq(webhookEndpoints.createdBy, given.createdBy),
        isNull(webhookEndpoints.deletedAt),
      ),
    )
    .orderBy(desc(webhookEndpoints.id))
    .limit(sql.placeholder("limit")),
);

/**
 * Updates an endpoint. While it is disabled, no deliveries are queued for it, and those that become due are marked dead.
 * After it is enabled, the events it missed can be replayed.
 */
export async function updateEndpoint(
  tx: Tx,
  { id, missed, ...change }: Omit<UpdateEndpoint, "headers">,
  rules: AddressRules,
): Promise<Endpoint> {
  if (change.url !== undefined) refuseForbidden(change.url, rules);
  const before = await lockEndpoint(tx, id);
  if (change.status === "disabled" && before.status === "enabled") await disableEndpoint(tx, before, "request");
  const enabling = change.status === "enabled" && before.status === "disabled";
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({
      ...change,
      ...(enabling && enabledColumns),
      ...(missed === null && clearedMissed(enabling)),
      updatedAt: dbNow(),
    })
    .where(eq(webhookEndpoints.id, id))
    .returning();
  return withPauses(tx, changed!);
}

/** Enabling resets the health of an endpoint. */
const enabledColumns = {
  disabledCode: null,
  disabledAt: null,
  missedUntil: sql<Date>`case when missed_since is not null then clock_timestamp() end`,
  consecutiveFailures: 0,
  failingSince: null,
};

/** Forgets what was missed. An endpoint that stays disabled misses events from now on. The expression sees the old row. */
const clearedMissed = (enabling: boolean) => ({
  missedSince: enabling ? null : sql<Date>`case when disabled_at is not null then clock_timestamp() end`,
  missedUntil: null,
});

/** Replaces all of the client's own headers, for requests from now on. */
export async function setHeaders(tx: Tx, id: string, headers: Record<string, string>, cipher: Cipher) {
  await lockEndpoint(tx, id);
  await tx
    .update(webhookEndpoints)
    .set({ ...sealHeaders(headers, id, cipher), updatedAt: dbNow() })
    .where(eq(webhookEndpoints.id, id));
}

/** Gives an endpoint a new secret, which is returned only here. */
export async function rotateSecret(tx: Tx, input: RotateSecret, cipher: Cipher): Promise<CreatedEndpoint> {
  const { row, secret } = await replaceSecret(tx, await lockEndpoint(tx, input.id), input, cipher);
  return { ...(await withPauses(tx, row)), secret };
}

/** Locks an endpoint. Lock order: the endpoint before its deliveries. */
export async function lockEndpoint(tx: Tx, id: string): Promise<EndpointRow> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id)).for("no key update");
  if (!found) throw endpointNotFound(id);
  return found;
}

/** Disables a locked endpoint and emits an event, which the client's other endpoints receive. */
export async function disableEndpoint(tx: Tx, { id, url }: Pick<EndpointRow, "id" | "url">, code: DisableCode) {
  await setDisabled(tx, id, code);
  await emit(tx, "webhook.endpoint.disabled", id, { id, url, reason: disableReasons[code], code });
}

/** A missed range that was not replayed yet is extended, not replaced. */
async function setDisabled(tx: Tx, id: string, code: DisableCode): Promise<EndpointRow> {
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({
      status: "disabled",
      disabledCode: code,
      disabledAt: dbNow(),
      missedSince: sql`coalesce(missed_since, clock_timestamp())`,
      missedUntil: null,
      updatedAt: dbNow(),
    })
    .where(eq(webhookEndpoints.id, id))
    .returning();
  return changed!;
}

/**
 * Disables an endpoint that is enabled and still failing. Returns whether it did. `gone` is the receiver's own response and
 * always applies; a success in the meantime cancels the other two.
 */
export async function disableFailing(tx: Tx, id: string, code: Exclude<DisableCode, "request">): Promise<boolean> {
  const [endpoint] = await tx.select().from(webhookEndpoints).where(isEndpoint(id)).for("no key update");
  if (endpoint?.status !== "enabled" || (code !== "gone" && endpoint.consecutiveFailures === 0)) return false;
  await disableEndpoint(tx, endpoint, code);
  return true;
}

/** Deletes an endpoint and its secrets. Pending deliveries are marked dead; their records are kept. */
export async function removeEndpoint(tx: Tx, id: string) {
  await lockEndpoint(tx, id);
  const noSecrets = { secret: Buffer.alloc(0), previousSecrets: [], headers: null, headerNames: [] };
  await tx
    .update(webhookEndpoints)
    .set({ deletedAt: dbNow(), updatedAt: dbNow(), ...noSecrets })
    .where(eq(webhookEndpoints.id, id));
  await tx.execute(sql`
    with mine as (
      select d.id from deliveries d where d.endpoint_id = ${id} and d.status = 'pending' order by d.id for update
    )
    update deliveries d set status = 'dead', last_error = 'endpoint_deleted', next_attempt_at = null, admitted_until = null,
      finished_at = clock_timestamp()
    from mine where d.id = mine.id`);
}

/** All event types with their descriptions. */
export function listEventTypes() {
  const items = eventTypes.map((type) => ({ type, description: catalogue[type].description }));
  return { items, nextCursor: null, hasMore: false };
}

function refuseForbidden(url: string, rules: AddressRules) {
  const objection = objectionTo(url, rules);
  if (objection)
    throw new ApiError("webhook_url_forbidden", objection, { details: [{ path: "url", message: objection }] });
}

/** Counted under a lock, so that concurrent requests cannot exceed the limit. */
async function refuseTooMany(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('webhooks.create:' || current_setting('app.client_id'), 0))`,
  );
  const [existing] = await tx.select({ n: count() }).from(webhookEndpoints).where(isNull(webhookEndpoints.deletedAt));
  if (existing!.n < dispatchLimits.endpointsPerClient) return;
  const limit = dispatchLimits.endpointsPerClient;
  throw new ApiError("webhook_limit_reached", `A client can have ${limit} webhook endpoints. Delete one first.`);
}

async function withPauses(tx: Tx, row: EndpointRow): Promise<Endpoint> {
  const scopes = ["all", row.clientId, row.id];
  const paused = await tx
    .select({ scope: deliveryPauses.scope })
    .from(deliveryPauses)
    .where(inArray(deliveryPauses.scope, scopes));
  return toEndpoint(row, paused.length > 0);
}

type ShownRow = Wire<Omit<EndpointRow, "secret" | "headers" | "rateDueAt" | "slowAt">>;

function toEndpoint(row: ShownRow, isPaused: boolean): Endpoint {
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
    previousSecrets: stillSigning(row.previousSecrets, new Date()).map(({ until }) => ({ expiresAt: until })),
    status: row.status,
    disabledReason: row.disabledCode && disableReasons[row.disabledCode],
    disabledCode: row.disabledCode,
    disabledAt: toIsoOrNull(row.disabledAt),
    paused: isPaused,
    health: healthOf(row),
    missed: missedOf(row),
    createdBy: row.createdBy,
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}

const missedOf = ({ missedSince, missedUntil }: ShownRow): Endpoint["missed"] =>
  missedSince === null ? null : { createdAfter: toIso(missedSince), createdBefore: toIsoOrNull(missedUntil) };

function healthOf(row: ShownRow): Endpoint["health"] {
  const enabledStatus = row.failingSince === null ? "healthy" : "failing";
  return {
    status: row.status === "disabled" ? "disabled" : enabledStatus,
    consecutiveFailures: row.consecutiveFailures,
    failingSince: toIsoOrNull(row.failingSince),
    lastSuccessAt: toIsoOrNull(row.lastSuccessAt),
    lastFailureAt: toIsoOrNull(row.lastFailureAt),
  };
}
