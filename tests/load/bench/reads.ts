import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import type { Group } from "./figures.ts";
import { openPeers, type Peer, type PeerName } from "./peers.ts";
import { type Race, race } from "./race.ts";
import { agentBody, bearer, type Customer, create, openCustomer, request } from "./world.ts";

const connections = 32;
const warmUp = 6_000;
const rows = 20;
const keyCount = 20;

type World = { ours: Child; load: Child; customer: Customer; peers: Peer[] };

/** Gets one of three kinds of resources by id. */
export async function benchReads(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const world = await openWorld(ground, ["express", "fastify", "trpc", "nest"]);
  const { customer, ours } = world;
  const hook = { url: "https://receiver.example/hook", eventTypes: ["call.*"] };
  const [key] = customer.keys as [string];
  const ids = {
    agents: await create(ours, key, "agents", agentBody, rows),
    webhooks: await create(ours, key, "webhooks", hook, 5),
    calls: await create(ours, key, "calls", webCallOf(customer), rows),
  };
  await ground.owner`analyze`;
  const groups: Group[] = [];
  for (const [kind, all] of Object.entries(ids)) {
    const paths = all.map((id) => `/${kind}/${id}`);
    const given = raceOf(world, `get-${kind}`, paths, 0.5);
    groups.push({ work: `GET /${kind}/{id}`, figures: await race(ground, world.load, given, options) });
  }
  return groups;
}

/** A page of 20 agents, of 22 kB, and a page of 20 calls. */
export async function benchLists(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const world = await openWorld(ground, ["fastify", "express", "trpc", "nest"]);
  const [key] = world.customer.keys as [string];
  await create(world.ours, key, "agents", agentBody, rows + 10);
  await create(world.ours, key, "calls", webCallOf(world.customer), rows + 10);
  await ground.owner`analyze`;
  const groups: Group[] = [];
  for (const kind of ["agents", "calls"]) {
    const given = raceOf(world, `list-${kind}`, [`/${kind}?limit=${rows}`], 0.5);
    groups.push({ work: `GET /${kind}?limit=${rows}`, figures: await race(ground, world.load, given, options) });
  }
  return groups;
}

const webCallOf = ({ agentId }: Customer) => ({ agentId, medium: { type: "web" }, metadata: { orderId: "10248" } });

async function openWorld(ground: Ground, names: readonly PeerName[]): Promise<World> {
  const ours = await ground.child("./server-ours.ts");
  const customer = await openCustomer(ground, ours, "Bench", keyCount);
  const peers = await openPeers(ground, customer.clientId, names);
  return { ours, customer, peers, load: await ground.child("./load-client.ts") };
}

/** The peers do not authenticate. Ours uses several keys in turn, and all the ids in turn. */
function raceOf({ ours, customer, peers }: World, profile: string, paths: string[], tolerance: number): Race {
  const open = paths.map((path) => request("GET", path));
  const keyed = customer.keys.map((key, n) => request("GET", `/api/v1${paths[n % paths.length]}`, bearer(key)));
  return {
    ...{ connections, status: 200, warmUp, tolerance },
    runners: [
      ...peers.map(({ peer, name, server }) => ({ name, profile: `${profile}-${peer}`, server, requests: open })),
      { name: "ours", profile: `${profile}-ours`, server: ours, requests: keyed },
    ],
  };
}
