import { sql } from "drizzle-orm";
import type pg from "pg";
import type { Logger } from "pino";
import { z } from "zod";
import type { Database } from "../../db/client.ts";
import { deadJobs } from "../../db/schema/platform.ts";
import { faultOf } from "./set-apart.ts";
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

/** What is left of an envelope that may be anything. */
const Remains = z
  .object({ clientId: z.string().nullable().catch(null), body: z.unknown() })
  .catch({ clientId: null, body: undefined });

/** Frees the jobs of workers that died, and takes out those that nobody could finish. One worker at a time. */
export function rescueTimer({ connections, deadAfterMs, everyMs = rescueEveryMs }: Rescue): Timer {
  return {
    name: "rescue",
    everyMs,
    async run({ db, log }) {
      await freeLocks(connections, deadAfterMs, log);
      // A payload that cannot be kept is replaced by a note: it may not keep the others from being taken out.
      await buryExhausted(db, log, toGaveUp).catch((error: unknown) => {
        if (faultOf(error) !== "row") throw error;
        return buryExhausted(db, log, withoutPayload);
      });
    },
  };
}

async function freeLocks(connections: pg.Pool, deadAfterMs: number, log: Logger) {
  const { rows } = await connections.query<{ pool: string; jobs: string }>(
    "select pool, jobs from graphile_worker.patchbay_rescue($1::double precision)",
    [deadAfterMs / 1000],
  );
  for (const { pool, jobs } of rows) log.warn({ pool, jobs: Number(jobs) }, "rescued the jobs of a silent pool");
}

type Bury = (job: Exhausted) => ReturnType<typeof deadJobRow>;

async function buryExhausted(db: Database, log: Logger, bury: Bury) {
  const atOnce = 100;
  for (let taken = atOnce; taken === atOnce; ) {
    const rows = await db.asSystem(async (tx) => {
      const found = await tx.execute<Exhausted>(
        sql`select * from graphile_worker.patchbay_take_exhausted(${atOnce}::integer)`,
      );
      const lost = [...found].filter(({ superseded }) => !superseded);
      if (lost.length > 0) await tx.insert(deadJobs).values(lost.map(bury));
      return [...found];
    });
    taken = rows.length;
    for (const { id, task, attempts, superseded } of rows) {
      if (superseded) log.info({ task, job_id: id, outcome: "superseded" }, "job");
      else log.error({ task, job_id: id, attempts, outcome: "exhausted", alert: true }, "job");
    }
  }
}

const withoutPayload: Bury = (job) =>
  toGaveUp({ ...job, payload: { clientId: Remains.parse(job.payload).clientId, body: { unreadable: true } } });

function toGaveUp({ task, payload, error, attempts }: Exhausted) {
  const { clientId, body = payload } = Remains.parse(payload);
  return deadJobRow({
    task,
    clientId,
    payload: body,
    error: error ?? `It was begun ${attempts} times, and its worker died each time.`,
  });
}
