import { type Connection, ConnectionLost } from "./connection.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import type { SharedReadConnections } from "./shared-read-connections.ts";
import { isStalePlan, TransactionEnded, toSessionRefused } from "./sql-error.ts";
import { drizzleHandle, type Tx } from "./transaction.ts";

/** `each`: one connection per statement. `shared`: a few connections for the statements of everyone. */
export type ReadPools = { each: ConnectionPool; shared: SharedReadConnections };

/** The parameters of `app.set_tenant`. */
export type SessionParameters = readonly [clientId: string, keyId: string | null, requestId: string | null];

type Options = ReadPools & { session: SessionParameters; transactionMs: number };
type Rows = Awaited<ReturnType<Connection["send"]>>;

/**
 * Runs work that only reads. Each statement is a transaction by itself: it sets the tenant, then reads, in one round trip.
 * A read-committed transaction promises no more, since each of its statements sees what was committed before it began.
 */
export async function read<T>(options: Options, work: (tx: Tx) => Promise<T>): Promise<T> {
  const statements = new ReadStatements(options);
  try {
    return await work(drizzleHandle(statements));
  } catch (error) {
    throw toSessionRefused(error) ?? error;
  } finally {
    statements.end();
  }
}

/** The statements of one request. After `end` it sends nothing more, so a handle that is kept too long is harmless. */
class ReadStatements {
  readonly #options: Options;
  readonly #startedAt = performance.now();
  #ended = false;
  /** Resolves when the statements sent so far have ended. */
  #previous: Promise<unknown> = Promise.resolve();

  constructor(options: Options) {
    this.#options = options;
  }

  end() {
    this.#ended = true;
  }

  /** On a connection of its own, since this statement may be slow. */
  send = (text: string, parameters: readonly unknown[]) =>
    this.#start((asArrays) => this.#sendAlone(text, parameters, asArrays));

  /** On a shared connection: for the queries of `hotRead`, whose cost is bounded. */
  sendShared = (text: string, parameters: readonly unknown[]) =>
    this.#start((asArrays) => {
      const { shared, session } = this.#options;
      return shared.send(session[0], tenantStatement(text, parameters.length), [...parameters, ...session], asArrays);
    });

  /**
   * As a query of postgres.js: a promise whose `values` chooses arrays instead of objects. The statements of a request run in
   * the order in which they are sent, as on one connection: a list reads its horizon before its rows.
   */
  #start(send: (asArrays: boolean) => Promise<Rows>) {
    let asArrays = false;
    const sent = this.#previous.then(() => {
      this.#refuseLate();
      return send(asArrays);
    });
    this.#previous = sent.catch(() => {}); // its caller handles the error; the next statement does not depend on it
    const values = () => {
      asArrays = true;
      return sent;
    };
    return Object.assign(sent, { values });
  }

  #refuseLate() {
    if (this.#ended) throw new TransactionEnded();
    const { transactionMs } = this.#options;
    if (performance.now() - this.#startedAt < transactionMs) return;
    throw new ConnectionLost(new Error(`The reads of one request took longer than ${transactionMs} ms.`));
  }

  async #sendAlone(text: string, parameters: readonly unknown[], asArrays: boolean): Promise<Rows> {
    const { each, session } = this.#options;
    const statement = tenantStatement(text, parameters.length);
    const all = [...parameters, ...session];
    for (let retries = each.size; ; retries--) {
      const lease = await each.acquire(session[0]);
      const { connection } = lease;
      try {
        connection.discardOldPlans();
        const sent = connection.send(statement, all);
        return await (asArrays ? sent.values() : sent);
      } catch (error) {
        // Each connection may have its own stale plan. Nothing was changed, so it is safe to read again.
        if (!isStalePlan(error) || retries <= 0) throw error;
        each.destroy(connection);
      } finally {
        lease.release();
      }
    }
  }
}

const texts = new Map<string, string>();
/** The texts of lists differ by their filters, so there are some hundreds. Beyond this, something puts values into texts. */
const maxTexts = 2_000;

/**
 * The query `body` for one tenant, as one statement; exported for the test that pins its plan. The tenant's parameters
 * follow those of the query. `offset` makes the query depend on the tenant's row: so Postgres can read it only after the
 * tenant is set, by a nested loop over that one row, which keeps the query's order. The settings end with the statement.
 */
export function tenantStatement(body: string, parameterCount: number): string {
  const known = texts.get(body);
  if (known) return known;
  const [client, key, request] = [1, 2, 3].map((n) => `$${parameterCount + n}`);
  const text =
    `with tenant as materialized (select app.set_tenant(${client}, ${key}, ${request}) as entered, ` +
    "set_config('transaction_read_only', 'on', true)) " +
    `select found.* from tenant join lateral (select body.* from (${body}) body offset 1 - tenant.entered::int) found on tenant.entered`;
  if (texts.size >= maxTexts) texts.delete(texts.keys().next().value!);
  texts.set(body, text);
  return text;
}
