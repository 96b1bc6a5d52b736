import { sql } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { loopHeartbeats } from "../../db/schema/platform.ts";
import { dbNow } from "../../db/time.ts";

/** A periodic loop of the system, and how often it is to succeed. */
export type PeriodicLoop = { name: string; periodSeconds: number };

/** A loop that succeeds every second is recorded no more often than this. */
const recordEveryMs = 10_000;

/**
 * Registers the periodic loops, so that health can report one that has not succeeded for long. A loop is not late while
 * no worker was alive to run it. Loops that this version does not have are removed.
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

/** Records the success of a loop, at most every `recordEveryMs`. It never fails: health reports the missing record. */
export function loopRecorder(db: Database): (name: string) => void {
  const writtenAt = new Map<string, number>();
  return (name) => {
    const now = performance.now();
    if (now - (writtenAt.get(name) ?? -Infinity) < recordEveryMs) return;
    writtenAt.set(name, now);
    const recorded = db.asSystem((tx) =>
      tx.update(loopHeartbeats).set({ lastSuccessAt: dbNow() }).where(sql`${loopHeartbeats.loop} = ${name}`),
    );
    recorded.catch(() => writtenAt.delete(name));
  };
}

/** The period of a crontab line. It supports the forms that ours use: every minute, every n minutes, hourly and daily. */
export function periodOf(match: string): number {
  const [minute = "*", hour = "*"] = match.split(/\s+/);
  const every = /^\*\/(\d+)$/.exec(minute);
  if (every) return Number(every[1]) * 60;
  if (minute === "*") return 60;
  return hour === "*" ? 3_600 : 86_400;
}
