import { connect, type Socket } from "node:net";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";

/** The connection was lost. Whatever was under way did not commit, unless it was the commit itself: that nobody knows. */
export class ConnectionLost extends Error {
  constructor(cause?: unknown) {
    super("The connection to the database was lost.", { cause });
    this.name = "ConnectionLost";
  }
}

export type ConnectionOptions = {
  url: string;
  name: string;
  statementTimeoutMs: number;
  idleInTransactionTimeoutMs: number;
  planLifeMs: number;
};

/**
 * One connection for as long as it lives. postgres.js would quietly connect again, and a statement of a broken
 * transaction would run outside of it and look like success: so the socket is given once, and never a second time.
 */
export class Connection {
  readonly #sql: postgres.Sql;
  readonly #underWay = new Set<Sent>();
  readonly #onDeath: (lane: Connection) => void;
  #dead = false;
  #isMourned = false;
  readonly #planLifeMs: number;
  #plannedAt = performance.now();
  #waiter: ((error: ConnectionLost) => void) | undefined;
  /** Why there is no connection: what the socket said, or the server while nobody had been let in yet. */
  #reason: unknown;
  #isIn = false;

  constructor(options: ConnectionOptions, onDeath: (lane: Connection) => void) {
    this.#planLifeMs = options.planLifeMs;
    this.#onDeath = onDeath;
    this.#sql = postgres(options.url, {
      max: 1,
      ...unlisted({ max_pipeline: 10_000, socket: once((target) => this.#dial(target)) }),
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: 10,
      onnotice: () => {},
      onclose: () => this.#die(),
      connection: {
        application_name: options.name,
        statement_timeout: options.statementTimeoutMs,
        idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs,
      },
    });
    drizzle(this.#sql); // switches the date parsers to text, as drizzle's columns expect
  }

  get dead() {
    return this.#dead;
  }

  /** Statements under way. */
  get load() {
    return this.#underWay.size;
  }

  /** What drizzle's session reads from its client. */
  get driverOptions() {
    return this.#sql.options;
  }

  /** Hears of the loss of the connection, once. One transaction at a time listens. */
  listen(waiter: ((error: ConnectionLost) => void) | undefined) {
    this.#waiter = waiter;
  }

  /** Sends a statement now: its place in the line is decided before this returns. */
  send(text: string, parameters: readonly unknown[] = []) {
    if (this.#dead) throw new ConnectionLost();
    return this.#watch(this.#sql.unsafe(text, parameters as never[], prepared));
  }

  /** Begin, commit and rollback: without parameters, and cheaper unprepared. */
  command(text: "begin" | "begin read only" | "commit" | "rollback" | "discard plans") {
    if (this.#dead) throw new ConnectionLost();
    return this.#watch(this.#sql.unsafe(text));
  }

  /** Before a transaction, or a statement that is one: has statements planned anew that were planned some time ago. */
  forgetOldPlans() {
    if (performance.now() - this.#plannedAt < this.#planLifeMs) return;
    this.#plannedAt = performance.now();
    this.command("discard plans").catch(() => {}); // it fails with the connection, and so does what follows
  }

  /** Finishes what is under way, then closes. */
  async close() {
    await this.#sql.end({ timeout: 5 });
  }

  /** Closes at once; whatever is under way fails. */
  destroy() {
    this.#dead = true;
    this.#sql.end({ timeout: 0 }).catch(() => {}); // nothing is left to tell: the lane is gone either way
  }

  #watch(sent: Sent): Sent {
    this.#underWay.add(sent);
    sent.execute();
    sent.then(
      () => {
        this.#isIn = true;
        this.#underWay.delete(sent);
      },
      (error: unknown) => {
        if (!this.#isIn && !(error instanceof ConnectionLost)) this.#reason ??= error;
        this.#underWay.delete(sent);
      },
    );
    return sent;
  }

  /** Of a server that hangs up before it has let anybody in, postgres.js says nothing, and calls again: nobody answers. */
  #dial(target: Target): Socket {
    const socket = dial(target);
    socket.once("error", (error) => {
      this.#reason ??= error;
    });
    return socket.once("close", () => setImmediate(() => this.#die()));
  }

  #die() {
    if (this.#isMourned) return;
    this.#isMourned = true;
    this.#dead = true;
    // What postgres.js had put aside it would now send over the next connection, which there is not: it would wait for ever.
    for (const sent of this.#underWay) rejectNow(sent, this.#reason);
    this.#waiter?.(new ConnectionLost(this.#reason));
    this.#onDeath(this);
  }
}

type Sent = postgres.PendingQuery<postgres.Row[]>;

const prepared = { prepare: true, simple: false } as postgres.UnsafeQueryOptions; // `simple` is missing in its types

/** Every query of postgres.js carries this; its types do not say so. */
const rejectNow = (sent: Sent, reason: unknown) =>
  (sent as unknown as { reject(error: Error): void }).reject(new ConnectionLost(reason));

/** Options that postgres.js has and its types do not know. */
const unlisted = (options: object) => options as Record<never, never>;

type Target = { host: string[]; port: number[]; path?: string };

function once(dial: (target: Target) => Socket) {
  let given = false;
  return (target: Target) => {
    if (given) throw new ConnectionLost();
    given = true;
    return dial(target);
  };
}

function dial(target: Target): Socket {
  const host = target.host[0] ?? "127.0.0.1";
  const port = target.port[0] ?? 5432;
  const socket = target.path ? connect(target.path) : connect({ host, port });
  socket.setNoDelay(true);
  return Object.assign(socket, { host, port }); // postgres.js reads both for its error messages and TLS server name
}
