import { sql } from "drizzle-orm";

/**
 * Added to transaction ids, so that positions also grow in a cluster whose ids start anew: see `raisePositions` in
 * db/migrate.ts.
 */
const offset = sql`coalesce(nullif(current_setting('patchbay.position_offset', true), ''), '0')::bigint`;

/**
 * The lowest position of an event that this transaction writes. `emit` raises it to the last position of the subject, while
 * it holds the subject's counter: so positions of a subject grow in the order of its commits.
 */
export const ownPosition = sql`(pg_current_xact_id()::text::bigint + ${offset})`;

/**
 * Below it, no more events can appear: the position of an event is never lower than the id of its transaction, and all
 * transactions with lower ids have ended.
 */
export const eventHorizon = sql<string>`(pg_snapshot_xmin(pg_current_snapshot())::text::bigint + ${offset})`;
