import { fillPlaceholders, type Query, type SQL } from "drizzle-orm";
import { PgDatabase } from "drizzle-orm/pg-core";
import { PostgresJsSession } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import { dialect, type Tx } from "./transaction.ts";

/** A drizzle query before it is sent. */
type Buildable<Result> = { prepare(name: string): { execute(values?: Record<string, unknown>): Promise<Result> } };

/** Only builds queries: it has no connection, so it cannot send a query. */
const blueprint: Tx = new PgDatabase(
  dialect,
  new PostgresJsSession(undefined as unknown as Sql, dialect, undefined, {}),
  undefined,
);

/**
 * A query that drizzle builds once, at its first use. Building takes longer than Postgres needs for a row, so the queries of
 * hot paths are declared with this, outside of functions. Its values are `sql.placeholder(name)`; each use passes them.
 */
export function prepared<Result>(build: (db: Tx) => Buildable<Result>) {
  let built: ReturnType<Buildable<Result>["prepare"]> | undefined;
  return (tx: Tx, values: Record<string, unknown> = {}): Promise<Result> => {
    built ??= build(blueprint).prepare("prepared");
    const { session } = tx as unknown as { session: { client: Sql } };
    const own: typeof built = Object.create(built, { client: { value: session.client } });
    return own.execute(values);
  };
}

/** The same for a statement that is written as SQL. Returns the rows as the driver gives them, like `tx.execute`. */
export function preparedSql<Row extends Record<string, unknown>>(statement: SQL) {
  let built: Query | undefined;
  return async (tx: Tx, values: Record<string, unknown>): Promise<Row[]> => {
    built ??= dialect.sqlToQuery(statement);
    const { session } = tx as unknown as { session: { client: Sql } };
    return await session.client.unsafe<Row[]>(built.sql, fillPlaceholders(built.params, values) as never[]);
  };
}
