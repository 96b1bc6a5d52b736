// Why this file exists. postgres.js reconnects by itself when it loses its connection, and sends what it had queued over the
// new one. A statement of a broken transaction would then run outside of it, commit by itself and look like a success. When
// the server closes a connection before it is authenticated, postgres.js reports nothing and dials again, so nothing ever
// settles. A server that accepts a statement and never responds has the same effect. So each `Connection` gives postgres.js
// one socket only, fails as a whole at its first loss, rejects every pending statement, and has its own deadlines.

import { connect, type Socket } from "node:net";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";

/** The connection was lost. Pending work was not committed, unless the commit itself was pending: then it is unknown. */
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
  /** The deadline of the first response on a new connection. */
  connectMs: number;
  /** The deadline of `begin` and other commands that do no work. */
  quickMs: number;
  /** The deadline of any other statement: the server's own timeout cannot fire when the server has stopped. */
  answerMs: number;
  /** Ends the waiting before these deadlines, once the server is known to be silent. */
  watch?: { isSilent: boolean; suspect(): void; responded(): void } | undefined;
};

/**
 * One connection to Postgres, which never reconnects: postgres.js gets one socket, and an error when it requests a second.
 */
export class Connection {
  readonly #sql: postgres.Sql;
  /** Statements without a response, oldest first, each with its deadline in ms from when it became the oldest. */
  readonly #pending = new Map<Sent, number>();
  readonly #options: ConnectionOptions;
  readonly #onDeath: (connection: Connection) => void;
  #socket: Socket | undefined;
  #clock: NodeJS.Timeout | undefined;
  #silentMs = 0;
  #isDead = false;
  #isReported = false;
  #plannedAt = performance.now();
  #lostListener: ((error: ConnectionLost) => void) | undefined;
  /** Why there is no connection: an error of the socket, or of the server before authentication. */
  #reason: unknown;
  #isAuthenticated = false;

  constructor(options: ConnectionOptions, onDeath: (connection: Connection) => void) {
    this.#options = options;
    this.#onDeath = onDeath;
    this.#sql = postgres(options.url, {
      max: 1,
      ...unlisted({ max_pipeline: 10_000, socket: once((target) => this.#dial(target)) }),
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: Math.ceil(options.connectMs / 1000) + 1, // our own deadline fires first
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

  get isDead() {
    return this.#isDead;
  }

  /** The number of pending statements. */
  get load() {
    return this.#pending.size;
  }

  /** Sets the listener for the loss of the connection, called at most once. There is one: the present transaction. */
  onLost(listener: ((error: ConnectionLost) => void) | undefined) {
    this.#lostListener = listener;
  }

  /** Sends a statement. Its place in the order is fixed before this returns. */
  send(text: string, parameters: readonly unknown[] = []) {
    if (this.#isDead) throw new ConnectionLost();
    return this.#watch(this.#sql.unsafe(text, parameters as never[], prepared), this.#options.answerMs);
  }

  /** Commands without parameters, which are cheaper unprepared. `writes`: a commit of a write needs the longer deadline. */
  command(text: "begin" | "begin read only" | "commit" | "rollback" | "discard plans", writes = false) {
    if (this.#isDead) throw new ConnectionLost();
    return this.#watch(this.#sql.unsafe(text), writes ? this.#options.answerMs : this.#options.quickMs);
  }

  /** Discards old plans. Call it before a transaction, or before a statement that is one. */
  discardOldPlans() {
    if (performance.now() - this.#plannedAt < this.#options.planLifeMs) return;
    this.#plannedAt = performance.now();
    this.command("discard plans").catch(() => {}); // it fails with the connection, and so does what follows
  }

  /** Waits for pending statements, then closes. */
  async close() {
    await this.#sql.end({ timeout: 5 });
  }

  /** Closes without waiting; pending statements fail. */
  destroy() {
    this.#isDead = true;
    this.#sql.end({ timeout: 0 }).catch(() => {}); // the connection is unusable in either case
  }

  /** Drops the connection: pending statements fail with the reason. The server may still finish them. */
  abort(reason: string) {
    if (this.#isReported) return;
    this.#reason = new Error(reason);
    this.#die();
    this.#socket?.destroy();
    this.destroy();
  }

  #watch(sent: Sent, limitMs: number): Sent {
    if (this.#pending.size === 0) this.#silentMs = 0;
    this.#pending.set(sent, limitMs);
    this.#clock ??= setInterval(() => this.#tick(), tickMs).unref();
    sent.execute();
    const onResponse = () => {
      this.#pending.delete(sent);
      this.#silentMs = 0;
      if (!this.#isDead) this.#options.watch?.responded();
    };
    sent.then(
      () => {
        this.#isAuthenticated = true;
        onResponse();
      },
      (error: unknown) => {
        if (!this.#isAuthenticated && !(error instanceof ConnectionLost)) this.#reason ??= error;
        onResponse();
      },
    );
    return sent;
  }

  /** Counts how long the oldest statement is pending. It counts ticks, because none pass while this process is suspended. */
  #tick() {
    const [limitMs] = this.#pending.values();
    if (limitMs === undefined || this.#isDead) return this.#stopClock();
    this.#silentMs += tickMs;
    this.#options.watch?.suspect();
    if (this.#options.watch?.isSilent) return this.abort("The database responds on no connection.");
    const mostMs = this.#isAuthenticated ? limitMs : this.#options.connectMs;
    if (this.#silentMs >= mostMs) this.abort(`The database did not answer within ${mostMs} ms.`);
  }

  #stopClock() {
    clearInterval(this.#clock);
    this.#clock = undefined;
  }

  /** Watches the socket: postgres.js does not report a connection that closes before authentication. */
  #dial(target: Target): Socket {
    const socket = dial(target);
    this.#socket = socket;
    socket.once("error", (error) => {
      this.#reason ??= error;
    });
    return socket.once("close", () => setImmediate(() => this.#die()));
  }

  #die() {
    if (this.#isReported) return;
    this.#isReported = true;
    this.#isDead = true;
    this.#stopClock();
    // postgres.js would keep queued statements for its next connection, which never comes, so they are rejected here.
    for (const sent of this.#pending.keys()) rejectNow(sent, this.#reason);
    this.#lostListener?.(new ConnectionLost(this.#reason));
    this.#onDeath(this);
  }
}

const tickMs = 250;

type Sent = postgres.PendingQuery<postgres.Row[]>;

const prepared = { prepare: true, simple: false } as postgres.UnsafeQueryOptions; // its types lack `simple`

/** Every query of postgres.js has `reject`, which its types lack. */
const rejectNow = (sent: Sent, reason: unknown) =>
  (sent as unknown as { reject(error: Error): void }).reject(new ConnectionLost(reason));

/** Options of postgres.js that its types lack. */
const unlisted = (options: object) => options as Record<never, never>;

type Target = { host: string[]; port: number[]; path?: string };

function once(dial: (target: Target) => Socket) {
  let isUsed = false;
  return (target: Target) => {
    if (isUsed) throw new ConnectionLost();
    isUsed = true;
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
