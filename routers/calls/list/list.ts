import { and, desc, eq, exists, gte, inArray, lt, lte, type SQL, sql } from "drizzle-orm";
import { type PgColumn, unionAll } from "drizzle-orm/pg-core";
import type { Tx } from "../../../db/client.ts";
import { idFloor } from "../../../db/ids.ts";
import { agents } from "../../../db/schema/agents.ts";
import { callPairs, calls, callWords } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { toCall, toCalls } from "../resource.ts";
import type { CallFilters, ListCalls } from "../schema.ts";
import { wordsOf } from "./search-terms.ts";

/** Ids are made by the clocks of our processes, `created_at` by the database's: further apart than this no token is good. */
const clocksApartMs = 10 * 60_000;

export async function listCalls(tx: Tx, { limit, cursor, ...filters }: ListCalls, key: ListKey) {
  const rows = await pageOfCalls(tx, filters, readCursor(key, cursor), limit + 1);
  if (rows.length === 0) await requireAgent(tx, filters.agentId);
  return toPage(key, rows.map(toCall), limit, ({ id }) => id);
}

/** The newest calls that pass, made before the one with this id. Every filter has an index in the order of the list. */
export const pageOfCalls = (tx: Tx, filters: CallFilters, before: string | null, limit: number) =>
  toCalls(tx)
    .where(passing(tx, filters, before, limit))
    .orderBy(desc(calls.id))
    .limit(limit);

/** Are there more than so many that pass? */
export async function hasMoreThan(tx: Tx, filters: CallFilters, count: number): Promise<boolean> {
  const found = await tx
    .select({ id: calls.id })
    .from(calls)
    .where(passing(tx, filters, null, count + 1))
    .orderBy(desc(calls.id))
    .offset(count)
    .limit(1);
  return found.length > 0;
}

function passing(tx: Tx, filters: CallFilters, before: string | null, limit: number): SQL | undefined {
  const within = (id: PgColumn) => and(before === null ? undefined : lt(id, before), ...idsWithin(filters, id));
  const all = and(within(calls.id), ...conditions(tx, filters, within));
  const { number } = filters;
  return number === undefined ? all : inArray(calls.id, atEitherEnd(tx, number, all, limit));
}

/** A filter by somebody else's agent is not an empty list: there is no such agent here. */
export async function requireAgent(tx: Tx, agentId: string | undefined) {
  if (agentId === undefined) return;
  const [found] = await tx.select({ id: agents.id }).from(agents).where(eq(agents.id, agentId));
  if (!found) throw new ApiError("agent_not_found", `There is no agent ${agentId}.`);
}

/** Where in the list to look, said of whatever column has the call's id. */
type Within = (id: PgColumn) => SQL | undefined;

function conditions(tx: Tx, filters: CallFilters, within: Within): SQL[] {
  const { status, outcome, agentId, direction, to, from, hasRecording } = filters;
  const { minDurationSeconds: shortest, maxDurationSeconds: longest } = filters;
  return [
    status && eq(calls.status, status),
    outcome && eq(calls.outcome, outcome),
    agentId && eq(calls.agentId, agentId),
    direction && eq(calls.direction, direction),
    to && eq(calls.to, to),
    from && eq(calls.from, from),
    shortest === undefined ? undefined : gte(calls.durationSeconds, shortest),
    longest === undefined ? undefined : lte(calls.durationSeconds, longest),
    ...createdWithin(filters),
    hasRecording === undefined ? undefined : recorded[`${hasRecording}`],
    ...Object.entries(filters.metadata ?? {}).map(([key, value]) => carries(tx, key, value, within)),
    ...(filters.search ? wordsOf(filters.search) : []).map((word) => says(tx, word, within)),
  ].filter((condition) => condition !== undefined && condition !== "") as SQL[];
}

/** In so many words: the index is for these conditions alone, and a parameter could be another. */
const recorded = {
  true: sql`${calls.recordingStatus} = 'ready'`,
  false: sql`${calls.recordingStatus} <> 'ready'`,
};

function createdWithin({ createdAfter, createdBefore }: CallFilters): SQL[] {
  return [
    ...(createdAfter === undefined ? [] : [gte(calls.createdAt, new Date(createdAfter))]),
    ...(createdBefore === undefined ? [] : [lt(calls.createdAt, new Date(createdBefore))]),
  ];
}

/** Ids sort by time, so that the walk begins and ends near there. */
function idsWithin({ createdAfter, createdBefore }: CallFilters, id: PgColumn): SQL[] {
  const floor = (text: string, milliseconds: number) => idFloor("call", apart(new Date(text), milliseconds));
  return [
    ...(createdAfter === undefined ? [] : [gte(id, floor(createdAfter, -clocksApartMs))]),
    ...(createdBefore === undefined ? [] : [lt(id, floor(createdBefore, clocksApartMs))]),
  ];
}

const apart = (at: Date, milliseconds: number) => new Date(at.getTime() + milliseconds);

/**
 * The bounds are said of the pairs and the words too: the walk may begin there, and the planner does not conclude from
 * `call_id = id` and `id < $1` that it could begin at the cursor.
 */
function carries(tx: Tx, key: string, value: string, within: Within): SQL {
  const { callId } = callPairs;
  const pair = and(eq(callPairs.key, key), eq(callPairs.value, value), eq(callId, calls.id), within(callId));
  return exists(
    tx
      .select({ one: sql`1` })
      .from(callPairs)
      .where(and(eq(callPairs.clientId, calls.clientId), pair)),
  );
}

function says(tx: Tx, word: string, within: Within): SQL {
  const said = and(eq(callWords.word, word), eq(callWords.callId, calls.id), within(callWords.callId));
  return exists(
    tx
      .select({ one: sql`1` })
      .from(callWords)
      .where(and(eq(callWords.clientId, calls.clientId), said)),
  );
}

/** Two walks, a page of each: one walk for `to or from` would have to sort all that it finds. */
function atEitherEnd(tx: Tx, number: string, others: SQL | undefined, limit: number) {
  const walk = (end: SQL) =>
    tx.select({ id: calls.id }).from(calls).where(and(end, others)).orderBy(desc(calls.id)).limit(limit);
  return unionAll(walk(eq(calls.to, number)), walk(eq(calls.from, number)));
}
