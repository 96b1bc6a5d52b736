import { and, desc, eq, exists, gte, inArray, lt, lte, type SQL, sql } from "drizzle-orm";
import { type PgColumn, unionAll } from "drizzle-orm/pg-core";
import type { Tx } from "../../../db/client.ts";
import { idFloor } from "../../../db/ids.ts";
import { type Given, pages } from "../../../db/prepared.ts";
import { agents } from "../../../db/schema/agents.ts";
import { callPairs, calls, callWords } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { toCall, toCalls } from "../resource.ts";
import type { CallFilters, ListCalls } from "./schema.ts";
import { searchTermsOf } from "./search-terms.ts";

/** Ids use the clocks of our processes, `created_at` the database's clock. Clocks further apart than this fail authentication. */
const maxClockSkewMs = 10 * 60_000;

export async function listCalls(tx: Tx, { limit, cursor, ...filters }: ListCalls, key: ListKey) {
  const before = readCursor(key, cursor);
  const isFiltered = Object.values(filters).some((value) => value !== undefined);
  const rows = isFiltered
    ? await pageOfCalls(tx, filters, before, limit + 1)
    : await newestCalls(tx, { before, limit: limit + 1 });
  if (rows.length === 0) await requireAgent(tx, filters.agentId);
  return toPage(key, rows.map(toCall), limit, ({ id }) => id);
}

const newestCalls = pages((db, given: Given<never>) =>
  toCalls(db)
    .where(given.before && lt(calls.id, given.before))
    .orderBy(desc(calls.id))
    .limit(sql.placeholder("limit")),
);

/** The newest calls that match, older than the call `before`. Every filter has an index in the order of the list. */
export const pageOfCalls = (tx: Tx, filters: CallFilters, before: string | null, limit: number) =>
  toCalls(tx)
    .where(matching(tx, filters, before, limit))
    .orderBy(desc(calls.id))
    .limit(limit);

/** Whether more than `count` calls match. */
export async function hasMoreThan(tx: Tx, filters: CallFilters, count: number): Promise<boolean> {
  const found = await tx
    .select({ id: calls.id })
    .from(calls)
    .where(matching(tx, filters, null, count + 1))
    .orderBy(desc(calls.id))
    .offset(count)
    .limit(1);
  return found.length > 0;
}

function matching(tx: Tx, filters: CallFilters, before: string | null, limit: number): SQL | undefined {
  const within = (id: PgColumn) => and(before === null ? undefined : lt(id, before), ...idsWithin(filters, id));
  const all = and(within(calls.id), ...conditions(tx, filters, within));
  const { number } = filters;
  return number === undefined ? all : inArray(calls.id, atEitherEnd(tx, number, all, limit));
}

/** A filter by an agent of another client is 404, not an empty list. */
export async function requireAgent(tx: Tx, agentId: string | undefined) {
  if (agentId === undefined) return;
  const [found] = await tx.select({ id: agents.id }).from(agents).where(eq(agents.id, agentId));
  if (!found) throw new ApiError("agent_not_found", `There is no agent ${agentId}.`);
}

/** The range of ids to search, for the given column with the call's id. */
type Within = (id: PgColumn) => SQL | undefined;

function conditions(tx: Tx, filters: CallFilters, within: Within): SQL[] {
  const { status, outcome, agentId, direction, to, from, hasRecording } = filters;
  const { minDurationSeconds: min, maxDurationSeconds: max } = filters;
  return [
    status && eq(calls.status, status),
    outcome && eq(calls.outcome, outcome),
    agentId && eq(calls.agentId, agentId),
    direction && eq(calls.direction, direction),
    to && eq(calls.to, to),
    from && eq(calls.from, from),
    min === undefined ? undefined : gte(calls.durationSeconds, min),
    max === undefined ? undefined : lte(calls.durationSeconds, max),
    ...createdWithin(filters),
    hasRecording === undefined ? undefined : recordingIs[`${hasRecording}`],
    ...Object.entries(filters.metadata ?? {}).map(([key, value]) => hasPair(tx, key, value, within)),
    ...(filters.search ? searchTermsOf(filters.search) : []).map((word) => hasTerm(tx, word, within)),
  ].filter((condition) => condition !== undefined && condition !== "") as SQL[];
}

/** Literals, not parameters: the partial indexes match these exact conditions only. */
const recordingIs = {
  true: sql`${calls.recordingStatus} = 'ready'`,
  false: sql`${calls.recordingStatus} <> 'ready'`,
};

function createdWithin({ createdAfter, createdBefore }: CallFilters): SQL[] {
  return [
    ...(createdAfter === undefined ? [] : [gte(calls.createdAt, new Date(createdAfter))]),
    ...(createdBefore === undefined ? [] : [lt(calls.createdAt, new Date(createdBefore))]),
  ];
}

/** Ids sort by time: these bounds let the index scan start and stop close to the wanted times. */
function idsWithin({ createdAfter, createdBefore }: CallFilters, id: PgColumn): SQL[] {
  const boundAt = (text: string, milliseconds: number) => idFloor("call", shifted(new Date(text), milliseconds));
  return [
    ...(createdAfter === undefined ? [] : [gte(id, boundAt(createdAfter, -maxClockSkewMs))]),
    ...(createdBefore === undefined ? [] : [lt(id, boundAt(createdBefore, maxClockSkewMs))]),
  ];
}

const shifted = (at: Date, milliseconds: number) => new Date(at.getTime() + milliseconds);

/**
 * The bounds are repeated on `call_id` of the pairs and words: the scan may start there, and the planner does not derive
 * from `call_id = id` and `id < $1` that it could start at the cursor.
 */
function hasPair(tx: Tx, key: string, value: string, within: Within): SQL {
  const { callId } = callPairs;
  const pair = and(eq(callPairs.key, key), eq(callPairs.value, value), eq(callId, calls.id), within(callId));
  return exists(
    tx
      .select({ one: sql`1` })
      .from(callPairs)
      .where(and(eq(callPairs.clientId, calls.clientId), pair)),
  );
}

function hasTerm(tx: Tx, word: string, within: Within): SQL {
  const term = and(eq(callWords.word, word), eq(callWords.callId, calls.id), within(callWords.callId));
  return exists(
    tx
      .select({ one: sql`1` })
      .from(callWords)
      .where(and(eq(callWords.clientId, calls.clientId), term)),
  );
}

/** Two scans, one page of each. A single scan for `to or from` would have to sort all matches. */
function atEitherEnd(tx: Tx, number: string, others: SQL | undefined, limit: number) {
  const scan = (end: SQL) =>
    tx.select({ id: calls.id }).from(calls).where(and(end, others)).orderBy(desc(calls.id)).limit(limit);
  return unionAll(scan(eq(calls.to, number)), scan(eq(calls.from, number)));
}
