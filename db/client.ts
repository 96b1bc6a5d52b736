import { PgDatabase, PgDialect } from "drizzle-orm/pg-core";
import { type PostgresJsQueryResultHKT, PostgresJsSession } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import type { Connection } from "./connection.ts";
import { ConnectionPool, type Lease } from "./connection-pool.ts";
import type { Owner } from "./fair-gate.ts";
import { SharedReadConnections } from "./shared-read-connections.ts";

export { ConnectionLost } from "./connection.ts";
export { DatabaseBusy } from "./fair-gate.ts";

/** Somebody held on to a transaction that is over. */
export class TransactionEnded extends Error {
  constructor() {
    super("This transaction is over: a statement came too late.");
    this.name = "TransactionEnded";
  }
}

/** The key of this request was revoked or ran out, or its client was suspended: seen in the transaction itself. */
export class SessionRefused extends Error {
  readonly reason: "key" | "suspended";
  constructor(reason: "key" | "suspended") {
    super(reason === "key" ? "The API key is no longer valid." : "The client is suspended.");
    this.name = "EntryRefused";
    this.reason = reason;
  }
}

export type Tx = PgDatabase<PostgresJsQueryResultHKT, Record<string, never>>;

/** Whose wall to stand behind. `keyId` is checked again in the transaction, so that a revocation holds at once everywhere. */
export type TenantSession = { clientId: string; keyId?: string | null; requestId?: string | null };
type Mode = { mode?: "read" | "write" };

export type DatabaseOptions = {
  tenantUrl: string;
  systemUrl: string;
  /** Connections for tenants; the house takes half as many more, at least 3: it writes down deliveries, many at a time. */
  size?: number;
  statementTimeoutMs?: number;
  idleInTransactionTimeoutMs?: number;
  maxWaiting?: number;
  maxWaitMs?: number;
  planLifeMs?: number;
  /** Deadlines of our own, for a server that says nothing: see `LaneOptions`. */
  connectMs?: number;
  quickMs?: number;
  /** A transaction as a whole. */
  transactionMs?: number;
};

/**
 * How old the plan of a statement may be. One that was made while a table was all but empty may take any index, for it
 * knows no better: then every row of a client is looked at for each that is wanted, until Postgres finds time to count.
 */
const planLifeMs = 10_000;

const readerLanes = 3;
/** A single read is of one row; one that is not answered by then will not be. */
const readMs = 5_000;
/** The server's own timeout comes first, with its own words, as long as the server is there. */
const answerGraceMs = 500;
const dialect = new PgDialect({ casing: "snake_case" });
const enter = "select app.enter($1, $2, $3)";
const enterUser = "select app.enter_user($1, $2)";
const enterSystem = "select set_config('app.request_id', $1, true), set_config('app.client_id', $2, true)";

/** Opens the database. Nobody holds a bare connection: tenants' work runs behind the wall of row level security. */
export function openDatabase(options: DatabaseOptions) {
  const { tenantUrl, systemUrl, size = 10, statementTimeoutMs = 10_000, idleInTransactionTimeoutMs = 15_000 } = options;
  const transactionMs = options.transactionMs ?? 30_000;
  const common = {
    statementTimeoutMs,
    idleInTransactionTimeoutMs,
    connectMs: options.connectMs ?? 5_000,
    quickMs: options.quickMs ?? 3_000,
    answerMs: statementTimeoutMs + answerGraceMs,
    maxWaiting: options.maxWaiting ?? 1_000,
    maxWaitMs: options.maxWaitMs ?? 5_000,
    planLifeMs: options.planLifeMs ?? planLifeMs,
  };
  const tenants = new ConnectionPool({ ...common, url: tenantUrl, name: "patchbay-tenant", size });
  const readers = new SharedReadConnections({
    ...common,
    url: tenantUrl,
    name: "patchbay-reader",
    answerMs: Math.min(readMs, statementTimeoutMs),
    lanes: readerLanes,
    underWayPerLane: 50,
  });
  const house = new ConnectionPool({
    ...common,
    url: systemUrl,
    name: "patchbay-system",
    size: Math.max(3, Math.ceil(size / 2)),
  });

  return {
    /** A transaction that sees one client's rows and can write no others. */
    asClient: <T>(entry: TenantSession, work: (tx: Tx) => Promise<T>, { mode = "write" }: Mode = {}) =>
      transact(
        { pool: tenants, owner: entry.clientId, transactionMs, mode },
        [enter, [entry.clientId, entry.keyId ?? null, entry.requestId ?? null]],
        work,
      ),

    /** A transaction that sees what is one person's own: memberships, before a client is chosen. Read only. */
    asUser: <T>(userId: string, work: (tx: Tx) => Promise<T>) =>
      transact({ pool: tenants, owner: userId, transactionMs, mode: "read" }, [enterUser, [userId, null]], work),

    /**
     * A transaction of the house, which sees every client. For authentication, sweeps and workers; tests list who may.
     * `clientId`: whose the rows are that are written without saying so; it hides nobody's.
     * `owner`: on whose behalf, if it is somebody's: one owner holds no more than a share of the connections.
     */
    asSystem: <T>(
      work: (tx: Tx) => Promise<T>,
      {
        mode = "write",
        requestId = null,
        clientId = null,
        owner = null,
      }: Mode & { requestId?: string | null; clientId?: string | null; owner?: Owner } = {},
    ) => transact({ pool: house, owner, transactionMs, mode }, [enterSystem, [requestId ?? "", clientId ?? ""]], work),

    /**
     * A hot single read in one statement, behind the same wall: the CTE makes the setting before the lateral part is read,
     * and the setting dies with the statement. Were the order ever broken, it would return nothing, never another's row.
     * `body` is a constant text whose own parameters begin at $4; rows come as the driver gives them, columns in snake_case.
     */
    async readOne(
      entry: TenantSession,
      body: string,
      parameters: readonly unknown[],
    ): Promise<Record<string, unknown> | null> {
      try {
        const [row] = await readers.send(entry.clientId, singleRowStatement(body), [
          entry.clientId,
          entry.keyId ?? null,
          entry.requestId ?? null,
          ...parameters,
        ]);
        return row ?? null;
      } catch (error) {
        throw refusal(error) ?? error;
      }
    },

    close: async () => {
      await Promise.all([tenants.close(), readers.close(), house.close()]);
    },
  };
}

export type Database = ReturnType<typeof openDatabase>;

const hotTexts = new Map<string, string>();

/** The statement of `readOne`; exported for the test that pins its plan. */
export function singleRowStatement(body: string): string {
  const known = hotTexts.get(body);
  if (known) return known;
  const text = `with tenant as materialized (select app.enter($1, $2, $3) as entered) select found.* from tenant join lateral (${body} offset 0) found on tenant.entered`;
  hotTexts.set(body, text);
  return text;
}

const lastWork = new WeakMap<Tx, (() => Promise<unknown>)[]>();

/**
 * Runs this right before the commit, in the order given. For rows that many transactions change, such as a balance: a
 * transaction that touches one last holds its lock for one round trip, and not for all that follows. What it throws undoes the transaction.
 */
export function beforeCommit(tx: Tx, work: () => Promise<unknown>) {
  const waiting = lastWork.get(tx);
  if (!waiting) throw new TransactionEnded();
  waiting.push(work);
}

async function finish(tx: Tx) {
  const waiting = lastWork.get(tx) ?? [];
  for (let work = waiting.shift(); work; work = waiting.shift()) await work();
  lastWork.delete(tx);
}

type Setting = { pool: ConnectionPool; owner: Owner; transactionMs: number; mode: "read" | "write" };

async function transact<T>(
  setting: Setting,
  entry: readonly [text: string, parameters: readonly unknown[]],
  work: (tx: Tx) => Promise<T>,
  lanesLeft = setting.pool.size, // each may hold a stale plan of its own
): Promise<T> {
  const { pool, owner, transactionMs, mode } = setting;
  const lease = await pool.acquire(owner);
  const { lane } = lease;
  const statements = new Statements(lane);
  const late = setTimeout(() => lane.abort(`The transaction took longer than ${transactionMs} ms.`), transactionMs);
  let result: T;
  try {
    result = await new Promise<T>((resolve, reject) => {
      lane.listen(reject);
      // Sent ahead, not awaited: they travel with the first query. What fails in them fails every later statement too.
      const opening = statements.open(mode, entry);
      const tx = handle(statements);
      lastWork.set(tx, []);
      work(tx)
        .then(async (value) => {
          await opening;
          await finish(tx);
          resolve(value);
        })
        .catch((error) => opening.then(() => reject(error), reject));
    });
    await statements.end();
    if (mode === "write") await commit(lane);
    else settleQuietly(pool, lane);
  } catch (error) {
    await abandon(pool, lease, statements, error);
    if (mode === "read" && lanesLeft > 0 && isStalePlan(error)) return transact(setting, entry, work, lanesLeft - 1);
    throw refusal(error) ?? error;
  } finally {
    clearTimeout(late);
  }
  lane.listen(undefined);
  lease.giveBack();
  return result;
}

/** What a transaction has sent. Once ended it sends nothing more, whoever still holds the handle. */
class Statements {
  readonly #lane: Connection;
  #ended = false;
  #pending = 0;
  #idle: (() => void) | undefined;

  constructor(lane: Connection) {
    this.#lane = lane;
  }

  /** Begins and enters. The promise tells of the first failure, if any. */
  open(mode: "read" | "write", [text, parameters]: readonly [string, readonly unknown[]]): Promise<unknown> {
    this.#lane.forgetOldPlans();
    const began = this.#lane.command(mode === "read" ? "begin read only" : "begin");
    const entered = this.#track(this.#lane.send(text, parameters));
    const opening = Promise.all([began, entered]);
    opening.catch(() => {}); // heard where it is awaited, after the work
    return opening;
  }

  send(text: string, parameters: readonly unknown[]) {
    if (this.#ended) throw new TransactionEnded();
    return this.#track(this.#lane.send(text, parameters));
  }

  /**
   * Refuses whatever comes from now on, and waits for what is under way: postgres.js sends a statement again
   * when its plan has gone stale, and that must not fall behind the commit, into somebody else's transaction.
   */
  end(): Promise<void> {
    this.#ended = true;
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle = resolve;
    });
  }

  #track<Q extends Promise<unknown>>(sent: Q): Q {
    this.#pending++;
    const done = () => {
      this.#pending--;
      if (this.#pending === 0) this.#idle?.();
    };
    sent.then(done, done);
    return sent;
  }

  get driverOptions() {
    return this.#lane.driverOptions;
  }
}

/** The drizzle handle of one transaction. Savepoints are not offered: a command is all or nothing. */
function handle(statements: Statements): Tx {
  const nested = () => {
    throw new Error("No transaction inside a transaction: a command is all of it or none.");
  };
  const client = {
    unsafe: (text: string, parameters: unknown[]) => statements.send(text, parameters),
    begin: nested,
    savepoint: nested,
    options: statements.driverOptions,
  };
  // The session asks only for what stands above; the whole of postgres.js would be the way around the wall.
  const session = new PostgresJsSession(client as unknown as Sql, dialect, undefined, {});
  return new PgDatabase(dialect, session, undefined);
}

async function commit(lane: Connection) {
  const { command } = await lane.command("commit", true);
  if (command !== "COMMIT") throw new Error("Nothing was written: a statement of this transaction had failed.");
}

/** A read has nothing to lose: its commit is on its way, and the lane goes to the next, who queues behind it. */
function settleQuietly(pool: ConnectionPool, lane: Connection) {
  lane.command("commit").catch(() => pool.destroy(lane));
}

async function abandon(pool: ConnectionPool, lease: Lease, statements: Statements, error: unknown) {
  const { lane } = lease;
  const ended = statements.end();
  lane.listen(undefined);
  try {
    if (lane.dead || isStalePlan(error)) return pool.destroy(lane);
    await ended;
    await lane.command("rollback");
  } catch {
    pool.destroy(lane); // whatever state it is in, nobody shall see it again
  } finally {
    lease.giveBack();
  }
}

/** Two transactions waited for each other, and Postgres ended this one: nothing is left of it. */
export const isDeadlock = (error: unknown): boolean => sqlState(error) === "40P01";

/** By the innermost cause that has one: drizzle and tRPC each wrap what they hand on. */
function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const inner = sqlState(error.cause);
  if (inner !== undefined) return inner;
  return "code" in error && /^[0-9A-Z]{5}$/.test(String(error.code)) ? String(error.code) : undefined;
}

/** A table has changed since the lane prepared this statement: the lane is given up, and nothing was done. */
export function isStalePlan(error: unknown): boolean {
  if (sqlState(error) !== "0A000") return false;
  return /cached plan must not change result type/.test(messages(error));
}

const messages = (error: unknown): string =>
  error instanceof Error ? `${error.message} ${messages(error.cause)}` : "";

function refusal(error: unknown): SessionRefused | undefined {
  const state = sqlState(error);
  if (state === "PB401") return new SessionRefused("key");
  if (state === "PB403") return new SessionRefused("suspended");
}
