import pg from "pg";

type QueueConnections = { workerUrl: string; name: string; max: number; statementMs: number; queryMs: number };

/**
 * The library fetches jobs with one prepared statement. Its plan would be made while the queue is empty, and kept: with a
 * backlog that plan takes seconds. A new plan for each fetch takes less than a millisecond.
 */
function withNewPlans(address: string): string {
  const url = new URL(address);
  const given = url.searchParams.get("options") ?? "";
  url.searchParams.set("options", `${given} -c plan_cache_mode=force_custom_plan`.trim());
  return url.href;
}

/** `queryMs` is our own timeout: a server that has stopped responding ends no statement. */
export const openQueueConnections = (options: QueueConnections, config: pg.PoolConfig = {}): pg.Pool =>
  new pg.Pool({
    connectionString: withNewPlans(options.workerUrl),
    application_name: options.name,
    max: options.max,
    connectionTimeoutMillis: 10_000,
    statement_timeout: options.statementMs,
    query_timeout: options.queryMs,
    ...config,
  });

/**
 * Replaces a lost connection when the next one is needed; an error without a listener would end the process. `report`
 * receives the message of the error.
 */
export function onConnectionLoss(connections: pg.Pool, report: (reason: string) => void) {
  connections.on("connect", (client) => {
    client.on("error", ({ message }) => report(message));
    closeOnTimeout(client, report);
  });
  connections.on("error", () => {}); // an idle client: the same error again
}

/** A query past `query_timeout` still runs on the server, so its connection is closed and never used again. */
function closeOnTimeout(client: pg.PoolClient, report: (reason: string) => void) {
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  const watched = (...args: unknown[]) => {
    const result = query(...args);
    if (!(result instanceof Promise)) return result;
    result.catch(({ message }: Error) => {
      if (message !== "Query read timeout") return;
      report(message);
      (client as unknown as pg.Client).end().catch(() => {}); // closed already
    });
    return result;
  };
  client.query = watched as typeof client.query; // same parameters and results as the original
}
