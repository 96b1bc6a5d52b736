import { sql } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { loopHeartbeats } from "../../db/schema/platform.ts";

/** A periodic loop of the system, and how often it is to succeed. */
export type PeriodicLoop = { name: string; periodSeconds: number };

/** A loop that succeeds every second is written down no more often than this. */
const writtenEveryMs = 10_000;

/**
 * Makes the periodic loops known, so that health can tell which of them has not succeeded for long. A loop is not late
 * while no worker was alive that could have run it. What this version does not run is forgotten.
 */
export async function watchLoops(db: Database, loops: readonly PeriodicLoop[]): Promise<void> {
  const given = JSON.stringify(loops);
  await db.asSystem(async (tx) => {
    await tx.execute(sql`
      insert into loop_heartbeats (loop, period_seconds)
      select name, "periodSeconds" from json_to_recordset(${given}::text::json) as l(name text, "periodSeconds" int) order by name
      on conflict (loop) do update set period_seconds = excluded.period_seconds, watched_since =
        case when exists (select from worker_heartbeats where beat_at > clock_timestamp() - interval '1 minute')
          then loop_heartbeats.watched_since else clock_timestamp() end`);
    await tx.execute(sql`
      delete from loop_heartbeats where loop not in (
        select name from json_to_recordset(${given}::text::json) as l(name text))`);
  });
}

/** Writes down that a loop has succeeded, soon and not each time. It never fails: health will tell. */
export function loopRecorder(db: Database): (name: string) => void {
  const writtenAt = new Map<string, number>();
  return (name) => {
    const now = performance.now();
    if (now - (writtenAt.get(name) ?? -Infinity) < writtenEveryMs) return;
    writtenAt.set(name, now);
    const noted = db.asSystem((tx) =>
      tx
        .update(loopHeartbeats)
        .set({ lastSuccessAt: sql`clock_timestamp()` as unknown as Date })
        .where(sql`${loopHeartbeats.loop} = ${name}`),
    );
    noted.catch(() => writtenAt.delete(name));
  };
}

/** The period of a line of the crontab, as far as ours go: each minute, each so many, each hour, each day. */
export function periodOf(match: string): number {
  const [minute = "*", hour = "*"] = match.split(/\s+/);
  const every = /^\*\/(\d+)$/.exec(minute);
  if (every) return Number(every[1]) * 60;
  if (minute === "*") return 60;
  return hour === "*" ? 3_600 : 86_400;
}
