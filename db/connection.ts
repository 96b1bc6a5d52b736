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
  /** How long a connection may take until its first statement is answered. */
  connectMs: number;
  /** How long `begin`, and what else does no work, may go unanswered. */
  quickMs: number;
  /** How long any other statement may: the server's own timeout cannot fire when the server has stopped. */
  answerMs: number;
};

/**
 * One connection for as long as it lives. postgres.js would quietly connect again, and a statement of a broken
 * transaction would run outside of it and look like success: so the socket is given once, and never a second time.
 */
export class Connection {
  readonly #sql: postgres.Sql;
  /** Statements that were sent and not yet answered, oldest first, and how long each may stay the oldest. */
  readonly #underWay = new Map<Sent, number>();
  readonly #options: ConnectionOptions;
  readonly #onDeath: (lane: Connection) => void;
  #socket: Socket | undefined;
  #clock: NodeJS.Timeout | undefined;
  #silentMs = 0;
  #dead = false;
  #isMourned = false;
  #plannedAt = performance.now();
  #waiter: ((error: ConnectionLost) => void) | undefined;
  /** Why there is no connection: what the socket said, or the server while nobody had been let in yet. */
  #reason: unknown;
  #isIn = false;

  constructor(options: ConnectionOptions, onDeath: (lane: Connection) => void) {
    this.#options = options;
    this.#onDeath = onDeath;
    this.#sql = postgres(options.url, {
      max: 1,
      ...unlisted({ max_pipeline: 10_000, socket: once((target) => this.#dial(target)) }),
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: Math.ceil(options.connectMs / 1000) + 1, // ours comes first
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
    return this.#watch(this.#sql.unsafe(text, parameters as never[], prepared), this.#options.answerMs);
  }

  /** Begin, commit and rollback: without parameters, and cheaper unprepared. A commit that writes has something to do. */
  command(text: "begin" | "begin read only" | "commit" | "rollback" | "discard plans", writes = false) {
    if (this.#dead) throw new ConnectionLost();
    return this.#watch(this.#sql.unsafe(text), writes ? this.#options.answerMs : this.#options.quickMs);
  }

  /** Before a transaction, or a statement that is one: has statements planned anew that were planned some time ago. */
  forgetOldPlans() {
    if (performance.now() - this.#plannedAt < this.#options.planLifeMs) return;
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

  /** Gives the connection up: whatever is under way fails with the reason, and the server may do as it likes. */
  abort(reason: string) {
    if (this.#isMourned) return;
    this.#reason = new Error(reason);
    this.#die();
    this.#socket?.destroy();
    this.destroy();
  }

  #watch(sent: Sent, limitMs: number): Sent {
    if (this.#underWay.size === 0) this.#silentMs = 0;
    this.#underWay.set(sent, limitMs);
    this.#clock ??= setInterval(() => this.#tick(), tickMs).unref();
    sent.execute();
    const answered = () => {
      this.#underWay.delete(sent);
      this.#silentMs = 0;
    };
    sent.then(
      () => {
        this.#isIn = true;
        answered();
      },
      (error: unknown) => {
        if (!this.#isIn && !(error instanceof ConnectionLost)) this.#reason ??= error;
        answered();
      },
    );
    return sent;
  }

  /** Counts how long the oldest statement has been the oldest. In ticks: while this process itself stood still, none passed. */
  #tick() {
    const [limitMs] = this.#underWay.values();
    if (limitMs === undefined || this.#dead) return this.#stopClock();
    this.#silentMs += tickMs;
    const mostMs = this.#isIn ? limitMs : this.#options.connectMs;
    if (this.#silentMs >= mostMs) this.abort(`The database did not answer within ${mostMs} ms.`);
  }

  #stopClock() {
    clearInterval(this.#clock);
    this.#clock = undefined;
  }

  /** Of a server that hangs up before it has let anybody in, postgres.js says nothing, and calls again: nobody answers. */
  #dial(target: Target): Socket {
    const socket = dial(target);
    this.#socket = socket;
    socket.once("error", (error) => {
      this.#reason ??= error;
    });
    return socket.once("close", () => setImmediate(() => this.#die()));
  }

  #die() {
    if (this.#isMourned) return;
    this.#isMourned = true;
    this.#dead = true;
    this.#stopClock();
    // What postgres.js had put aside it would now send over the next connection, which there is not: it would wait for ever.
    for (const sent of this.#underWay.keys()) rejectNow(sent, this.#reason);
    this.#waiter?.(new ConnectionLost(this.#reason));
    this.#onDeath(this);
  }
}

const tickMs = 250;

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
