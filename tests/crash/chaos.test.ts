import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ChaosEnd, runChaos } from "../load/chaos-run.ts";
import { answerTo, mannersOf } from "../load/plan.ts";
import { type Evidence, judge } from "../load/verdict.ts";

/** A short `npm run chaos`: the same faults, with a faster heartbeat, so that dead workers are detected sooner. */
const storm = { events: 400, endpoints: 8, workers: 2, seed: 7, kills: 4, restarts: 1, stormSeconds: 12 };
const tempo = {
  heartbeat: { everyMs: 500, fenceAfterMs: 4_000, deadAfterMs: 6_000 },
  rescueEveryMs: 500,
  pollIntervalMs: 500,
};
const stops: (() => Promise<unknown>)[] = [];
const logLines: string[] = [];
let end: ChaosEnd;

beforeAll(async () => {
  // Only Postgres crashes, not the machine: what it has written to the operating system is as safe as on disk.
  const settings = { fsync: "off" };
  end = await runChaos({ ...storm, calmSeconds: 200, settings, tempo, say: (line) => logLines.push(line) }, stops);
}, 300_000);
afterAll(async () => {
  for (const stop of stops.reverse()) await stop();
}, 60_000);

describe("workers are killed and Postgres crashes while receivers fail, hang and respond slowly", () => {
  test("every accepted event arrives at every subscriber, and the database records it", () => {
    const { objections, events, wanted, taken, missing, unexpected } = judge(end.evidence);
    expect(objections, logLines.join("\n")).toEqual([]);
    expect({ events, taken, missing, unexpected }).toEqual({
      ...{ events: storm.events, taken: wanted, missing: 0, unexpected: 0 },
    });
    expect(wanted).toBeGreaterThanOrEqual(storm.events);
  });

  test("the faults happened: workers died, the database crashed, receivers refused", () => {
    const times = Map.groupBy(end.evidence.disturbances, ({ what }) => what);
    expect(times.get("kill")).toHaveLength(storm.kills);
    expect(times.get("crash")).toHaveLength(storm.restarts);
    expect(new Set(end.manners)).toEqual(new Set(["healthy", "failing", "slow", "hanging"]));
    expect(new Set(end.evidence.arrivals.map(({ answer }) => answer))).toEqual(
      new Set(["200", "500", "503", "reset", "hang"]),
    );
  });
});

describe("the check detects", () => {
  const objectionsTo = (change: (evidence: Evidence) => void) => {
    const evidence = structuredClone(end.evidence);
    change(evidence);
    return judge(evidence).objections.join("\n");
  };
  const deliveryIn = ({ accepted: [first] }: Evidence) => ({ eventId: first!.eventId, endpoint: first!.endpoints[0]! });
  const isOf = (one: { eventId: string; endpoint: number }) => (other: { eventId: string; endpoint: number }) =>
    other.eventId === one.eventId && other.endpoint === one.endpoint;

  test("a delivery that never arrived", () => {
    const objections = objectionsTo((evidence) => {
      const isLost = isOf(deliveryIn(evidence));
      evidence.arrivals = evidence.arrivals.filter((arrival) => !isLost(arrival));
    });
    expect(objections).toContain("1 deliveries never arrived");
  });

  test("a delivery that was always refused", () => {
    const objections = objectionsTo((evidence) => {
      const isRefused = isOf(deliveryIn(evidence));
      for (const arrival of evidence.arrivals) if (isRefused(arrival)) arrival.answer = "500";
    });
    expect(objections).toContain("1 deliveries never arrived");
  });

  test("a delivery of an event that was never committed", () => {
    const objections = objectionsTo(({ arrivals }) => arrivals.push({ ...arrivals[0]!, eventId: "evt_unheard_of" }));
    expect(objections).toContain("1 deliveries arrived of events that were not accepted");
  });

  test("a duplicate without a fault, and one with a changed body", () => {
    const objections = objectionsTo((evidence) => {
      const isHeard = (arrival: Evidence["arrivals"][number]) =>
        evidence.recorded.some((row) => isOf(arrival)(row) && !row.statuses.includes(null));
      const again = evidence.arrivals.findLast((arrival) => arrival.answer === "200" && isHeard(arrival))!;
      evidence.disturbances = [];
      evidence.arrivals.push({ ...again, digest: "another" });
    });
    expect(objections).toMatch(/deliveries arrived twice without a cause/);
    expect(objections).toContain("1 deliveries came with another body the next time");
  });

  test("a commit lost in a crash, and an event without a commit", () => {
    const objections = objectionsTo(({ stated }) => stated.splice(0, 1, "evt_unheard_of"));
    expect(objections).toContain("1 accepted events are gone from the database");
    expect(objections).toContain("1 events are in the database that were not committed");
  });

  test("an attempt that was not recorded, and a recorded one that did not happen", () => {
    const objections = objectionsTo(({ recorded: [one, other] }) => {
      one!.statuses.shift();
      other!.statuses.unshift(418);
      other!.attempts += 1;
    });
    expect(objections).toContain("1 rows count other attempts than were recorded");
    expect(objections).toMatch(/[12] rows have not exactly one attempt that succeeded, or one that did not happen/);
  });

  test("a waiting row, a dead job and a failed worker", () => {
    const objections = objectionsTo((evidence) => {
      evidence.settled = false;
      evidence.recorded[0]!.status = "pending";
      evidence.gaveUp.push("webhooks.deliver");
      evidence.diedAlone = 1;
    });
    expect(objections).toContain("time ran out");
    expect(objections).toContain("1 rows are not delivered");
    expect(objections).toContain("1 jobs are dead: webhooks.deliver");
    expect(objections).toContain("1 workers ended by themselves");
  });
});

test("the plan of a seed is deterministic, and every receiver finally accepts an event", () => {
  expect(mannersOf(50, 7)).toEqual(mannersOf(50, 7));
  expect(mannersOf(50, 7)).not.toEqual(mannersOf(50, 8));
  for (const manner of mannersOf(50, 7)) {
    const late = { seed: 7, manner, endpoint: 3, arrival: 4 };
    for (let event = 0; event < 50; event++) expect(answerTo({ ...late, event })).toMatchObject({ kind: "ok" });
  }
});
