import { and, eq, ne, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import { startWorkflow } from "../workflows/service.ts";
import { type BaseRow, changeBase, emitKnowledgeEvent, type FileRow } from "./service.ts";
import { roundOutcome, statusOf, type Tally } from "./transitions.ts";

/** How long a source may take at the provider. The provider has no failed status, so this deadline ends the wait. */
const readyWithinSeconds = 15 * 60;
export const newDeadline = () => inSeconds(readyWithinSeconds);

type NewFile = Omit<typeof knowledgeFiles.$inferInsert, "clientId" | "status" | "round" | "deadlineAt">;

/** Begins to ingest files into a base that the caller has locked, with one workflow per file. */
export async function beginFiles(tx: Tx, base: BaseRow, files: readonly NewFile[]): Promise<FileRow[]> {
  const common = { status: "pending", round: roundOf(base), deadlineAt: newDeadline() } as const;
  const rows = await tx
    .insert(knowledgeFiles)
    .values(files.map((file) => ({ ...file, ...common })))
    .returning();
  for (const { id } of rows) await startWorkflow(tx, "knowledge-ingest", id);
  await recount(tx, base);
  return rows;
}

/** The running round, or the next one. */
export const roundOf = ({ status, round }: BaseRow) => (status === "ingesting" ? round : round + 1);

/** Updates a locked base from its files, and emits the event of a round that begins or ends. */
export async function recount(tx: Tx, base: BaseRow): Promise<void> {
  const { tally, succeeded, failed, filled } = await count(tx, base);
  const status = statusOf(tally);
  const statusReason = status === "failed" ? "None of its files could be ingested. See the reason of each file." : null;
  const round = status === "ingesting" ? roundOf(base) : base.round;
  const next = await changeBase(tx, base.id, { status, statusReason, round, readyFiles: filled });
  const [was, is] = [base.status === "ingesting", status === "ingesting"];
  if (is && !was) await emitKnowledgeEvent(tx, "knowledge_base.ingestion.started", next);
  if (was && !is) await emitKnowledgeEvent(tx, `knowledge_base.ingestion.${roundOutcome({ succeeded, failed })}`, next);
}

/** A file that kept its old documents is `ready` with a `statusReason`. It counts as failed in this round. */
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

export async function changeFile(tx: Tx, id: string, set: PgUpdateSetSource<typeof knowledgeFiles>) {
  const [changed] = await tx
    .update(knowledgeFiles)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(knowledgeFiles.id, id))
    .returning();
  return changed!;
}
