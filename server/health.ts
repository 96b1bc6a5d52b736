import { sql } from "drizzle-orm";
import { Router } from "express";
import type { Tx } from "../db/client.ts";
import { knownMigrations } from "../db/migrate.ts";
import { oldestDueSeconds } from "../routers/admin/deliveries/backlog.ts";
import { eventDelays } from "../routers/webhooks/deliveries/event-delays.ts";
import type { Deps } from "./deps.ts";
import { droppedLogLines } from "./log.ts";

const staleSeconds = 300;
const deadlineMs = 3_000;

type Report = {
  status: "ok" | "degraded" | "down";
  version: string;
  database: { reachable: boolean };
  migrations: { known: number; applied: number | null };
  oldestDueJobSeconds: number | null;
  /** Includes deliveries that wait for their endpoint's rate or for a pause. */
  oldestDueDeliverySeconds: number | null;
  /** Of the oldest event whose deliveries are not written yet. */
  oldestFanOutSeconds: number | null;
  /** Of the oldest event that followers cannot read yet, because an older transaction of the server is still open. */
  heldBackEventSeconds: number | null;
  /** Lines of this process that its output could not take. The service works; its log is incomplete. */
  logs: { dropped: number };
  /** Periodic loops without a success for three periods and two minutes. */
  lateLoops: string[] | null;
  /** Rows that system loops have set apart, until an operator retries them. */
  setApart: number | null;
  /** Unknown values of provider enums, and how often each occurred in this process. */
  unknownProviderWords: Record<string, number>;
};

/** `/health/live`: the process runs. `/health/ready`: it can serve. `/health`: a report. */
export function health(deps: Deps, version: string): Router {
  const router = Router({ caseSensitive: true });
  router.get("/health/live", (_req, res) => void res.json({ status: "ok" }));
  router.get(["/health", "/health/ready"], async (req, res) => {
    if (deps.stopping.signal.aborted && req.path === "/health/ready") {
      res.status(503).set("Cache-Control", "no-store").json({ status: "stopping", version });
      return;
    }
    const report = await check(deps, version);
    res
      .status(report.status === "down" ? 503 : 200)
      .set("Cache-Control", "no-store")
      .json(report);
  });
  return router;
}

async function check({ db, log, unknownWords }: Deps, version: string): Promise<Report> {
  const known = await knownMigrations();
  const down = {
    status: "down",
    version,
    database: { reachable: false },
    migrations: { known, applied: null },
    oldestDueJobSeconds: null,
    oldestDueDeliverySeconds: null,
    oldestFanOutSeconds: null,
    heldBackEventSeconds: null,
    logs: { dropped: droppedLogLines() },
    lateLoops: null,
    setApart: null,
    unknownProviderWords: unknownWords(),
  } as const;
  try {
    const reading = db.asSystem(
      async (tx) => {
        const [row] = await tx.execute<{ applied: number; oldest: number }>(
          sql`select app.applied_migrations() as applied, graphile_worker.patchbay_oldest_due_seconds() as oldest`,
        );
        // An older database may lack what is read next.
        const isCurrent = Number(row!.applied) >= known;
        const oldestDelivery = isCurrent ? await oldestDueSeconds(tx) : null;
        const events = isCurrent ? await eventDelays(tx) : null;
        return { ...row!, oldestDelivery, events, loops: isCurrent ? await readLoops(tx) : null };
      },
      { mode: "read" },
    );
    const late = new Promise<null>((resolve) => setTimeout(resolve, deadlineMs, null).unref());
    const row = await Promise.race([reading, late]);
    if (!row) return down;
    const oldest = Math.max(0, Math.round(Number(row.oldest)));
    const applied = Number(row.applied);
    const status =
      applied < known
        ? "down"
        : Math.max(oldest, row.oldestDelivery ?? 0, ...Object.values(row.events ?? {})) > staleSeconds ||
            hasProblem(row.loops)
          ? "degraded"
          : "ok";
    return {
      status,
      version,
      database: { reachable: true },
      migrations: { known, applied },
      oldestDueJobSeconds: oldest,
      oldestDueDeliverySeconds: row.oldestDelivery,
      oldestFanOutSeconds: row.events?.fanOut ?? null,
      heldBackEventSeconds: row.events?.heldBack ?? null,
      logs: { dropped: droppedLogLines() },
      lateLoops: row.loops?.lateLoops ?? null,
      setApart: row.loops?.setApart ?? null,
      unknownProviderWords: unknownWords(),
    };
  } catch (error) {
    log.warn({ err: error }, "health check failed; the database did not respond");
    return down;
  }
}

type Loops = { lateLoops: string[]; setApart: number };
const hasProblem = (loops: Loops | null) => loops !== null && loops.lateLoops.length + loops.setApart > 0;

async function readLoops(tx: Tx): Promise<Loops> {
  const late = await tx.execute<{ loop: string }>(sql`
    select loop from loop_heartbeats
    where greatest(last_success_at, watched_since) < clock_timestamp() - make_interval(secs => 3 * period_seconds + 120)
    order by loop`);
  const [apart] = await tx.execute<{ n: number }>(sql`select count(*)::int as n from set_apart`);
  return { lateLoops: late.map(({ loop }) => loop), setApart: apart!.n };
}
