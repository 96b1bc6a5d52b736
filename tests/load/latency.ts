import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Child } from "./child.ts";
import { clock } from "./clock.ts";
import { type Customer, callEvents, newSubject, openCustomers, stateOnce } from "./customers.ts";
import { type Ground, openGround } from "./ground.ts";
import { stopAll, untilOver } from "./interruption.ts";
import type { Manner } from "./plan.ts";
import type { Arrival, Known } from "./receiver.ts";
import { median } from "./rounds.ts";
import { table } from "./table.ts";

const usage = "npm run bench:latency -- [steady|isolation] [--seconds 60] [--rate 100] [--rounds 3] [--workers 1]";
const limits = { p95Ms: 250, p99Ms: 1_000, ratio: 2 };
const steady = { clients: 10, endpointsEach: 5 };
/** In the second part half of the measured endpoints are of the client whose other endpoint hangs. */
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
type Sent = { committed: Map<string, { at: number; customer: Customer }>; late: number };

const parts = { steady: benchSteady, isolation: benchIsolation } as const;

/** Exits with 1 when something takes longer than is promised. */
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
  const say = (line: string) => console.error(`  ${line}`);
  await untilOver(async (stops, over) => {
    const objections: string[] = [];
    for (const name of wanted as (keyof typeof parts)[]) {
      const ground = await openGround(stops); // each part finds a database that no other has used
      objections.push(...(await parts[name](ground, { ...numbers, say, over })));
      await stopAll(stops);
    }
    for (const objection of objections) console.error(`TOO SLOW: ${objection}`);
    if (objections.length > 0) process.exitCode = 1;
  });
}

/** Everybody is well: from the moment in which the commit is confirmed until the request is read. */
async function benchSteady(ground: Ground, { seconds, rate, workers, say, over }: Bench): Promise<string[]> {
  const { clients, endpointsEach } = steady;
  const { customers, receiver } = await open(ground, clients, endpointsEach, workers);
  say("warming up");
  await measure(ground, receiver, customers, { seconds: warmUpSeconds, rate, over });
  say(`${rate} events/s for ${seconds} s`);
  const { latencies, perSecond, late } = await measure(ground, receiver, customers, { seconds, rate, over });
  const { p50, p95, p99, worst } = spread([...latencies.values()].flat());
  const title = `From commit to receipt: ${rate} events/s for ${seconds} s, ${clients} clients with ${endpointsEach} endpoints each, workers: ${workers}`;
  const heads = ["", "events/s", "p50 ms", "p95 ms", "p99 ms", "worst ms"];
  console.log(table(title, heads, [["all healthy", perSecond, p50, p95, p99, worst]]));
  return [
    ...(p95 < limits.p95Ms ? [] : [`p95 is ${Math.round(p95)} ms, not under ${limits.p95Ms}`]),
    ...(p99 < limits.p99Ms ? [] : [`p99 is ${Math.round(p99)} ms, not under ${limits.p99Ms}`]),
    ...(late < 0.1 ? [] : [`the driver itself was late with ${Math.round(late * 100)} % of the events`]),
  ];
}

/** One endpoint keeps every request until the sender gives up, and has a thousand waiting; the others are measured. */
async function benchIsolation(ground: Ground, { seconds, rounds, workers, say, over }: Bench): Promise<string[]> {
  const { clients, endpointsEach, rate, due } = isolation;
  const { customers, receiver } = await open(ground, clients, endpointsEach + 1, workers);
  const bad = customers.find(({ types }) => types[0] === callEvents[endpointsEach])!;
  const others = customers.filter(({ types }) => types[0] !== bad.types[0]);
  const turn = (manner: Manner) => receiver.ask("turn", { endpoint: bad.endpoint, manner });
  const each = { seconds: Math.max(5, seconds / 4), rate, over };
  say("warming up");
  await measure(ground, receiver, others, { ...each, seconds: warmUpSeconds });

  const ratios = { same: [] as number[], other: [] as number[] };
  const rows: [string, number, number, number][] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`round ${round} of ${rounds}: all are well`);
    const alone = byNeighbourhood(await measure(ground, receiver, others, each), bad);
    say(`round ${round} of ${rounds}: one hangs with ${due} due`);
    await turn("stuck");
    await commitAtOnce(ground, bad, due, over);
    await untilDue(ground, bad, due, over);
    const beside = byNeighbourhood(await measure(ground, receiver, others, each), bad);
    const [stillDue] = await dueOf(ground, bad);
    await turn("healthy");
    await untilNothingDue(ground, bad, over);
    for (const who of ["same", "other"] as const) {
      const [before, after] = [spread(alone[who]).p95, spread(beside[who]).p95];
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

/** Clients whose endpoints want one type of event each, a receiver that answers all at once, and a worker. */
async function open(ground: Ground, clients: number, endpointsEach: number, workers: number) {
  const receiver = await ground.child("./receiver.ts");
  const url = `http://127.0.0.1:${await receiver.ask<number>("port")}`;
  const endpoints = Array.from({ length: clients * endpointsEach }, (_, n) => [callEvents[Math.floor(n / clients)]!]);
  const customers = await openCustomers(ground, { clients, endpoints, url });
  const known = customers.map(({ secret }) => ({ secret, manner: "healthy" as const }));
  await receiver.ask("know", { seed: 1, endpoints: known } satisfies Known);
  for (let n = 0; n < workers; n++) await ground.child("./worker-ours.ts");
  return { customers, receiver };
}

type Pace = { seconds: number; rate: number; over: AbortSignal };
type Measured = { latencies: Map<Customer, number[]>; perSecond: number; late: number };

/** Commits at an even pace, each event in a transaction of its own, and waits until all have arrived. */
async function measure(ground: Ground, receiver: Child, customers: Customer[], pace: Pace): Promise<Measured> {
  await receiver.ask("forget");
  const began = clock();
  const { committed, late } = await commitAtPace(ground, customers, pace);
  const perSecond = committed.size / ((clock() - began) / 1000);
  const arrivals = await untilArrived(receiver, committed, pace.over);
  const latencies = new Map<Customer, number[]>(customers.map((customer) => [customer, []]));
  const first = new Map(arrivals.toReversed().map((arrival) => [arrival.eventId, arrival]));
  for (const [eventId, { at, customer }] of committed) latencies.get(customer)!.push(first.get(eventId)!.at - at);
  return { latencies, perSecond, late: late / committed.size };
}

async function commitAtPace(ground: Ground, customers: Customer[], { seconds, rate, over }: Pace): Promise<Sent> {
  const committed: Sent["committed"] = new Map();
  const began = clock();
  const count = Math.round(seconds * rate);
  const underWay: Promise<void>[] = [];
  let late = 0;
  for (let n = 0; n < count; n++) {
    over.throwIfAborted();
    const due = began + (n * 1000) / rate;
    if (clock() < due) await sleep(due - clock());
    if (clock() > due + 1_000 / rate + 50) late += 1;
    const customer = customers[n % customers.length]!;
    underWay.push(
      commit(ground, customer, n).then((eventId) => {
        committed.set(eventId, { at: clock(), customer });
      }),
    );
  }
  await Promise.all(underWay);
  return { committed, late };
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

async function untilArrived(receiver: Child, committed: Sent["committed"], over: AbortSignal): Promise<Arrival[]> {
  const until = clock() + arrivalPatienceMs;
  for (;;) {
    over.throwIfAborted();
    const { arrivals, refused } = await receiver.ask<{ arrivals: Arrival[]; refused: string[] }>("arrivals");
    if (refused.length > 0) throw new Error(`The receiver did not believe this: ${refused[0]}`);
    const arrived = new Set(arrivals.map(({ eventId }) => eventId));
    const missing = [...committed.keys()].filter((id) => !arrived.has(id)).length;
    if (missing === 0) return arrivals;
    if (clock() > until) throw new Error(`${missing} events have not arrived after ${arrivalPatienceMs / 1000} s`);
    await sleep(200);
  }
}

/** Pending deliveries of one endpoint that could be sent now, those that are under way among them. */
const dueOf = ({ owner }: Ground, { clientId, id }: Customer) => owner<{ n: number }[]>`
  select count(*)::int as n from deliveries
  where client_id = ${clientId} and endpoint_id = ${id} and status = 'pending' and next_attempt_at <= clock_timestamp()`;

/** A few may have been tried already, and wait for their retry. */
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

function byNeighbourhood({ latencies }: Measured, bad: Customer) {
  const of = (isSame: boolean) =>
    [...latencies].filter(([{ clientId }]) => (clientId === bad.clientId) === isSame).flatMap(([, all]) => all);
  return { same: of(true), other: of(false) };
}

function spread(latencies: number[]) {
  const sorted = latencies.toSorted((a, b) => a - b);
  const part = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: part(0.5), p95: part(0.95), p99: part(0.99), worst: sorted.at(-1) ?? Number.NaN };
}

await main();
