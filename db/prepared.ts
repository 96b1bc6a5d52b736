import { Column, getTableName, is, type Placeholder, type SQL, type Query as SqlQuery, sql } from "drizzle-orm";
import { PgDatabase, PgTimestamp } from "drizzle-orm/pg-core";
import { PostgresJsSession } from "drizzle-orm/postgres-js";
import { fillPlaceholders } from "drizzle-orm/sql/sql";
import type { Sql } from "postgres";
import { dialect, type Tx } from "./transaction.ts";

/** A drizzle query before it is sent. */
type Buildable<Result> = { prepare(name: string): { execute(values?: Record<string, unknown>): Promise<Result> } };

/** What drizzle's prepared query has inside. Without `fields` it returns rows as the driver gives them. */
type Built = {
  params: unknown[];
  queryString: string;
  fields?: Field[];
  joinsNotNullableMap?: Record<string, boolean>;
  customResultMapper?: unknown;
};
type Field = { path: string[]; field: unknown };
type Decoder = { mapFromDriverValue(value: unknown): unknown };
type Driver = { unsafe(text: string, parameters: unknown[]): Promise<unknown[]> & { values(): Promise<unknown[][]> } };

/** Only builds queries: it has no connection, so it cannot send a query. */
const blueprint: Tx = new PgDatabase(
  dialect,
  new PostgresJsSession(undefined as unknown as Sql, dialect, undefined, {}),
  undefined,
);

type Query<Result> = (tx: Tx, values?: Record<string, unknown>) => Promise<Result>;

/** A row whose times may be in the API's form already: see `hotRead`. */
export type Wire<T> = unknown extends T
  ? T
  : T extends Date
    ? Date | string
    : T extends Scalar
      ? T
      : { [K in keyof T]: Wire<T[K]> };
type Scalar = string | number | boolean | bigint | null | undefined | Buffer;

/**
 * A query that drizzle builds once, at its first use. Building takes longer than Postgres needs for a row, so the queries of
 * hot paths are declared with this, outside of functions. Its values are `sql.placeholder(name)`; each use passes them.
 */
export const prepared = <Result>(build: (db: Tx) => Buildable<Result>): Query<Result> =>
  declare(build, driverOf, drizzlesDecoder) as Query<Result>;

/**
 * The same for a read whose cost is bounded: one row by its key, or one page in the order of an index. In a procedure that
 * only reads, it shares a connection with the reads of other clients, which would wait for a slow one. Its times are
 * texts in the API's form: a `Date` for each would take longer than the rest of the row.
 */
export const hotRead = <Result>(build: (db: Tx) => Buildable<Result>): Query<Wire<Result>> =>
  declare(build, sharedDriverOf, isoDecoder) as Query<Wire<Result>>;

const maxCombinations = 200;

/** What a list's query filters by, as placeholders. A filter that is not used is undefined. */
export type Given<Names extends string> = { [K in Names | "before"]?: Placeholder | undefined };
type Values<Names extends string> = { [K in Names]?: unknown };

/**
 * The pages of a list with optional filters: one query per combination of filters that is used, built once. Pass `before`,
 * `limit` and the filters; those that are undefined or null are not used. A page without filters is a `hotRead`; one with
 * filters may have to search, so it gets a connection of its own. `indexed`: filters with which an index begins.
 */
export function pages<Names extends string, Result>(
  build: (db: Tx, given: Given<Names>) => Buildable<Result>,
  indexed: readonly Names[] = [],
) {
  const bounding = new Set<string>(["before", "limit", ...indexed]);
  const built = new Map<string, Query<Wire<Result>>>();
  return (tx: Tx, values: Values<Names> & { before: unknown; limit: number }): Promise<Wire<Result>> => {
    const used = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
    const names = used.map(([name]) => name);
    const combination = names.join();
    let query = built.get(combination);
    if (!query) {
      const given = Object.fromEntries(names.map((name) => [name, sql.placeholder(name)])) as Given<Names>;
      const isBounded = names.every((name) => bounding.has(name));
      query = declare((db) => build(db, given), isBounded ? sharedDriverOf : driverOf, isoDecoder) as Query<
        Wire<Result>
      >;
      if (built.size >= maxCombinations) built.clear();
      built.set(combination, query);
    }
    return query(tx, Object.fromEntries(used));
  };
}

const driverOf = (tx: Tx) => (tx as unknown as { session: { client: Driver & { shared?: Driver } } }).session.client;

const sharedDriverOf = (tx: Tx) => driverOf(tx).shared ?? driverOf(tx);

function declare(build: (db: Tx) => Buildable<unknown>, driverFor: (tx: Tx) => Driver, decoderOf: DecoderOf) {
  let run: ((driver: Driver, values: Record<string, unknown>) => Promise<unknown>) | undefined;
  return (tx: Tx, values: Record<string, unknown> = {}) => {
    run ??= runnerOf(build(blueprint).prepare("prepared") as unknown as Built, decoderOf);
    return run(driverFor(tx), values);
  };
}

function runnerOf(
  { params, queryString, fields, joinsNotNullableMap, customResultMapper }: Built,
  decoderOf: DecoderOf,
) {
  if (customResultMapper) throw new Error("Relational queries cannot be prepared. Use select.");
  const toRow = fields && rowMapper(fields, joinsNotNullableMap, decoderOf);
  return async (driver: Driver, values: Record<string, unknown>) => {
    const sent = driver.unsafe(queryString, fillPlaceholders(params, values));
    return toRow ? (await sent.values()).map(toRow) : sent;
  };
}

/** Maps rows as drizzle does, in a tenth of the time: what it finds out for each value is found out once. */
function rowMapper(fields: Field[], joinsNotNullableMap: Built["joinsNotNullableMap"], decoderOf: DecoderOf) {
  const columns = fields.map(({ path, field }) => ({ path, decode: decoderOf(field) }));
  const groups = joinsNotNullableMap ? nullableGroups(fields, joinsNotNullableMap) : [];
  return (values: unknown[]) => {
    const row: Record<string, unknown> = {};
    for (let i = 0; i < columns.length; i++) {
      const { path, decode } = columns[i]!;
      const value = values[i];
      const decoded = value === null || decode === null ? value : decode(value);
      if (path.length === 1) row[path[0]!] = decoded;
      else put(row, path, decoded);
    }
    for (const { name, first } of groups) if (values[first] === null) row[name] = null;
    return row;
  };
}

function put(row: Record<string, unknown>, path: string[], value: unknown) {
  let node = row;
  for (const name of path.slice(0, -1)) {
    node[name] ??= {};
    node = node[name] as Record<string, unknown>;
  }
  node[path.at(-1)!] = value;
}

/** The groups of columns that are null as a whole when an outer join finds no row: all of one table that may be missing. */
function nullableGroups(fields: Field[], joinsNotNullableMap: Record<string, boolean>) {
  const groups = new Map<string, { name: string; first: number; tables: Set<string> }>();
  for (const [i, { path, field }] of fields.entries()) {
    if (path.length !== 2 || !is(field, Column)) continue;
    const name = path[0]!;
    const group = groups.get(name) ?? { name, first: i, tables: new Set() };
    groups.set(name, group);
    group.tables.add(getTableName(field.table));
  }
  return [...groups.values()].filter(({ tables }) => {
    const [table] = tables;
    return tables.size === 1 && !joinsNotNullableMap[table!];
  });
}

/** null: the driver's value is the value. */
type DecoderOf = (field: unknown) => ((value: unknown) => unknown) | null;

function drizzlesDecoder(field: unknown): ReturnType<DecoderOf> {
  const found = is(field, Column) ? field : decoderWithin(field as Within);
  if (found.mapFromDriverValue === Column.prototype.mapFromDriverValue) return null;
  return (value) => found.mapFromDriverValue(value);
}

const isoDecoder = (field: unknown): ReturnType<DecoderOf> =>
  is(field, PgTimestamp) && field.withTimezone ? (text) => isoFrom(text as string) : drizzlesDecoder(field);

type Within = { decoder?: Decoder; sql?: { decoder: Decoder }; _?: { sql: { decoder: Decoder } } };
const decoderWithin = ({ decoder, sql, _ }: Within): Decoder => (decoder ?? sql?.decoder ?? _?.sql.decoder)!;

const hasMilliseconds = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3,6}\+00$/;

/** A time as Postgres writes it, in ISO 8601, cut to the millisecond as `Date` does. */
export function isoFrom(text: string): string {
  if (!hasMilliseconds.test(text)) return new Date(text).toISOString();
  return `${text.slice(0, 10)}T${text.slice(11, 23)}Z`;
}

/** The same for a statement that is written as SQL. Returns the rows as the driver gives them, like `tx.execute`. */
export function preparedSql<Row extends Record<string, unknown>>(statement: SQL) {
  let built: SqlQuery | undefined;
  return async (tx: Tx, values: Record<string, unknown>): Promise<Row[]> => {
    built ??= dialect.sqlToQuery(statement);
    const { session } = tx as unknown as { session: { client: Sql } };
    return await session.client.unsafe<Row[]>(built.sql, fillPlaceholders(built.params, values) as never[]);
  };
}
