import { sql } from "drizzle-orm";
import { Router } from "express";
import { knownMigrations } from "../db/migrate.ts";
import { oldestDueSeconds } from "../routers/dispatch/backlog.ts";
import type { Deps } from "./deps.ts";

const staleSeconds = 300;
const deadlineMs = 3_000;

type Report = {
  status: "ok" | "degraded" | "down";
  version: string;
  database: { reachable: boolean };
  migrations: { known: number; applied: number | null };
  oldestDueJobSeconds: number | null;
  /** Also of one that its endpoint's rate or a pause holds back. */
  oldestDueDeliverySeconds: number | null;
  /** Words of providers that are not in our lists, and how often this process has met each. */
  unknownProviderWords: Record<string, number>;
};

/** `/health/live`: the process runs. `/health/ready`: it can serve. `/health`: how it stands. */
export function health(deps: Deps, version: string): Router {
  const router = Router();
  router.get("/health/live", (_req, res) => void res.json({ status: "ok" }));
  router.get(["/health", "/health/ready"], async (_req, res) => {
    const report = await look(deps, version);
    res
      .status(report.status === "down" ? 503 : 200)
      .set("Cache-Control", "no-store")
      .json(report);
  });
  return router;
}

async function look({ db, log, unknownWords }: Deps, version: string): Promise<Report> {
  const known = await knownMigrations();
  const down = {
    status: "down",
    version,
    database: { reachable: false },
    migrations: { known, applied: null },
    oldestDueJobSeconds: null,
    oldestDueDeliverySeconds: null,
    unknownProviderWords: unknownWords(),
  } as const;
  try {
    const asked = db.asHouse(
      async (tx) => {
        const [row] = await tx.execute<{ applied: number; oldest: number }>(
          sql`select app.applied_migrations() as applied, graphile_worker.patchbay_oldest_due_seconds() as oldest`,
        );
        // An older database may not have what is read next.
        const isCurrent = Number(row!.applied) >= known;
        return { ...row!, oldestDelivery: isCurrent ? await oldestDueSeconds(tx) : null };
      },
      { mode: "read" },
    );
    const late = new Promise<null>((resolve) => setTimeout(resolve, deadlineMs, null).unref());
    const row = await Promise.race([asked, late]);
    if (!row) return down;
    const oldest = Math.max(0, Math.round(Number(row.oldest)));
    const applied = Number(row.applied);
    const status =
      applied < known ? "down" : Math.max(oldest, row.oldestDelivery ?? 0) > staleSeconds ? "degraded" : "ok";
    return {
      status,
      version,
      database: { reachable: true },
      migrations: { known, applied },
      oldestDueJobSeconds: oldest,
      oldestDueDeliverySeconds: row.oldestDelivery,
      unknownProviderWords: unknownWords(),
    };
  } catch (error) {
    log.warn({ err: error }, "health: the database did not answer");
    return down;
  }
}
