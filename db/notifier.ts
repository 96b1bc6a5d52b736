import { setTimeout as sleep } from "node:timers/promises";
import { Connection, type ConnectionOptions } from "./connection.ts";

/** What a transaction has written that other processes wait for. It is announced once the transaction has committed. */
export type News = {
  /** Jobs that are due now. */
  jobs: number;
  /** The client has new events. */
  events: boolean;
  /** Events of the client wait for their fan-out. */
  fanOuts: boolean;
};

/** The NOTIFY channel of committed events. The payload is a client id, or one of the two topics below. */
export const eventsChannel = "patchbay_events";
/** The topic of events that wait for their fan-out. */
export const fanOutTopic = "fan_outs";
/** Wakes the watchers of every topic. */
export const everyTopic = "*";

/** The channel of graphile-worker. */
const jobsChannel = "jobs:insert";

/** With more clients than this in one notification, all followers are woken. */
const maxClients = 100;
/** The shortest time between two notifications. */
const minIntervalMs = 5;
const firstPauseMs = 100;
const longestPauseMs = 5_000;

/**
 * Tells other processes what was committed, on a connection of its own. A NOTIFY inside of a transaction that writes takes a
 * lock of the whole server until the commit is on disk, so all writers would wait for each other. Notifications are hints:
 * without a connection they are merged and sent later, and whoever waits for them also reads the database from time to time.
 */
export function openNotifier(options: ConnectionOptions) {
  const closing = new AbortController();
  let pending = nothing();
  let sending: Promise<void> | undefined;
  let connection: Connection | undefined;

  async function sendAll() {
    let pauseMs = firstPauseMs;
    while (!closing.signal.aborted && !isEmpty(pending)) {
      const batch = pending;
      pending = nothing();
      const isSent = await send(batch);
      if (!isSent) merge(pending, batch);
      await sleep(isSent ? minIntervalMs : pauseMs, undefined, { signal: closing.signal }).catch(() => {});
      pauseMs = isSent ? firstPauseMs : Math.min(pauseMs * 2, longestPauseMs);
    }
    sending = undefined;
  }

  async function send(batch: Pending): Promise<boolean> {
    try {
      if (!connection || connection.isDead) connection = new Connection(options, () => {});
      await connection.send(statement, [JSON.stringify(notificationsOf(batch))]);
      return true;
    } catch {
      connection?.destroy();
      return false;
    }
  }

  return {
    /** Returns immediately. */
    announce(clientId: string | null, { jobs, events, fanOuts }: News) {
      merge(pending, { jobs, fanOuts, clients: new Set(events && clientId !== null ? [clientId] : []) });
      if (closing.signal.aborted || isEmpty(pending)) return;
      sending ??= sendAll();
    },

    async close() {
      closing.abort();
      connection?.abort("The database is being closed.");
      await sending;
    },
  };
}

/** A lost notification costs no more than a delay, so its commit does not wait for the disk. */
const statement = `select pg_notify(channel, payload), set_config('synchronous_commit', 'off', true)
  from json_to_recordset($1::text::json) as n(channel text, payload text)`;

type Pending = { jobs: number; fanOuts: boolean; clients: Set<string> };
const nothing = (): Pending => ({ jobs: 0, fanOuts: false, clients: new Set() });
const isEmpty = ({ jobs, fanOuts, clients }: Pending) => jobs === 0 && !fanOuts && clients.size === 0;

function merge(into: Pending, more: Pending) {
  into.jobs += more.jobs;
  into.fanOuts ||= more.fanOuts;
  for (const clientId of more.clients) if (into.clients.size <= maxClients) into.clients.add(clientId);
}

function notificationsOf({ jobs, fanOuts, clients }: Pending) {
  const topics = clients.size > maxClients ? [everyTopic] : [...clients, ...(fanOuts ? [fanOutTopic] : [])];
  const ofEvents = topics.map((payload) => ({ channel: eventsChannel, payload }));
  return jobs === 0 ? ofEvents : [...ofEvents, { channel: jobsChannel, payload: JSON.stringify({ count: jobs }) }];
}
