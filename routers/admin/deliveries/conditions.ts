import { type SQL, sql } from "drizzle-orm";
import { idFloor } from "../../../db/ids.ts";

/** Counts stop at this number of rows. */
export const maxCount = 100_000;
/** One more than is reported, to detect that there are more. */
export const countLimit = sql.raw(String(maxCount + 1));

// Conditions on deliveries `d`, attempts `a` and endpoints `e`.
export const isDead = sql`d.status = 'dead'`;
export const isFailure = sql`(a.status is null or a.status not between 200 and 299)`;
export const isFailing = sql`e.deleted_at is null and e.status = 'enabled' and e.failing_since is not null`;

/** now() instead of clock_timestamp(): an index can only use a stable bound. */
export const ago = (minutes: number) => sql`now() - make_interval(mins => ${minutes}::int)`;
/** The age of a time in whole seconds; 0 for null. */
export const ageInSeconds = (instant: SQL) =>
  sql`coalesce(greatest(0, floor(extract(epoch from now() - ${instant}))), 0)::int`;

/** Filters by id too, which contains the time and is indexed. The clocks that create ids may differ by a minute. */
export function attemptedSince(minutes: number, now: Date): SQL {
  const floor = idFloor("attempt", new Date(now.getTime() - (minutes + 1) * 60_000));
  return sql`a.id >= ${floor} and a.created_at >= ${ago(minutes)}`;
}
