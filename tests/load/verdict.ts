import type { Arrival } from "./receiver.ts";

/** A period in which unrecorded work may be lost, by the machine's clock. */
export type Disturbance = {
  /**
   * `pool replaced`: a worker restarted its silent or broken pool. `not written down`: the record of one attempt could not be
   * written, so the attempt was repeated.
   */
  what: "kill" | "fast restart" | "crash" | "pool replaced" | "not written down";
  from: number;
  to: number;
};

/** An event whose commit was confirmed or found in the database afterwards, with its endpoints. */
export type Accepted = { eventId: string; endpoints: number[] };

/** A delivery row with its attempts. */
export type Recorded = {
  endpoint: number;
  eventId: string;
  status: string;
  attempts: number;
  /** The recorded status of every attempt; null without a response. */
  statuses: (number | null)[];
};

export type Evidence = {
  /** No work was in flight when the evidence was collected. */
  settled: boolean;
  accepted: Accepted[];
  /** Ids of all events in the database. */
  stated: string[];
  arrivals: Arrival[];
  /** Requests that the receiver rejected. */
  refused: string[];
  recorded: Recorded[];
  disturbances: Disturbance[];
  /** Dead jobs of the delivery path. */
  gaveUp: string[];
  disabledEndpoints: string[];
  diedAlone: number;
  /** The maximum number of posts in flight in one worker, and the number of workers. */
  places: { perWorker: number; workers: number };
};

export type Verdict = {
  objections: string[];
  events: number;
  wanted: number;
  taken: number;
  missing: number;
  unexpected: number;
  duplicates: number;
  unexcused: number;
  /** The kills and restarts that can explain a duplicate. */
  perKill: number[];
  perRestart: number[];
  attempts: number;
  arrivals: number;
};

/** The order in which causes explain a duplicate: short ones first. None explains more than it can have interrupted. */
const suspicion: readonly Disturbance["what"][] = [
  "kill",
  "crash",
  "fast restart",
  "not written down",
  "pool replaced",
];
/** Postgres writes asynchronous commits within three rounds of its WAL writer, of 200 ms each. */
const forgottenMs = 1_000;

/** Compares arrivals with guarantees, by id and endpoint. */
export function judge(evidence: Evidence): Verdict {
  const { accepted, arrivals, recorded, disturbances } = evidence;
  const wanted = new Set(accepted.flatMap(({ eventId, endpoints }) => endpoints.map((n) => `${n}/${eventId}`)));
  const seen = Map.groupBy(arrivals, ({ endpoint, eventId }) => `${endpoint}/${eventId}`);
  const rows = new Map(recorded.map((row) => [`${row.endpoint}/${row.eventId}`, row]));
  const objections: string[] = [];
  const object = (what: string, keys: readonly string[]) => {
    if (keys.length > 0) objections.push(`${keys.length} ${what}: ${keys.slice(0, 3).join(", ")}`);
  };
  const countsOf = (isWanted: (what: Disturbance["what"]) => boolean) =>
    disturbances.filter(({ what }) => isWanted(what)).map((one) => perDisturbance.get(one) ?? 0);
  const takenOf = (key: string) => (seen.get(key) ?? []).filter(({ answer: response }) => response === "200");

  if (!evidence.settled)
    objections.push("time ran out with deliveries in flight: the following problems result from this");
  const keys = [...wanted];
  const missing = keys.filter((key) => takenOf(key).length === 0);
  object("deliveries never arrived", missing);
  const unexpected = [...seen.keys()].filter((key) => !wanted.has(key));
  object("deliveries arrived of events that were not accepted", unexpected);
  const changed = [...seen].filter(([, all]) => new Set(all.map(({ digest }) => digest)).size > 1);
  object(
    "deliveries came with another body the next time",
    changed.map(([key]) => key),
  );
  object("requests were rejected by the receiver", evidence.refused);

  const suspects = disturbances
    .map((disturbance) => ({ disturbance, room: interruptedBy(disturbance, evidence) }))
    .toSorted((a, b) => suspicion.indexOf(a.disturbance.what) - suspicion.indexOf(b.disturbance.what));
  const perDisturbance = new Map<Disturbance, number>();
  const unexcused: string[] = [];
  let duplicates = 0;
  for (const key of seen.keys()) {
    const [first, ...more] = takenOf(key);
    duplicates += more.length;
    let before = first;
    for (const next of more) {
      const excuse = suspects.find(
        ({ disturbance: { from, to }, room }) => room > 0 && before!.at <= to && next.at >= from,
      );
      if (excuse) {
        excuse.room -= 1;
        perDisturbance.set(excuse.disturbance, (perDisturbance.get(excuse.disturbance) ?? 0) + 1);
      } else if (!answerWasNotHeard(rows.get(key), seen.get(key)!)) unexcused.push(key);
      before = next;
    }
  }
  object("deliveries arrived twice without a cause", unexcused);
  const stated = new Set(evidence.stated);
  const acceptedIds = new Set(accepted.map(({ eventId }) => eventId));
  object(
    "accepted events are gone from the database",
    [...acceptedIds].filter((id) => !stated.has(id)),
  );
  object(
    "events are in the database that were not committed",
    [...stated].filter((id) => !acceptedIds.has(id)),
  );
  object(
    "deliveries have no row",
    keys.filter((key) => !rows.has(key)),
  );
  object(
    "rows belong to no accepted event",
    [...rows.keys()].filter((key) => !wanted.has(key)),
  );
  object("deliveries have two rows", recorded.length > rows.size ? [`${recorded.length - rows.size}`] : []);
  object(
    "rows are not delivered",
    [...rows].filter(([, { status }]) => status !== "delivered").map(([key, { status }]) => `${key} ${status}`),
  );
  object(
    "rows count other attempts than were recorded",
    [...rows].filter(([, row]) => row.attempts !== row.statuses.length).map(([key]) => key),
  );
  object(
    "rows have not exactly one attempt that succeeded, or one that did not happen",
    [...rows].filter(([key, row]) => !isBorneOut(row, seen.get(key) ?? [])).map(([key]) => key),
  );
  object("jobs are dead", evidence.gaveUp);
  object("endpoints were disabled", evidence.disabledEndpoints);
  object("workers ended by themselves", Array(evidence.diedAlone).fill("see their output"));

  return {
    objections,
    events: acceptedIds.size,
    wanted: wanted.size,
    taken: keys.length - missing.length,
    missing: missing.length,
    unexpected: unexpected.length,
    duplicates,
    unexcused: unexcused.length,
    perKill: countsOf((what) => what === "kill"),
    perRestart: countsOf((what) => what === "crash" || what === "fast restart"),
    attempts: recorded.reduce((sum, { statuses }) => sum + statuses.length, 0),
    arrivals: arrivals.length,
  };
}

/**
 * A kill or a restarted pool interrupts the posts of one worker, a database restart those of all. A crash also loses records
 * written just before: the records of attempts do not wait for the disk.
 */
function interruptedBy({ what, from }: Disturbance, { places, arrivals }: Evidence): number {
  if (what === "not written down") return 1;
  if (what === "kill" || what === "pool replaced") return places.perWorker;
  const underWay = places.perWorker * places.workers;
  if (what === "fast restart") return underWay;
  return underWay + arrivals.filter(({ at }) => at >= from - forgottenMs && at <= from).length;
}

/** The sender recorded more missing responses than the receiver withheld. */
function answerWasNotHeard(row: Recorded | undefined, arrivals: Arrival[]): boolean {
  const unheard = row?.statuses.filter((status) => status === null).length ?? 0;
  return unheard > arrivals.filter(({ answer: response }) => response === "reset" || response === "hang").length;
}

/** Every attempt with a status has an arrival with that response. More may have arrived than was recorded. */
function isBorneOut({ statuses }: Recorded, arrivals: Arrival[]): boolean {
  const count = (wanted: number) => statuses.filter((status) => status === wanted).length;
  const answered = (wanted: number) => arrivals.filter(({ answer: response }) => response === String(wanted)).length;
  const received = new Set(statuses.filter((status) => status !== null));
  return (
    count(200) === 1 && statuses.at(-1) === 200 && [...received].every((status) => count(status) <= answered(status))
  );
}
