import { ConnectionPool } from "./connection-pool.ts";
import type { Owner } from "./fair-gate.ts";
import { type News, openNotifier } from "./notifier.ts";
import { read, tenantStatement } from "./reads.ts";
import { SharedReadConnections } from "./shared-read-connections.ts";
import { SilenceWatch } from "./silence.ts";
import { toSessionRefused } from "./sql-error.ts";
import { type Tx, transact } from "./transaction.ts";

export { ConnectionLost } from "./connection.ts";
export { DatabaseBusy } from "./fair-gate.ts";
export { isDeadlock, isStalePlan, refusedHold, SessionRefused, TransactionEnded } from "./sql-error.ts";
export { announce, type Tx, withCommit } from "./transaction.ts";

/** The tenant of a transaction. `keyId` is checked inside it, so that a revocation takes effect immediately in all processes. */
export type TenantSession = { clientId: string; keyId?: string | null; requestId?: string | null };

type Mode = { mode?: "read" | "write" };
/**
 * `clientId`: the default owner of rows that are written; it hides no rows.
 * `owner`: the client or person on whose behalf this runs, who may hold only a share of the connections.
 */
type SystemOptions = Mode & { requestId?: string | null; clientId?: string | null; owner?: Owner };

export type DatabaseOptions = {
  tenantUrl: string;
  systemUrl: string;
  /** Connections for tenants. The system gets half as many more, at least 3: it writes deliveries in large batches. */
  size?: number;
  statementTimeoutMs?: number;
  idleInTransactionTimeoutMs?: number;
  maxWaiting?: number;
  maxWaitMs?: number;
  planLifeMs?: number;
  /** Our own deadlines, for a server that does not respond: see `ConnectionOptions`. */
  connectMs?: number;
  quickMs?: number;
  /** The deadline of a whole transaction. */
  transactionMs?: number;
};

/**
 * The maximum age of a statement's plan. A plan made while a table was almost empty can use the wrong index, and then reads
 * every row of a client for each one that it needs. Postgres keeps such a plan until it analyses the table.
 */
const defaultPlanLifeMs = 10_000;

const readConnections = 3;
/** A shared read is of one row or of one page: without a response by then, none will come. */
const readMs = 5_000;
/** Added to the statement timeout, so that a server that responds reports its own timeout first. */
const answerGraceMs = 500;

const setTenant = "select app.set_tenant($1, $2, $3)";
const setUser = "select app.set_user($1, $2)";
const setSystem = "select set_config('app.request_id', $1, true), set_config('app.client_id', $2, true)";

/** Opens the database. It hands out transactions, never bare connections: tenants work under row-level security. */
export function openDatabase(options: DatabaseOptions) {
  const { tenants, readers, system, notifier, watches } = openPools(options);
  const transactionMs = options.transactionMs ?? 30_000;
  const announcing = (clientId: string | null) => (news: News) => notifier.announce(clientId, news);

  const accessOf = (ownerOf: (clientId: string) => Owner) => ({
    /** A transaction that reads and writes one client's rows only. */
    asClient: <T>(session: TenantSession, work: (tx: Tx) => Promise<T>, { mode = "write" }: Mode = {}) =>
      transact(
        {
          pool: tenants,
          owner: ownerOf(session.clientId),
          transactionMs,
          mode,
          onCommit: announcing(session.clientId),
        },
        [setTenant, parametersOf(session)],
        work,
      ),

    /** A read-only transaction that sees one person's own rows, such as memberships, before a client is chosen. */
    asUser: <T>(userId: string, work: (tx: Tx) => Promise<T>) =>
      transact(
        { pool: tenants, owner: userId, transactionMs, mode: "read", onCommit: announcing(null) },
        [setUser, [userId, null]],
        work,
      ),

    /** A transaction that sees every client. For authentication, sweeps and workers; a test lists the allowed callers. */
    asSystem: <T>(
      work: (tx: Tx) => Promise<T>,
      { mode = "write", requestId = null, clientId = null, owner = null }: SystemOptions = {},
    ) =>
      transact(
        { pool: system, owner, transactionMs, mode, onCommit: announcing(clientId) },
        [setSystem, [requestId ?? "", clientId ?? ""]],
        work,
      ),

    /**
     * Reads one client's rows without a transaction around them: each statement is one by itself, in one round trip. The
     * statements of `hotRead` share connections with those of other clients.
     */
    readAsClient: <T>(session: TenantSession, work: (tx: Tx) => Promise<T>): Promise<T> =>
      read({ each: tenants, shared: readers, session: parametersOf(session), transactionMs }, work),

    /**
     * One row by its key, with a constant query. Returns the row as the driver gives it, with column names in snake_case;
     * null without one.
     */
    async readOne(
      session: TenantSession,
      body: string,
      parameters: readonly unknown[],
    ): Promise<Record<string, unknown> | null> {
      try {
        const all = [...parameters, ...parametersOf(session)];
        const [row] = await readers.send(session.clientId, tenantStatement(body, parameters.length), all);
        return (row as Record<string, unknown> | undefined) ?? null;
      } catch (error) {
        throw toSessionRefused(error) ?? error;
      }
    },
  });

  return {
    ...accessOf((clientId) => clientId),
    /** The same for jobs: while a client sends requests, its jobs hold half of its share, and wait behind them. */
    forJobs: accessOf((jobsOf) => ({ jobsOf })),
    close: async () => {
      for (const watch of watches) watch.close();
      await Promise.all([tenants.close(), readers.close(), system.close(), notifier.close()]);
    },
  };
}

/** With `close`, for whoever opened it. */
export type OpenDatabase = ReturnType<typeof openDatabase>;
export type Database = OpenDatabase["forJobs"];

function openPools(options: DatabaseOptions) {
  const { tenantUrl, systemUrl, size = 10, statementTimeoutMs = 10_000, idleInTransactionTimeoutMs = 15_000 } = options;
  const common = {
    statementTimeoutMs,
    idleInTransactionTimeoutMs,
    connectMs: options.connectMs ?? 5_000,
    quickMs: options.quickMs ?? 3_000,
    answerMs: statementTimeoutMs + answerGraceMs,
    maxWaiting: options.maxWaiting ?? 1_000,
    maxWaitMs: options.maxWaitMs ?? 5_000,
    planLifeMs: options.planLifeMs ?? defaultPlanLifeMs,
  };
  const tenant = { ...common, url: tenantUrl, watch: new SilenceWatch({ ...common, url: tenantUrl, name: "" }) };
  const tenants = new ConnectionPool({ ...tenant, name: "patchbay-tenant", size });
  const readers = new SharedReadConnections({
    ...{ ...tenant, name: "patchbay-reader", connections: readConnections, pendingPerConnection: 50 },
    answerMs: Math.min(readMs, statementTimeoutMs),
  });
  const watch = new SilenceWatch({ ...common, url: systemUrl, name: "" });
  const systemSize = Math.max(3, Math.ceil(size / 2));
  const system = new ConnectionPool({ ...common, url: systemUrl, watch, name: "patchbay-system", size: systemSize });
  const notifier = openNotifier({ ...common, url: systemUrl, watch, name: "patchbay-notifier" });
  return { tenants, readers, system, notifier, watches: [tenant.watch, watch] };
}

const parametersOf = ({ clientId, keyId, requestId }: TenantSession) =>
  [clientId, keyId ?? null, requestId ?? null] as const;
