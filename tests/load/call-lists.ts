import { type SQLWrapper, sql } from "drizzle-orm";
import type { Database, Tx } from "../../db/client.ts";
import { pageOfCalls } from "../../routers/calls/list/list.ts";
import type { CallFilters } from "../../routers/calls/list/schema.ts";
import type { Crowd } from "./call-ground.ts";

export const pageSize = 20;
/** A page may read a few more index nodes than another. */
export const slackBuffers = 60;

type Plan = {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  "Actual Rows": number;
  "Actual Loops": number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: Plan[];
};
type Measured = { rows: number; milliseconds: number; buffers: number; plan: Plan };
export type Measurement = { name: string; first: Measured; hundredth: Measured | null; objections: string[] };

/** Every filter alone, and common combinations. */
export function filtersOf({ agentId, number, since, until }: Crowd): Record<string, CallFilters> {
  const span = until.getTime() - since.getTime();
  const createdAfter = new Date(since.getTime() + span / 4).toISOString();
  const createdBefore = new Date(until.getTime() - span / 4).toISOString();
  return {
    none: {},
    status: { status: "ended" },
    "status, few": { status: "failed" },
    outcome: { outcome: "busy" },
    agentId: { agentId },
    direction: { direction: "inbound" },
    number: { number },
    "number, few": { number: "+14155550009" },
    to: { to: number },
    from: { from: number },
    createdAfter: { createdAfter },
    createdBefore: { createdBefore },
    "created between": { createdAfter, createdBefore },
    minDurationSeconds: { minDurationSeconds: 60 },
    "duration, few": { minDurationSeconds: 590 },
    maxDurationSeconds: { maxDurationSeconds: 30 },
    hasRecording: { hasRecording: true },
    "hasRecording false": { hasRecording: false },
    metadata: { metadata: { tier: "gold" } },
    "metadata, two": { metadata: { tier: "gold", region: "r7" } },
    "metadata, one call": { metadata: { tier: "bronze", orderId: "77" } },
    search: { search: "appointment" },
    "search, two": { search: "thursday appointment" },
    "search, few": { search: "refund thursday" },
    "search, rare": { search: "w4711 appointment" },
    together: { agentId, status: "ended", outcome: "completed", createdAfter },
    "together, with metadata": { status: "ended", metadata: { tier: "silver" }, minDurationSeconds: 30 },
    "together, with search": { search: "appointment", metadata: { region: "r7" } },
  };
}

/** The first and the hundredth page of one list, with problems of their plans. */
export async function measureList(db: Database, crowd: Crowd, name: string, filters: CallFilters) {
  const first = await explain(db, crowd.clientId, filters, null);
  const before = await positionAfter(db, crowd.clientId, filters, 99 * pageSize);
  const hundredth = before === null ? null : await explain(db, crowd.clientId, filters, before);
  const objections = [...shameful(first.plan), ...(hundredth ? shameful(hundredth.plan) : [])];
  if (hundredth && hundredth.buffers > 2 * first.buffers + slackBuffers) {
    objections.push(`the hundredth page reads ${hundredth.buffers} buffers, the first ${first.buffers}`);
  }
  return { name, first, hundredth, objections: [...new Set(objections)] } satisfies Measurement;
}

/** The last call of this many; null when there are not more. */
async function positionAfter(db: Database, clientId: string, filters: CallFilters, rows: number) {
  const found = await db.asClient({ clientId }, (tx) => pageOfCalls(tx, filters, null, rows + 1), { mode: "read" });
  return found.length > rows ? (found[rows - 1]?.call.id ?? null) : null;
}

const explain = (db: Database, clientId: string, filters: CallFilters, before: string | null) =>
  explained(db, clientId, (tx) => pageOfCalls(tx, filters, before, pageSize + 1));

/** The plan and its cost. */
export async function explained(db: Database, clientId: string, query: (tx: Tx) => SQLWrapper): Promise<Measured> {
  const look = () => {
    const work = (tx: Tx) => tx.execute(sql`explain (analyze, buffers, format json) ${query(tx)}`);
    return db.asClient({ clientId }, work, { mode: "read" });
  };
  await look(); // warms the cache, so that the second run counts only what the plan reads
  const [row] = await look();
  const received = row?.["QUERY PLAN"];
  const [{ Plan: plan, "Execution Time": milliseconds }] =
    typeof received === "string" ? JSON.parse(received) : received;
  return {
    plan,
    milliseconds,
    rows: plan["Actual Rows"],
    buffers: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
  };
}

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
const tables = ["calls", "call_pairs", "call_words"];

export function shameful(plan: Plan): string[] {
  return nodes(plan).flatMap((node) => {
    const table = node["Relation Name"];
    if (node["Node Type"] === "Seq Scan" && table && tables.includes(table)) return [`reads the whole of ${table}`];
    const [below] = node.Plans ?? [];
    const sorts = node["Node Type"] === "Sort" || node["Node Type"] === "Incremental Sort";
    if (sorts && below && below["Actual Rows"] * below["Actual Loops"] > 2 * (pageSize + 1)) {
      return [`sorts ${below["Actual Rows"] * below["Actual Loops"]} rows`];
    }
    return [];
  });
}

/** A plan in one line: the nodes from the top, with their indexes. */
export const inOneLine = (plan: Plan): string =>
  nodes(plan)
    .filter((node) => !["Limit", "Result"].includes(node["Node Type"]))
    .map((node) => [node["Node Type"], node["Index Name"]].filter(Boolean).join(" "))
    .join(" < ");
