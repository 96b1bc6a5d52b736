import { type SQL, sql } from "drizzle-orm";
import { idFloor } from "../../../db/ids.ts";

/** No more rows of a kind are counted than this. */
export const countedAtMost = 100_000;
/** One more than are counted: so it is seen that there are more. */
export const atMost = sql.raw(String(countedAtMost + 1));

// Of deliveries `d`, attempts `a` and endpoints `e`.
export const isWaiting = sql`d.status = 'pending' and d.admitted_until is null`;
export const isInFlight = sql`d.status = 'pending' and d.admitted_until is not null`;
export const isDead = sql`d.status = 'dead'`;
export const isFailure = sql`(a.status is null or a.status not between 200 and 299)`;
export const isFailing = sql`e.deleted_at is null and e.status = 'enabled' and e.failing_since is not null`;

/** now() and not the clock: a bound that an index can use must stand still. */
export const ago = (minutes: number) => sql`now() - make_interval(mins => ${minutes}::int)`;
/** The age of an instant; 0 where there is none. */
export const ageInSeconds = (instant: SQL) =>
  sql`coalesce(greatest(0, floor(extract(epoch from now() - ${instant}))), 0)::int`;

/** By the id, which tells the time, an index leads there; the clocks that made the ids may differ by a minute. */
export function attemptedSince(minutes: number, now: Date): SQL {
  const floor = idFloor("attempt", new Date(now.getTime() - (minutes + 1) * 60_000));
  return sql`a.id >= ${floor} and a.created_at >= ${ago(minutes)}`;
}
