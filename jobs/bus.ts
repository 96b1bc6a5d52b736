import { randomUUID } from "node:crypto";
import { and, asc, eq, lte, or, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { events } from "../db/schema/events.ts";
import { busPositions, deadJobs } from "../db/schema/platform.ts";
import { eventEnvelope } from "../routers/events/service.ts";
import type { BusEntry, BusVerdict } from "../routers/ports/event-bus.ts";
import { deadJobRow } from "./runtime/task.ts";
import type { Timer, TimerContext } from "./runtime/timers.ts";

const window = 100;
const budgetMs = 20_000;
/** For one wave, repeats included. */
const deadlineMs = 10_000;
/** Longer than a wave and its record take: a worker that is killed holds the others up for so long. */
const leaseSeconds = 30;
const backoffSeconds = 60;

type Row = typeof events.$inferSelect;
type Position = { txid: string; eventId: string };
type Round = Pick<TimerContext, "db" | "log" | "signal"> & { bus: string; holder: string };

/**
 * Tells the bus of the events of all clients in the order of their commits, each at least once. One worker at a time, by a
 * lease: no transaction is open while the bus is spoken to. An event of a subject is told when the one before it has been
 * accepted, so that a failure in between turns nothing around.
 */
export function busTimer(): Timer {
  const holder = randomUUID();
  /** Accepted by the bus, but behind one that was not, so that the position could not pass them. */
  const told = new Set<string>();
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
        const outcome = await tellAll(rows, { ...round, told }, (entries, within) => bus.publish(entries, within));
        if (outcome === "over" && rows.length === window) continue;
        if (outcome !== "lost") await release(round);
        return outcome === "over" ? "done" : "skipped";
      }
    },
  };
}

type Publish = (entries: readonly BusEntry[], deadline: { signal: AbortSignal }) => Promise<BusVerdict[]>;

/** In waves: in each, the next event of every subject. After every wave the position is where the first gap is. */
async function tellAll(rows: readonly Row[], round: Round & { told: Set<string> }, publish: Publish) {
  const { told, log, signal } = round;
  let left = rows.filter(({ id }) => !told.has(id));
  if (left.length === 0) await record(round, { reached: rows.at(-1), refused: [], is: "well" });
  while (left.length > 0) {
    const wave = firstOfEachSubject(left);
    const within = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    const verdicts = await publishReadable(wave, publish, within);
    const refused: Refusal[] = [];
    let failure: string | undefined;
    for (const [place, row] of wave.entries()) {
      const verdict = verdicts[place]!;
      if (verdict.is === "failed") failure ??= verdict.why;
      else told.add(row.id);
      if (verdict.is === "refused") refused.push({ row, why: verdict.why });
    }
    left = left.filter(({ id }) => !told.has(id));
    const is = failure === undefined ? "well" : signal.aborted ? "stopped" : { failure };
    const isOurs = await record(round, { reached: beforeFirstGap(rows, told), refused, is });
    for (const { row, why } of refused) {
      const { id, type, clientId } = row;
      log.error({ alert: true, event_id: id, type, client_id: clientId, why }, "the bus refused an event for good");
    }
    if (!isOurs) return "lost";
    if (failure === undefined) continue;
    if (!signal.aborted) log.warn({ bus: round.bus, why: failure }, "the bus could not be told: the events wait");
    return "failed";
  }
  told.clear();
  return "over";
}

/** An event that cannot be written as an entry is refused like one that the bus does not take: the others go on. */
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

function beforeFirstGap(rows: readonly Row[], told: ReadonlySet<string>): Row | undefined {
  const gap = rows.findIndex(({ id }) => !told.has(id));
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

const present = sql<string>`pg_snapshot_xmin(pg_current_snapshot())`;
const isBus = (bus: string) => eq(busPositions.bus, bus);
const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value
const inSeconds = (seconds: number) => sql`clock_timestamp() + make_interval(secs => ${seconds})` as unknown as Date;

/** The next events, if there are any and nobody else is at it. A bus that is new begins with what is stated from now on. */
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
          or(lte(busPositions.freeAt, now), eq(busPositions.holder, holder)),
          eq(busPositions.txid, sql`${position.txid}::text::xid8`),
          eq(busPositions.eventId, position.eventId),
        ),
      )
      .returning({ bus: busPositions.bus }),
  );
  return claimed.length > 0 ? rows : null;
}

async function look(tx: Tx, bus: string): Promise<{ position: Position; rows: Row[] } | null> {
  const [position] = await tx
    .select({ txid: busPositions.txid, eventId: busPositions.eventId })
    .from(busPositions)
    .where(isBus(bus));
  if (!position) return null;
  const { txid, eventId } = position;
  const rows = await tx
    .select()
    .from(events)
    .where(
      and(
        sql`${events.txid} < ${present}`,
        sql`(${events.txid}, ${events.id}) > (${txid}::text::xid8, ${eventId}::text)`,
      ),
    )
    .orderBy(asc(events.txid), asc(events.id))
    .limit(window);
  return { position, rows };
}

const begin = (bus: string) => sql`
  insert into bus_positions (bus, txid, event_id) values (${bus}, ${present}, '') on conflict (bus) do nothing`;

type Refusal = { row: Row; why: string };
type Findings = {
  /** The last event before which there is no gap, if it has moved. */
  reached: Row | undefined;
  refused: readonly Refusal[];
  is: "well" | "stopped" | { failure: string };
};

/**
 * Moves the position, keeps what was refused for people to look at, and renews the lease; after a failure it leaves the bus
 * in peace for a while. False when somebody else has taken over.
 */
async function record({ db, bus, holder }: Round, { reached, refused, is }: Findings): Promise<boolean> {
  const moved = reached ? { txid: reached.txid, eventId: reached.id } : {};
  const status =
    is === "stopped"
      ? {}
      : is === "well"
        ? { ...well, freeAt: inSeconds(leaseSeconds) }
        : { ...ill, error: is.failure };
  return await db.asSystem(async (tx) => {
    const changed = await tx
      .update(busPositions)
      .set({ ...moved, ...status, updatedAt: now })
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

const well = { failures: 0, failingSince: null, error: null };
const ill = {
  failures: sql`${busPositions.failures} + 1` as unknown as number,
  failingSince: sql`coalesce(${busPositions.failingSince}, clock_timestamp())` as unknown as Date,
  holder: null,
  freeAt: sql`clock_timestamp() + make_interval(secs => (0.5 + random() / 2)
    * least(${backoffSeconds}::int, power(2, least(${busPositions.failures}, 10))))` as unknown as Date,
};

async function release({ db, bus, holder }: Round) {
  await db.asSystem((tx) =>
    tx
      .update(busPositions)
      .set({ holder: null, freeAt: now })
      .where(and(isBus(bus), eq(busPositions.holder, holder))),
  );
}
