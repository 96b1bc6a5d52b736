import { randomUUID } from "node:crypto";
import { and, eq, lte, or, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { eventHorizon } from "../db/event-position.ts";
import { events } from "../db/schema/events.ts";
import { busPositions, deadJobs } from "../db/schema/platform.ts";
import { dbNow, inSeconds } from "../db/time.ts";
import { eventEnvelope, inCommitOrder, isBehind } from "../routers/events/service.ts";
import type { BusEntry, BusVerdict } from "../routers/ports/event-bus.ts";
import { deadJobRow } from "./runtime/task.ts";
import type { Timer, TimerContext } from "./runtime/timers.ts";

const batchSize = 100;
const budgetMs = 20_000;
/** For one wave, retries included. */
const deadlineMs = 10_000;
/** Longer than a wave and its record take. A worker that is killed delays the others by at most this. */
const leaseSeconds = 30;
const maxBackoffSeconds = 60;

type Row = typeof events.$inferSelect;
type Position = Pick<typeof busPositions.$inferSelect, "position" | "sequence" | "eventId">;
type Round = Pick<TimerContext, "db" | "log" | "signal"> & { bus: string; holder: string };

/**
 * Publishes the events of all clients to the bus in the order of their commits, each at least once. One worker publishes
 * at a time, by a lease: no transaction is open during a request to the bus. An event of a subject is published after the
 * bus has accepted the previous one, so that a failure in between does not change their order.
 */
export function busTimer(): Timer {
  const holder = randomUUID();
  /** Accepted by the bus, but behind an event that was not, so that the position could not pass them. */
  const accepted = new Set<string>();
  return {
    name: "bus.publish",
    everyMs: 1_000,
    deadlineMs: 45_000,
    async run({ db, log, signal, providers }) {
      const { bus } = providers;
      if (!bus) return;
      const until = performance.now() + budgetMs;
      while (performance.now() < until && !signal.aborted) {
        const round: Round = { db, log, signal, bus: bus.name, holder };
        const rows = await claim(round);
        if (!rows) return;
        const outcome = await publishAll(rows, { ...round, accepted }, (entries, signal) =>
          bus.publish(entries, signal),
        );
        if (outcome === "done" && rows.length === batchSize) continue;
        if (outcome !== "lost") await release(round);
        return outcome === "done" ? "done" : "skipped";
      }
    },
  };
}

type Publish = (entries: readonly BusEntry[], deadline: { signal: AbortSignal }) => Promise<BusVerdict[]>;

/** Publishes in waves: each has the next event of every subject. After every wave the position is at the first gap. */
async function publishAll(rows: readonly Row[], round: Round & { accepted: Set<string> }, publish: Publish) {
  const { accepted, log, signal } = round;
  let left = rows.filter(({ id }) => !accepted.has(id));
  if (left.length === 0) await record(round, { reached: rows.at(-1), refused: [], result: "ok" });
  while (left.length > 0) {
    const wave = firstOfEachSubject(left);
    const waveSignal = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    const verdicts = await publishReadable(wave, publish, waveSignal);
    const refused: Refusal[] = [];
    let failure: string | undefined;
    for (const [place, row] of wave.entries()) {
      const verdict = verdicts[place]!;
      if (verdict.is === "failed") failure ??= verdict.why;
      else accepted.add(row.id);
      if (verdict.is === "refused") refused.push({ row, why: verdict.why });
    }
    left = left.filter(({ id }) => !accepted.has(id));
    const result = failure === undefined ? "ok" : signal.aborted ? "stopped" : { failure };
    const isOurs = await record(round, { reached: beforeFirstGap(rows, accepted), refused, result });
    for (const { row, why } of refused) {
      const { id, type, clientId } = row;
      log.error({ alert: true, event_id: id, type, client_id: clientId, reason: why }, "event refused by the bus");
    }
    if (!isOurs) return "lost";
    if (failure === undefined) continue;
    if (!signal.aborted) log.warn({ bus: round.bus, reason: failure }, "bus publish failed; will retry");
    return "failed";
  }
  accepted.clear();
  return "done";
}

/** An event that cannot be written as an entry counts as refused by the bus: the others are still published. */
async function publishReadable(wave: readonly Row[], publish: Publish, signal: AbortSignal): Promise<BusVerdict[]> {
  const entries = wave.map((row) => {
    try {
      return entryOf(row);
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  });
  const readable = entries.flatMap((entry) => (entry instanceof Error ? [] : [entry]));
  const published = readable.length > 0 ? await publish(readable, { signal }) : [];
  const verdicts = published.values();
  return entries.map((entry) =>
    entry instanceof Error
      ? { is: "refused", why: `It cannot be written as JSON: ${entry.message}` }
      : verdicts.next().value!,
  );
}

function beforeFirstGap(rows: readonly Row[], accepted: ReadonlySet<string>): Row | undefined {
  const gap = rows.findIndex(({ id }) => !accepted.has(id));
  return gap < 0 ? rows.at(-1) : rows[gap - 1];
}

function firstOfEachSubject(rows: readonly Row[]): Row[] {
  const seen = new Set<string>();
  return rows.filter(({ clientId, subjectId }) => {
    const subject = `${clientId} ${subjectId}`;
    return !seen.has(subject) && seen.add(subject);
  });
}

function entryOf(row: Row): BusEntry {
  const envelope = eventEnvelope(row);
  const { data: _, ...rest } = envelope;
  return {
    type: row.type,
    at: row.createdAt,
    detail: JSON.stringify(envelope),
    thin: () => JSON.stringify({ ...rest, truncated: true }),
  };
}

const isBus = (bus: string) => eq(busPositions.bus, bus);

/** Claims the next events, unless there are none or another worker has the lease. A new bus begins with the next event. */
async function claim({ db, bus, holder }: Round): Promise<Row[] | null> {
  const found = await db.asSystem((tx) => look(tx, bus), { mode: "read" });
  if (!found) {
    await db.asSystem((tx) => tx.execute(begin(bus)));
    return null;
  }
  const { position, rows } = found;
  if (rows.length === 0) return null;
  const claimed = await db.asSystem((tx) =>
    tx
      .update(busPositions)
      .set({ holder, freeAt: inSeconds(leaseSeconds) })
      .where(
        and(
          isBus(bus),
          or(lte(busPositions.freeAt, dbNow()), eq(busPositions.holder, holder)),
          eq(busPositions.position, position.position),
          eq(busPositions.sequence, position.sequence),
          eq(busPositions.eventId, position.eventId),
        ),
      )
      .returning({ bus: busPositions.bus }),
  );
  return claimed.length > 0 ? rows : null;
}

async function look(tx: Tx, bus: string): Promise<{ position: Position; rows: Row[] } | null> {
  const [position] = await tx
    .select({ position: busPositions.position, sequence: busPositions.sequence, eventId: busPositions.eventId })
    .from(busPositions)
    .where(isBus(bus));
  if (!position) return null;
  const { position: place, sequence, eventId: id } = position;
  const rows = await tx
    .select()
    .from(events)
    .where(and(sql`${events.position} < ${eventHorizon}`, isBehind({ position: place, sequence, id })))
    .orderBy(...inCommitOrder)
    .limit(batchSize);
  return { position, rows };
}

const begin = (bus: string) => sql`
  insert into bus_positions (bus, position, event_id) values (${bus}, ${eventHorizon}, '') on conflict (bus) do nothing`;

type Refusal = { row: Row; why: string };
type Findings = {
  /** The last event before which there is no gap, if it has moved. */
  reached: Row | undefined;
  refused: readonly Refusal[];
  result: "ok" | "stopped" | { failure: string };
};

/**
 * Moves the position, keeps refused events as dead letters, and renews the lease. After a failure the next attempt waits.
 * Returns false when another worker has the lease.
 */
async function record({ db, bus, holder }: Round, { reached, refused, result }: Findings): Promise<boolean> {
  const moved = reached ? { position: reached.position, sequence: reached.sequence, eventId: reached.id } : {};
  const status =
    result === "stopped"
      ? {}
      : result === "ok"
        ? { ...healthy, freeAt: inSeconds(leaseSeconds) }
        : { ...failing, error: result.failure };
  return await db.asSystem(async (tx) => {
    const changed = await tx
      .update(busPositions)
      .set({ ...moved, ...status, updatedAt: dbNow() })
      .where(and(isBus(bus), eq(busPositions.holder, holder)))
      .returning({ bus: busPositions.bus });
    if (changed.length === 0) return false;
    for (const { row, why } of refused) {
      const payload = { bus, eventId: row.id, type: row.type, createdAt: row.createdAt.toISOString() };
      await tx
        .insert(deadJobs)
        .values(deadJobRow({ task: "bus.publish", clientId: row.clientId, payload, error: why }));
    }
    return true;
  });
}

const healthy = { failures: 0, failingSince: null, error: null };
const failing = {
  failures: sql`${busPositions.failures} + 1` as unknown as number,
  failingSince: sql`coalesce(${busPositions.failingSince}, clock_timestamp())` as unknown as Date,
  holder: null,
  freeAt: sql`clock_timestamp() + make_interval(secs => (0.5 + random() / 2)
    * least(${maxBackoffSeconds}::int, power(2, least(${busPositions.failures}, 10))))` as unknown as Date,
};

async function release({ db, bus, holder }: Round) {
  await db.asSystem((tx) =>
    tx
      .update(busPositions)
      .set({ holder: null, freeAt: dbNow() })
      .where(and(isBus(bus), eq(busPositions.holder, holder))),
  );
}
