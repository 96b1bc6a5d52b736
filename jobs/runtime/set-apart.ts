import { ConnectionLost, DatabaseBusy, TransactionEnded } from "../../db/client.ts";
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

/** When so many rows failed in a doubtful way and none succeeded, it is not the rows. */
const enoughToDoubt = 5;
/** So many rows at most are set apart by one run in which nothing succeeds: then the loop itself is at fault. */
const mostApart = 100;

/**
 * Runs a batch of a system loop so that one bad row ends it for nobody else: what fails together is tried in halves, and
 * what fails alone is tried once more and set apart, for an operator to look at. What is not the fault of a row, such as a
 * database that is away, is thrown: then nothing more is set apart, and the loop comes again.
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
      if (faultOf(error) === "ours" || ctx.signal.aborted) throw error;
      if (rows.length === 1) {
        if (!isAlone) return run(rows, true);
        failed.push({ row: rows[0]!, error });
        return refuseToDoubt(failed, done);
      }
      const middle = Math.ceil(rows.length / 2);
      await run(rows.slice(0, middle));
      await run(rows.slice(middle));
    }
  };
  await run(batch.rows);

  const bad = failed.filter(({ error }) => done > 0 || faultOf(error) === "row");
  for (const { row, error } of bad) await setApart(ctx, batch.loop, batch.subjectOf(row), error);
  if (bad.length < failed.length) throw failed[0]!.error;
  return { done, apart: bad.length };
}

function refuseToDoubt(failed: readonly Failed<unknown>[], done: number) {
  if (done > 0) return;
  const doubtful = failed.every(({ error }) => faultOf(error) === "doubtful");
  if (failed.length >= (doubtful ? enoughToDoubt : mostApart)) throw failed[0]!.error;
}

/** Logged once: a row that is set apart already is known to the operators. */
export async function setApart({ asSystem, log }: SystemWork, loop: string, subject: Subject, error: unknown) {
  const isNew = await asSystem((tx) => keepApart(tx, loop, subject, causeOf(error).message));
  if (!isNew) return;
  const about = { alert: true, loop, subject: subject.id, client_id: subject.clientId };
  log.error({ ...about, err: causeOf(error) }, "a row was set apart: its loop goes on without it");
}

/**
 * `row`: the data of a row, or our code on it. `doubtful`: a provider's or a trigger's, about a row or in general. `ours`:
 * the database, the process or a statement that nothing can run.
 */
export function faultOf(error: unknown): "row" | "doubtful" | "ours" {
  const cause = causeOf(error);
  if (cause instanceof ProviderError) return cause.kind === "refused" ? "row" : "doubtful";
  if ([Fenced, ConnectionLost, DatabaseBusy, TransactionEnded].some((kind) => cause instanceof kind)) return "ours";
  if (cause.name === "AbortError" || cause.name === "TimeoutError") return "ours";
  if (!("code" in cause)) return "row";
  const code = String(cause.code);
  // Data exceptions, constraints, and limits of one value. ERR_: Node's, about an argument.
  if (/^(22|23|54)[0-9A-Z]{3}$|^ERR_/.test(code)) return "row";
  return code.startsWith("P0") ? "doubtful" : "ours";
}

/** The innermost error: drizzle puts the parameters of a statement into its own message, and they are people's data. */
function causeOf(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  return error instanceof ProviderError || error.cause === undefined ? error : causeOf(error.cause);
}
