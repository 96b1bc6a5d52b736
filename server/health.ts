import { sql } from "drizzle-orm";
import { Router } from "express";
import { knownMigrations } from "../db/migrate.ts";
import type { Deps } from "./deps.ts";

const staleJobSeconds = 300;
const deadlineMs = 3_000;

type Report = {
  status: "ok" | "degraded" | "down";
  version: string;
  database: { reachable: boolean };
  migrations: { known: number; applied: number | null };
  oldestDueJobSeconds: number | null;
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

async function look({ db, log }: Deps, version: string): Promise<Report> {
  const known = await knownMigrations();
  const down = {
    status: "down",
    version,
    database: { reachable: false },
    migrations: { known, applied: null },
    oldestDueJobSeconds: null,
  } as const;
  try {
    const asked = db.asHouse(
      async (tx) => {
        const [row] = await tx.execute<{ applied: number; oldest: number }>(
          sql`select app.applied_migrations() as applied, graphile_worker.patchbay_oldest_due_seconds() as oldest`,
        );
        return row!;
      },
      { mode: "read" },
    );
    const late = new Promise<null>((resolve) => setTimeout(resolve, deadlineMs, null).unref());
    const row = await Promise.race([asked, late]);
    if (!row) return down;
    const oldest = Math.max(0, Math.round(Number(row.oldest)));
    const applied = Number(row.applied);
    const status = applied < known ? "down" : oldest > staleJobSeconds ? "degraded" : "ok";
    return {
      status,
      version,
      database: { reachable: true },
      migrations: { known, applied },
      oldestDueJobSeconds: oldest,
    };
  } catch (error) {
    log.warn({ err: error }, "health: the database did not answer");
    return down;
  }
}
