import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { clock } from "./clock.ts";
import { spreadOf } from "./connections.ts";
import { type Customer, callEvents, newSubject, stateOnce } from "./customers.ts";
import { type Ground, openGround } from "./ground.ts";
import { stopAll, untilOver } from "./interruption.ts";
import { measurePace, openStage, type Paced, type Stage } from "./pace.ts";
import type { Manner } from "./plan.ts";
import { median } from "./rounds.ts";
import { table } from "./table.ts";

const usage = "npm run bench:latency -- [steady|isolation] [--seconds 60] [--rate 100] [--rounds 3] [--workers 1]";
const limits = { p95Ms: 250, p99Ms: 1_000, ratio: 2 };
const steady = { clients: 10, endpointsEach: 5 };
/** In the second part half of the measured endpoints belong to the client whose other endpoint hangs. */
const isolation = { clients: 2, endpointsEach: 4, rate: 50, due: 1_000 };
const warmUpSeconds = 10;
const arrivalPatienceMs = 60_000;

type Bench = {
  seconds: number;
  rate: number;
  rounds: number;
  workers: number;
  say(line: string): void;
  over: AbortSignal;
};

const parts = { steady: benchSteady, isolation: benchIsolation } as const;

/** Exits with 1 when a latency exceeds its limit. */
async function main() {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seconds: text, rate: text, rounds: text, workers: text },
  });
  const numbers = {
    ...{ seconds: Number(values.seconds ?? 60), rate: Number(values.rate ?? 100) },
    ...{ rounds: Number(values.rounds ?? 3), workers: Number(values.workers ?? 1) },
  };
  const wanted = positionals.length > 0 ? positionals : Object.keys(parts);
  const inReach = Object.values(numbers).every((number) => Number.isFinite(number) && number > 0 && number <= 3_600);
  if (!inReach || wanted.some((name) => !Object.hasOwn(parts, name))) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  const log = (line: string) => console.error(`  ${line}`);
  await untilOver(async (stops, over) => {
    const objections: string[] = [];
    for (const name of wanted as (keyof typeof parts)[]) {
      const ground = await openGround(stops); // each part starts with a fresh database
      objections.push(...(await parts[name](ground, { ...numbers, say: log, over })));
      await stopAll(stops);
    }
    for (const objection of objections) console.error(`TOO SLOW: ${objection}`);
    if (objections.length > 0) process.exitCode = 1;
  });
}

/** All endpoints are healthy: measures from the confirmed commit until the request is read. */
async function benchSteady(ground: Ground, { seconds, rate, workers, say: log, over }: Bench): Promise<string[]> {
  const { clients, endpointsEach } = steady;
  const stage = await openStage(ground, { clients, endpointsEach, workers });
  const measure = (pace: Pace) => measureAll(ground, stage, stage.customers, pace);
  log("warming up");
  await measure({ seconds: warmUpSeconds, rate, over });
  await ground.owner`analyze`;
  log(`${rate} events/s for ${seconds} s`);
  const { latencies, fromDue, perSecond, late } = await measure({ seconds, rate, over });
  const { p50Ms: p50, p95Ms: p95, p99Ms: p99, slowestMs: worst } = spreadOf([...latencies.values()].flat());
  const due = spreadOf(fromDue);
  const title = `From commit to receipt: ${rate} events/s for ${seconds} s, ${clients} clients with ${endpointsEach} endpoints each, workers: ${workers}`;
  const heads = ["", "events/s", "p50 ms", "p95 ms", "p99 ms", "worst ms"];
  console.log(
    table(title, heads, [
      ["from the commit", perSecond, p50, p95, p99, worst],
      ["from when the commit was due", perSecond, due.p50Ms, due.p95Ms, due.p99Ms, due.slowestMs],
    ]),
  );
  return [
    ...(p95 < limits.p95Ms ? [] : [`p95 is ${Math.round(p95)} ms, not under ${limits.p95Ms}`]),
    ...(p99 < limits.p99Ms ? [] : [`p99 is ${Math.round(p99)} ms, not under ${limits.p99Ms}`]),
    ...(late < 0.1 ? [] : [`the driver was late with ${Math.round(late * 100)} % of the events`]),
  ];
}

/** One endpoint hangs until the sender's timeout, with a thousand waiting deliveries. The others are measured. */
async function benchIsolation(ground: Ground, { seconds, rounds, workers, say: log, over }: Bench): Promise<string[]> {
  const { clients, endpointsEach, rate, due } = isolation;
  const stage = await openStage(ground, { clients, endpointsEach: endpointsEach + 1, workers });
  const { customers, receiver } = stage;
  const measure = (to: Customer[], pace: Pace) => measureAll(ground, stage, to, pace);
  const bad = customers.find(({ types }) => types[0] === callEvents[endpointsEach])!;
  const others = customers.filter(({ types }) => types[0] !== bad.types[0]);
  const turn = (manner: Manner) => receiver.ask("turn", { endpoint: bad.endpoint, manner });
  const each = { seconds: Math.max(5, seconds / 4), rate, over };
  log("warming up");
  await measure(others, { ...each, seconds: warmUpSeconds });
  await ground.owner`analyze`;

  const ratios = { same: [] as number[], other: [] as number[] };
  const rows: [string, number, number, number][] = [];
  for (let round = 1; round <= rounds; round++) {
    log(`round ${round} of ${rounds}: all are healthy`);
    const alone = byNeighbourhood(await measure(others, each), bad);
    log(`round ${round} of ${rounds}: one hangs with ${due} due`);
    await turn("stuck");
    await commitAtOnce(ground, bad, due, over);
    await untilDue(ground, bad, due, over);
    const beside = byNeighbourhood(await measure(others, each), bad);
    const [stillDue] = await dueOf(ground, bad);
    await turn("healthy");
    await untilNothingDue(ground, bad, over);
    for (const who of ["same", "other"] as const) {
      const [before, after] = [spreadOf(alone[who]).p95Ms, spreadOf(beside[who]).p95Ms];
      ratios[who].push(after / before);
      rows.push([`round ${round}, ${who} client, ${stillDue!.n} still due`, before, after, after / before]);
    }
  }
  const title = `Others' p95 beside an endpoint that hangs with ${due} due: ${rate} events/s, ${each.seconds} s each, workers: ${workers}`;
  console.log(table(title, ["", "alone ms", "beside it ms", "ratio"], rows));
  return (["same", "other"] as const).flatMap((who) => {
    const ratio = median(ratios[who]);
    console.log(`median ratio, ${who} client: ${ratio.toFixed(2)}`);
    return ratio < limits.ratio ? [] : [`the p95 of the ${who} client's endpoints rose ${ratio.toFixed(2)}-fold`];
  });
}

type Pace = { seconds: number; rate: number; over: AbortSignal };

/** None may fail or be missing. */
async function measureAll(ground: Ground, stage: Stage, to: Customer[], pace: Pace): Promise<Paced> {
  const seen = await measurePace(ground, stage, to, { ...pace, patienceMs: arrivalPatienceMs });
  const failed = Object.entries(seen.failed).map(([why, times]) => `${times} commits failed (${why})`);
  if (seen.missing > 0) failed.push(`${seen.missing} events have not arrived after ${arrivalPatienceMs / 1000} s`);
  if (failed.length > 0) throw new Error(failed.join("; "));
  return seen;
}

const commit = (ground: Ground, { clientId, types }: Customer, n: number) =>
  stateOnce(ground, { clientId, type: types[0]!, subjectId: newSubject(), n });

async function commitAtOnce(ground: Ground, customer: Customer, count: number, over: AbortSignal) {
  let next = 0;
  const inTurn = async () => {
    while (next < count && !over.aborted) await commit(ground, customer, next++);
  };
  await Promise.all(Array.from({ length: 8 }, inTurn));
}

/** Due pending deliveries of one endpoint, including those in flight. */
const dueOf = ({ owner }: Ground, { clientId, id }: Customer) => owner<{ n: number }[]>`
  select count(*)::int as n from deliveries
  where client_id = ${clientId} and endpoint_id = ${id} and status = 'pending' and next_attempt_at <= clock_timestamp()`;

/** A few may wait for a retry. */
async function untilDue(ground: Ground, customer: Customer, count: number, over: AbortSignal) {
  await wait(ground, customer, `${count} are due`, ({ n }) => n >= count - 50, over);
}

async function untilNothingDue(ground: Ground, customer: Customer, over: AbortSignal) {
  await wait(ground, customer, "nothing is due any more", ({ n }) => n === 0, over);
}

async function wait(
  ground: Ground,
  customer: Customer,
  what: string,
  isSo: (due: { n: number }) => boolean,
  over: AbortSignal,
) {
  const until = clock() + arrivalPatienceMs;
  for (;;) {
    over.throwIfAborted();
    const [due] = await dueOf(ground, customer);
    if (isSo(due!)) return;
    if (clock() > until) throw new Error(`Not within ${arrivalPatienceMs / 1000} s: ${what} (${due!.n})`);
    await sleep(200);
  }
}

function byNeighbourhood({ latencies }: Paced, bad: Customer) {
  const of = (isSame: boolean) =>
    [...latencies].filter(([{ clientId }]) => (clientId === bad.clientId) === isSame).flatMap(([, all]) => all);
  return { same: of(true), other: of(false) };
}

await main();
