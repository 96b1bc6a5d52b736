import { PgDatabase, PgDialect } from "drizzle-orm/pg-core";
import { type PostgresJsQueryResultHKT, PostgresJsSession } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import type { Connection } from "./connection.ts";
import type { ConnectionPool, Lease } from "./connection-pool.ts";
import type { Owner } from "./fair-gate.ts";
import type { News } from "./notifier.ts";
import { isAborted, isStalePlan, TransactionEnded, toSessionRefused } from "./sql-error.ts";

export type Tx = PgDatabase<PostgresJsQueryResultHKT, Record<string, never>>;

type Options = {
  pool: ConnectionPool;
  owner: Owner;
  transactionMs: number;
  mode: "read" | "write";
  /** Called after a commit that has something to announce. */
  onCommit: (news: News) => void;
};
type Statement = readonly [text: string, parameters: readonly unknown[]];

export const dialect = new PgDialect({ casing: "snake_case" });

type Send = () => Promise<unknown>;

const withCommits = new WeakMap<Tx, Send[]>();

/**
 * Sends these statements together with the commit, in the order of the calls. Use it for rows that many transactions change,
 * such as a balance: their lock is then held for the commit only. Each function sends one statement before it returns. None
 * can look at a result first: what must not be committed has to fail in the database, which undoes the transaction.
 */
export function withCommit(tx: Tx, ...sends: Send[]) {
  const waiting = withCommits.get(tx);
  if (!waiting) throw new TransactionEnded();
  waiting.push(...sends);
}

/** Sends what waits for the commit. Its order is fixed before this returns: a commit that is sent now comes last. */
function sendLast(tx: Tx, statements: Statements) {
  const waiting = withCommits.get(tx) ?? [];
  withCommits.delete(tx);
  let isLate = false;
  const sent = waiting.map((send) => {
    const before = statements.sent;
    const promise = send();
    isLate ||= statements.sent === before;
    return promise;
  });
  return { sent: Promise.all(sent), isLate };
}

const newsOf = new WeakMap<Tx, News>();

/**
 * Says what this transaction writes, for processes that wait for it. They are notified after the commit, never in the
 * transaction: see `openNotifier`.
 */
export function announce(tx: Tx, { jobs = 0, events = false, fanOuts = false }: Partial<News>) {
  const news = newsOf.get(tx);
  if (!news) throw new TransactionEnded();
  news.jobs += jobs;
  news.events ||= events;
  news.fanOuts ||= fanOuts;
}

/** Runs `work` in a transaction that begins with `setSession`. Returns once a write is committed. */
export async function transact<T>(
  options: Options,
  setSession: Statement,
  work: (tx: Tx) => Promise<T>,
  retries = options.pool.size, // each connection may have its own stale plan
): Promise<T> {
  const { pool, owner, transactionMs, mode, onCommit } = options;
  const lease = await pool.acquire(owner);
  const { connection } = lease;
  const statements = new Statements(connection);
  const abort = () => connection.abort(`The transaction took longer than ${transactionMs} ms.`);
  const timer = setTimeout(abort, transactionMs);
  const news: News = { jobs: 0, events: false, fanOuts: false };
  let result: T;
  try {
    const done = await runWork(connection, statements, { mode, setSession, news }, work);
    result = done.value;
    if (mode === "write") await commit(connection, statements, done.tx);
    else {
      await statements.end();
      commitRead(pool, connection);
    }
  } catch (error) {
    await rollback(pool, lease, statements, error);
    if (mode === "read" && retries > 0 && isStalePlan(error)) return transact(options, setSession, work, retries - 1);
    throw toSessionRefused(error) ?? error;
  } finally {
    clearTimeout(timer);
  }
  connection.onLost(undefined);
  lease.release();
  if (news.jobs > 0 || news.events || news.fanOuts) onCommit(news);
  return result;
}

/** Rejects immediately when the connection is lost, even while `work` waits for something else. */
function runWork<T>(
  connection: Connection,
  statements: Statements,
  { mode, setSession, news }: { mode: "read" | "write"; setSession: Statement; news: News },
  work: (tx: Tx) => Promise<T>,
): Promise<{ value: T; tx: Tx }> {
  return new Promise((resolve, reject) => {
    connection.onLost(reject);
    // Sent but not awaited, so that it travels with the first query. If it fails, every later statement fails too.
    const opening = statements.begin(mode, setSession);
    const tx = drizzleHandle(statements);
    withCommits.set(tx, []);
    newsOf.set(tx, news);
    work(tx)
      .then(async (value) => {
        await opening;
        resolve({ value, tx });
      })
      .catch((error) => opening.then(() => reject(error), reject));
  });
}

/** The statements of one transaction. After `end` it sends nothing more, so a handle that is kept too long is harmless. */
class Statements {
  readonly #connection: Connection;
  #ended = false;
  #pending = 0;
  #sent = 0;
  #firstError: unknown;
  #onIdle: (() => void) | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Begins the transaction and sets its session. The promise rejects with the first failure. */
  begin(mode: "read" | "write", [text, parameters]: Statement): Promise<unknown> {
    this.#connection.discardOldPlans();
    const began = this.#connection.command(mode === "read" ? "begin read only" : "begin");
    const sessionSet = this.#track(this.#connection.send(text, parameters));
    const opening = Promise.all([began, sessionSet]);
    opening.catch(() => {}); // handled where it is awaited, after the work
    return opening;
  }

  send(text: string, parameters: readonly unknown[]) {
    if (this.#ended) throw new TransactionEnded();
    return this.#track(this.#connection.send(text, parameters));
  }

  /** Refuses new statements and waits for pending ones. */
  end(): Promise<void> {
    this.#ended = true;
    return this.idle();
  }

  /** Waits for pending statements. */
  idle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** How many statements were sent so far. */
  get sent() {
    return this.#sent;
  }

  #track<Q extends Promise<unknown>>(sent: Q): Q {
    this.#pending++;
    this.#sent++;
    sendOnce(sent);
    this.#reportCause(sent);
    const done = () => {
      this.#pending--;
      if (this.#pending === 0) this.#onIdle?.();
    };
    sent.then(done, done);
    return sent;
  }

  /** After a failure Postgres refuses the statements behind it, for a reason that says nothing: the first is the cause. */
  #reportCause(sent: unknown) {
    const query = sent as Internals;
    const reject = query.reject;
    query.reject = (error) => {
      this.#firstError ??= error;
      reject(isAborted(error) ? this.#firstError : error);
    };
  }
}

/** Members of a query of postgres.js that its types lack. */
type Internals = { retried?: unknown; cancelled: boolean | null; reject(error: unknown): void };

/**
 * postgres.js sends a statement again when its plan is stale. In a transaction that has failed, it would run after the
 * rollback, outside of any transaction. So it is cancelled, and the error is reported.
 */
function sendOnce(sent: unknown) {
  const query = sent as Internals;
  Object.defineProperty(query, "retried", {
    get: () => undefined,
    set(error: unknown) {
      query.cancelled = true;
      query.reject(error);
    },
  });
}

type SendText = (text: string, parameters: readonly unknown[]) => PromiseLike<unknown>;

const nested = () => {
  throw new Error("Nested transactions are not supported. Use the transaction that is open.");
};

/**
 * The drizzle handle of one transaction, or of the reads of one request. It has no savepoints: a command is all or nothing.
 * `sendShared` is for the queries of `hotRead`.
 */
export function drizzleHandle(statements: { send: SendText; sendShared?: SendText }): Tx {
  const client = {
    unsafe: (text: string, parameters: unknown[]) => statements.send(text, parameters),
    shared: statements.sendShared && { unsafe: statements.sendShared },
    begin: nested,
    savepoint: nested,
  };
  // The session needs no more than these members. A whole postgres.js client would bypass the tenant's transaction.
  const session = new PostgresJsSession(client as unknown as Sql, dialect, undefined, {});
  return new PgDatabase(dialect, session, undefined);
}

/** Commits, in one round trip with the statements that wait for it. If one of those fails, nothing is committed. */
async function commit(connection: Connection, statements: Statements, tx: Tx) {
  await statements.idle();
  const { sent, isLate } = sendLast(tx, statements);
  if (isLate) {
    await sent; // throws the reason, if there is one
    throw new Error("A statement that goes with the commit must be sent immediately.");
  }
  const ended = statements.end();
  const [last, committed] = await Promise.allSettled([sent, connection.command("commit", true)]);
  await ended;
  if (last.status === "rejected") throw last.reason;
  if (committed.status === "rejected") throw committed.reason;
  if (committed.value.command !== "COMMIT")
    throw new Error("Nothing was written: a statement of this transaction had failed.");
}

/** A read has nothing to lose: its commit is not awaited, and the next transaction queues behind it. */
function commitRead(pool: ConnectionPool, connection: Connection) {
  connection.command("commit").catch(() => pool.destroy(connection));
}

async function rollback(pool: ConnectionPool, lease: Lease, statements: Statements, error: unknown) {
  const { connection } = lease;
  const ended = statements.end();
  connection.onLost(undefined);
  try {
    if (connection.isDead || isStalePlan(error)) return pool.destroy(connection);
    await ended;
    await connection.command("rollback");
  } catch {
    pool.destroy(connection); // its state is unknown, so it is never used again
  } finally {
    lease.release();
  }
}
