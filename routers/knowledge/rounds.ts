import { and, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { startWorkflow } from "../workflows/service.ts";
import { type BaseRow, changeBase, dbNow, emitKnowledgeEvent, type FileRow } from "./service.ts";
import { endOf, stateOf, type Tally } from "./transitions.ts";

/** How long a source may take at the provider, which knows no failed one: after that it has failed for us. */
const readyWithinSeconds = 15 * 60;
export const newDeadline = sql`clock_timestamp() + make_interval(secs => ${readyWithinSeconds})` as unknown as Date;

type NewFile = Omit<typeof knowledgeFiles.$inferInsert, "clientId" | "status" | "round" | "deadlineAt">;

/** Begins to read files into a base that the caller holds: a workflow for each. */
export async function beginFiles(tx: Tx, base: BaseRow, files: readonly NewFile[]): Promise<FileRow[]> {
  const common = { status: "pending", round: roundOf(base), deadlineAt: newDeadline } as const;
  const rows = await tx
    .insert(knowledgeFiles)
    .values(files.map((file) => ({ ...file, ...common })))
    .returning();
  for (const { id } of rows) await startWorkflow(tx, "knowledge-ingest", id);
  await recount(tx, base);
  return rows;
}

/** The round that is running, or the next. */
export const roundOf = ({ status, round }: BaseRow) => (status === "ingesting" ? round : round + 1);

/** Brings a base, which the caller holds, in line with its files, and tells of a round that begins or ends with it. */
export async function recount(tx: Tx, base: BaseRow): Promise<void> {
  const { tally, succeeded, failed, filled } = await count(tx, base);
  const status = stateOf(tally);
  const statusReason = status === "failed" ? "Nothing could be read into it; each of its files says why." : null;
  const round = status === "ingesting" ? roundOf(base) : base.round;
  const next = await changeBase(tx, base.id, { status, statusReason, round, readyFiles: filled });
  const [was, is] = [base.status === "ingesting", status === "ingesting"];
  if (is && !was) await emitKnowledgeEvent(tx, "knowledge_base.ingestion.started", next);
  if (was && !is) await emitKnowledgeEvent(tx, `knowledge_base.ingestion.${endOf({ succeeded, failed })}`, next);
}

/** A file that kept what it had when it was to be read again is ready, and says why it was not: it did not succeed. */
async function count(tx: Tx, base: BaseRow) {
  const { status, round, statusReason, documents } = knowledgeFiles;
  const inRound = sql`${round} = ${base.round}`;
  const number = (filter: ReturnType<typeof sql>) => sql<number>`count(*) filter (where ${filter})::int`;
  const [counted] = await tx
    .select({
      pending: number(sql`${status} = 'pending'`),
      ingesting: number(sql`${status} = 'ingesting'`),
      ready: number(sql`${status} = 'ready'`),
      failedAtAll: number(sql`${status} = 'failed'`),
      succeeded: number(sql`${inRound} and ${status} = 'ready' and ${statusReason} is null`),
      failed: number(
        sql`${inRound} and (${status} = 'failed' or (${status} = 'ready' and ${statusReason} is not null))`,
      ),
      filled: number(sql`${documents} > 0`),
    })
    .from(knowledgeFiles)
    .where(and(eq(knowledgeFiles.knowledgeBaseId, base.id), ne(status, "deleted")));
  const { pending, ingesting, ready, failedAtAll, ...ended } = counted!;
  const tally: Tally = { pending, ingesting, ready, failed: failedAtAll };
  return { tally, ...ended };
}

export async function changeFile(tx: Tx, id: string, set: Partial<typeof knowledgeFiles.$inferInsert>) {
  const [changed] = await tx
    .update(knowledgeFiles)
    .set({ ...set, updatedAt: dbNow })
    .where(eq(knowledgeFiles.id, id))
    .returning();
  return changed!;
}
