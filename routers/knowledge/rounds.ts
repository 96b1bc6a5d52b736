import { and, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { startWorkflow } from "../workflows/service.ts";
import { endOf, stateOf, type Tally } from "./machine.ts";
import { type BaseRow, changeBase, type FileRow, now, say } from "./service.ts";

/** How long a source may take at the provider, which knows no failed one: after that it has failed for us. */
const readyWithinSeconds = 15 * 60;
export const newDeadline = sql`clock_timestamp() + make_interval(secs => ${readyWithinSeconds})` as unknown as Date;

type NewFile = Omit<typeof knowledgeFiles.$inferInsert, "clientId" | "state" | "round" | "deadlineAt">;

/** Begins to read files into a base that the caller holds: a workflow for each. */
export async function beginFiles(tx: Tx, base: BaseRow, files: readonly NewFile[]): Promise<FileRow[]> {
  const common = { state: "pending", round: roundOf(base), deadlineAt: newDeadline } as const;
  const rows = await tx
    .insert(knowledgeFiles)
    .values(files.map((file) => ({ ...file, ...common })))
    .returning();
  for (const { id } of rows) await startWorkflow(tx, "knowledge-ingest", id);
  await recount(tx, base);
  return rows;
}

/** The round that is running, or the next. */
export const roundOf = ({ state, round }: BaseRow) => (state === "ingesting" ? round : round + 1);

/** Brings a base, which the caller holds, in line with its files, and tells of a round that begins or ends with it. */
export async function recount(tx: Tx, base: BaseRow): Promise<void> {
  const { tally, succeeded, failed, filled } = await count(tx, base);
  const state = stateOf(tally);
  const stateReason = state === "failed" ? "Nothing could be read into it; each of its files says why." : null;
  const round = state === "ingesting" ? roundOf(base) : base.round;
  const next = await changeBase(tx, base.id, { state, stateReason, round, readyFiles: filled });
  const [was, is] = [base.state === "ingesting", state === "ingesting"];
  if (is && !was) await say(tx, "knowledge_base.ingestion.started", next);
  if (was && !is) await say(tx, `knowledge_base.ingestion.${endOf({ succeeded, failed })}`, next);
}

/** A file that kept what it had when it was to be read again is ready, and says why it was not: it did not succeed. */
async function count(tx: Tx, base: BaseRow) {
  const { state, round, stateReason, documents } = knowledgeFiles;
  const inRound = sql`${round} = ${base.round}`;
  const number = (filter: ReturnType<typeof sql>) => sql<number>`count(*) filter (where ${filter})::int`;
  const [counted] = await tx
    .select({
      pending: number(sql`${state} = 'pending'`),
      ingesting: number(sql`${state} = 'ingesting'`),
      ready: number(sql`${state} = 'ready'`),
      failedAtAll: number(sql`${state} = 'failed'`),
      succeeded: number(sql`${inRound} and ${state} = 'ready' and ${stateReason} is null`),
      failed: number(sql`${inRound} and (${state} = 'failed' or (${state} = 'ready' and ${stateReason} is not null))`),
      filled: number(sql`${documents} > 0`),
    })
    .from(knowledgeFiles)
    .where(and(eq(knowledgeFiles.knowledgeBaseId, base.id), ne(state, "deleted")));
  const { pending, ingesting, ready, failedAtAll, ...ended } = counted!;
  const tally: Tally = { pending, ingesting, ready, failed: failedAtAll };
  return { tally, ...ended };
}

export async function changeFile(tx: Tx, id: string, set: Partial<typeof knowledgeFiles.$inferInsert>) {
  const [changed] = await tx
    .update(knowledgeFiles)
    .set({ ...set, updatedAt: now })
    .where(eq(knowledgeFiles.id, id))
    .returning();
  return changed!;
}
