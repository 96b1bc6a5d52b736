import { ConnectionLost, DatabaseBusy, TransactionEnded } from "../../db/client.ts";
import { isRowSqlState } from "../../db/row-errors.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { keepApart, type Subject } from "../../routers/set-apart/service.ts";
import { Fenced } from "./fence.ts";
import type { JobContext } from "./task.ts";

/** What a loop over all clients works with, in a job or in a timer. */
export type SystemWork = Pick<JobContext, "asSystem" | "signal" | "log">;

type Batch<R> = {
  /** Its name in `set_apart`. */
  loop: string;
  rows: readonly R[];
  subjectOf(row: R): Subject;
  /** Processes some of the rows, in their order: all of them or none. */
  work(rows: readonly R[]): Promise<unknown>;
};
type Failed<R> = { row: R; error: unknown };

/** After so many doubtful failures and no success, the cause is not in the rows. */
const maxDoubtful = 5;
/** A run without any success sets at most this many rows apart: then the loop itself is broken. */
const maxApart = 100;

/**
 * Runs a batch of a system loop so that one bad row does not stop the others. A failed batch is split in halves. A row
 * that fails alone is tried again and then set apart, for an operator to look at. An error that no row causes, such
 * as an unreachable database, is thrown: then no more rows are set apart, and the loop runs again later.
 */
export async function eachOrApart<R>(ctx: SystemWork, batch: Batch<R>): Promise<{ done: number; apart: number }> {
  const failed: Failed<R>[] = [];
  let done = 0;

  const run = async (rows: readonly R[], isAlone = false): Promise<void> => {
    if (rows.length === 0 || ctx.signal.aborted) return;
    try {
      await batch.work(rows);
      done += rows.length;
    } catch (error) {
      if (causeKindOf(error) === "ours" || ctx.signal.aborted) throw error;
      if (rows.length === 1) {
        if (!isAlone) return run(rows, true);
        failed.push({ row: rows[0]!, error });
        return throwWhenDoubtful(failed, done);
      }
      const middle = Math.ceil(rows.length / 2);
      await run(rows.slice(0, middle));
      await run(rows.slice(middle));
    }
  };
  await run(batch.rows);

  const bad = failed.filter(({ error }) => done > 0 || causeKindOf(error) === "row");
  for (const { row, error } of bad) await setApart(ctx, batch.loop, batch.subjectOf(row), error);
  if (bad.length < failed.length) throw failed[0]!.error;
  return { done, apart: bad.length };
}

function throwWhenDoubtful(failed: readonly Failed<unknown>[], done: number) {
  if (done > 0) return;
  const doubtful = failed.every(({ error }) => causeKindOf(error) === "doubtful");
  if (failed.length >= (doubtful ? maxDoubtful : maxApart)) throw failed[0]!.error;
}

/** Logged only the first time that a row is set apart. */
export async function setApart({ asSystem, log }: SystemWork, loop: string, subject: Subject, error: unknown) {
  const isNew = await asSystem((tx) => keepApart(tx, loop, subject, causeOf(error).message));
  if (!isNew) return;
  const about = { alert: true, loop, subject: subject.id, client_id: subject.clientId };
  log.error({ ...about, err: causeOf(error) }, "row set apart; its loop continues without it");
}

/**
 * `row`: the data of a row, or our code on it. `doubtful`: a provider or a trigger, about a row or in general. `ours`:
 * the database, the process, or a statement that can never run.
 */
export function causeKindOf(error: unknown): "row" | "doubtful" | "ours" {
  const cause = causeOf(error);
  if (cause instanceof ProviderError) return cause.kind === "refused" ? "row" : "doubtful";
  if ([Fenced, ConnectionLost, DatabaseBusy, TransactionEnded].some((kind) => cause instanceof kind)) return "ours";
  if (cause.name === "AbortError" || cause.name === "TimeoutError") return "ours";
  if (!("code" in cause)) return "row";
  const code = String(cause.code);
  // ERR_: an error of Node's about an argument.
  if (isRowSqlState(code) || code.startsWith("ERR_")) return "row";
  return code.startsWith("P0") ? "doubtful" : "ours";
}

/** The innermost error: drizzle puts the parameters of a statement into its own message, and they are personal data. */
function causeOf(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  return error instanceof ProviderError || error.cause === undefined ? error : causeOf(error.cause);
}
