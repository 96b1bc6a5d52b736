import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import type { Figure, Group } from "./figures.ts";
import { openPeers, type PeerName } from "./peers.ts";
import { paced, type Race, type Runner, race } from "./race.ts";
import { agentBody, bearer, type Customer, openCustomer, request } from "./world.ts";

const connections = 64;
const warmUp = 500;
const clients = 64;
const keysOfOne = 20;
const keysOfMany = 4;

type World = { ours: Child; load: Child; many: Customer[]; one: Customer };

export async function benchAgents(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const world = await openWorld(ground, 1);
  const ours = oursAt(world.ours, "agents", [world.one], () => agentBody, "post-agents");
  const peers = await peersAt(ground, world.one, "/agents", agentBody, "post-agents");
  const given: Race = { connections, status: 201, warmUp, runners: [...peers, ours] };
  return [{ work: "POST /agents", figures: await race(ground, world.load, given, options) }];
}

/** Placing calls: for one client, whose balance is one row, and for 64. Then at half that rate, for the latency. */
export async function benchCalls(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const world = await openWorld(ground, clients);
  const of = (customers: Customer[], profile: string) => oursAt(world.ours, "calls", customers, callOf, profile);
  const contests = [
    { work: "POST /calls, one client", runner: of([world.one], "post-calls") },
    { work: `POST /calls, ${clients} clients`, runner: of(world.many, "post-calls-64") },
  ];
  const peers = await peersAt(ground, world.one, "/calls", callOf(world.one), "post-calls");
  const groups: Group[] = [];
  for (const { work, runner } of contests) {
    const given: Race = { connections, status: 201, warmUp, tolerance: 0.5, runners: [...peers, runner] };
    const figures = await race(ground, world.load, given, options);
    figures.push(await atHalfPace(ground, world.load, runner, figures.at(-1)!, options));
    groups.push({ work, figures });
  }
  return groups;
}

async function atHalfPace(ground: Ground, load: Child, runner: Runner, full: Figure, options: BenchOptions) {
  const { seconds, say: log, object } = options;
  const perSecond = Math.max(1, Math.round(full.perSecond! / 2));
  log(`${runner.name}: ${perSecond} a second, evenly`);
  const expect = { status: 201, leastBytes: 100 };
  const seen = await paced(ground, load, runner, { connections, seconds, perSecond, expect });
  if (seen.refused > 0) object(`${runner.profile}, at half the rate: ${seen.refused} requests were refused with 503`);
  const { count, cpu, postgres, p50Ms, p95Ms, p99Ms } = seen;
  const each = { cpu: cpu / count, postgres: postgres === null ? null : postgres / count };
  return {
    name: "ours, at half that rate",
    isPaced: true,
    perSecond: count / seen.seconds,
    ...each,
    p50Ms,
    p95Ms,
    p99Ms,
  };
}

const callOf = ({ agentId }: Customer) => ({ agentId, medium: { type: "web" }, metadata: { orderId: "10248" } });

async function openWorld(ground: Ground, count: number): Promise<World> {
  const ours = await ground.child("./server-ours.ts");
  const one = await openCustomer(ground, ours, "One", keysOfOne);
  const many: Customer[] = [];
  for (let n = 0; n < count && count > 1; n++) many.push(await openCustomer(ground, ours, `Client ${n}`, keysOfMany));
  await ground.owner`analyze`;
  return { ours, one, many, load: await ground.child("./load-client.ts") };
}

/** Each request has a unique idempotency key: `%n%` never repeats. The customers' API keys alternate. */
function oursAt(
  server: Child,
  path: string,
  customers: Customer[],
  bodyOf: (of: Customer) => unknown,
  profile: string,
): Runner {
  const count = Math.max(...customers.map(({ keys }) => keys.length));
  const requests = Array.from({ length: count }, (_, n) => n).flatMap((n) =>
    customers.map((customer) => {
      const headers = { ...bearer(customer.keys[n]!), "idempotency-key": "bench-%n%" };
      return request("POST", `/api/v1/${path}`, headers, bodyOf(customer));
    }),
  );
  return { name: "ours", profile: `${profile}-ours`, server, requests };
}

async function peersAt(
  ground: Ground,
  customer: Customer,
  path: string,
  body: unknown,
  profile: string,
): Promise<Runner[]> {
  const names: PeerName[] = ["express", "fastify", "trpc", "nest"];
  const peers = await openPeers(ground, customer.clientId, names);
  const requests = [request("POST", path, {}, body)];
  return peers.map(({ peer, name, server }) => {
    const note = path === "/calls" ? "one row, no provider" : "rows only, no provider";
    return { name, profile: `${profile}-${peer}`, server, requests, note };
  });
}
