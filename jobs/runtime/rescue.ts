import { sql } from "drizzle-orm";
import type pg from "pg";
import type { Logger } from "pino";
import { z } from "zod";
import type { Database } from "../../db/client.ts";
import { deadJobs } from "../../db/schema/platform.ts";
import { causeKindOf } from "./set-apart.ts";
import { deadJobRow } from "./task.ts";
import type { Timer } from "./timers.ts";

export const rescueEveryMs = 10_000;

type Rescue = { connections: pg.Pool; deadAfterMs: number; everyMs?: number };
type Exhausted = {
  id: string;
  task: string;
  payload: unknown;
  attempts: number;
  error: string | null;
  superseded: boolean;
};

/** What can be read of an envelope with any content. */
const PartialEnvelope = z
  .object({ clientId: z.string().nullable().catch(null), body: z.unknown() })
  .catch({ clientId: null, body: undefined });

/** Frees the jobs of dead workers, and moves those out of attempts to the dead letters. One worker at a time. */
export function rescueTimer({ connections, deadAfterMs, everyMs = rescueEveryMs }: Rescue): Timer {
  return {
    name: "rescue",
    everyMs,
    async run({ db, log }) {
      await freeLocks(connections, deadAfterMs, log);
      // A payload that cannot be stored is replaced by a note: it must not keep the others in the queue.
      await takeExhausted(db, log, toDeadJob).catch((error: unknown) => {
        if (causeKindOf(error) !== "row") throw error;
        return takeExhausted(db, log, withoutPayload);
      });
    },
  };
}

async function freeLocks(connections: pg.Pool, deadAfterMs: number, log: Logger) {
  const { rows } = await connections.query<{ pool: string; jobs: string }>(
    "select pool, jobs from graphile_worker.patchbay_rescue($1::double precision)",
    [deadAfterMs / 1000],
  );
  for (const { pool, jobs } of rows) log.warn({ pool, jobs: Number(jobs) }, "jobs of a silent pool rescued");
}

type ToDeadJob = (job: Exhausted) => ReturnType<typeof deadJobRow>;

async function takeExhausted(db: Database, log: Logger, toRow: ToDeadJob) {
  const batchSize = 100;
  for (let taken = batchSize; taken === batchSize; ) {
    const rows = await db.asSystem(async (tx) => {
      const found = await tx.execute<Exhausted>(
        sql`select * from graphile_worker.patchbay_take_exhausted(${batchSize}::integer)`,
      );
      const lost = [...found].filter(({ superseded }) => !superseded);
      if (lost.length > 0) await tx.insert(deadJobs).values(lost.map(toRow));
      return [...found];
    });
    taken = rows.length;
    for (const { id, task, attempts, superseded } of rows) {
      if (superseded) log.info({ task, job_id: id, outcome: "superseded" }, "job");
      else log.error({ task, job_id: id, attempts, outcome: "exhausted", alert: true }, "job");
    }
  }
}

const withoutPayload: ToDeadJob = (job) =>
  toDeadJob({ ...job, payload: { clientId: PartialEnvelope.parse(job.payload).clientId, body: { unreadable: true } } });

function toDeadJob({ task, payload, error, attempts }: Exhausted) {
  const { clientId, body = payload } = PartialEnvelope.parse(payload);
  return deadJobRow({
    task,
    clientId,
    payload: body,
    error: error ?? `The job was started ${attempts} times, and its worker died each time.`,
  });
}
