import { join } from "node:path";
import { seedClient } from "../../dev/seed.ts";
import { CreateAgent } from "../../routers/agents/schema.ts";
import { createApiKey } from "../../routers/api-keys/service.ts";
import { scopes } from "../../routers/core/scopes.ts";
import type { Child } from "./child.ts";
import type { BenchOptions, Ground } from "./ground.ts";
import type { Load, Loaded } from "./load-client.ts";
import { median, type Round, summed } from "./rounds.ts";
import { table } from "./table.ts";

const connections = 32;
/** A process that is not yet compiled is measured for nothing. Calls are dear, and so get fewer. */
const warmUp = { count: 6_000, seconds: 5 };
/** The rows take turns, so that a noise from elsewhere is not all one row's. */
const rounds = 5;
/** One key may make so many requests in a minute and no more; the limits stay on, the callers are many. */
const keyCount = 100;
const agentCount = 20;

const agent = CreateAgent.parse({
  name: "Reception",
  systemPrompt: "You answer for a bakery. Be brief, be kind, and never promise bread that has not been baked. ".repeat(
    4,
  ),
  ...{ voice: "Mark", languageHint: "en-GB", temperature: 0.3, greeting: "Good morning!" },
});

type Contestant = { name: string; profile: string; server: Child; requests: string[] };
type Measured = Round & Pick<Loaded, "p50Ms" | "p99Ms" | "refused">;

/** What a request costs: ours beside the least that gives the same answer, and beside the library's way. */
export async function benchRequests(ground: Ground, { seconds, profiles, say }: BenchOptions): Promise<string> {
  const ours = await ground.child("./server-ours.ts");
  const silent = await ground.child("./server-ours.ts", { LOG_LEVEL: "silent" });
  const { clientId, keys, agentId } = await populate(ground, ours);
  const environment = { CLIENT_ID: clientId, TENANT_URL: ground.roles.tenantUrl };
  const load = await ground.child("./load-client.ts");
  const bare = await ground.child("./server-bare.ts", environment);
  const library = await ground.child("./server-library.ts", environment);

  const open = [request("GET", `/agents/${agentId}`)];
  const keyed = keys.map((key) => request("GET", `/api/v1/agents/${agentId}`, { authorization: `Bearer ${key}` }));
  const lists = keys.map((key) => request("GET", "/api/v1/agents?limit=20", { authorization: `Bearer ${key}` }));
  const call = JSON.stringify({ agentId, medium: { type: "web" }, metadata: { orderId: "10248" } });
  const calls = keys.map((key) =>
    request("POST", "/api/v1/calls", { authorization: `Bearer ${key}`, "idempotency-key": "bench-%n%" }, call),
  );
  const contestants: Contestant[] = [
    { name: "Express + postgres.js, one agent", profile: "bare", server: bare, requests: open },
    { name: "trpc-to-openapi + drizzle, one agent", profile: "library", server: library, requests: open },
    { name: "ours, one agent", profile: "one", server: ours, requests: keyed },
    { name: "ours, one agent, no log", profile: "one-silent", server: silent, requests: keyed },
    { name: "ours, list of 20 agents", profile: "list", server: ours, requests: lists },
    { name: "ours, place a call", profile: "call", server: ours, requests: calls },
  ];

  const taken = new Map<Contestant, Measured[]>(contestants.map((contestant) => [contestant, []]));
  const last = profiles === null ? rounds : rounds + 1;
  for (let round = 0; round <= last; round++) {
    for (const contestant of contestants) {
      const { name, profile, server, requests } = contestant;
      const port = await server.ask<number>("port");
      const measure = (bounds: { seconds: number; count?: number }) =>
        measured(ground, load, server, { port, requests, connections, ...bounds });
      if (round === 0) {
        say(`warming up: ${name}`);
        await measure(warmUp);
        continue;
      }
      const watched = profiles !== null && round > rounds;
      if (watched) await server.ask("profile.start");
      const seen = await measure({ seconds: seconds / rounds });
      if (watched) await server.ask("profile.stop", join(profiles, `requests-${profile}.cpuprofile`));
      const bad = Object.entries(seen.refused);
      if (bad.length > 0)
        throw new Error(`${name}: ${bad.map(([status, n]) => `${n} answers of ${status}`).join(", ")}`);
      if (!watched) taken.get(contestant)!.push(seen);
    }
  }

  const first = summed(taken.get(contestants[0]!)!);
  const rows = contestants.map((contestant) => {
    const seen = taken.get(contestant)!;
    const { perSecond, cpu, postgres } = summed(seen);
    const latencies = [median(seen.map(({ p50Ms }) => p50Ms)), median(seen.map(({ p99Ms }) => p99Ms))];
    return [contestant.name, perSecond, cpu, postgres, ...latencies, perSecond / first.perSecond, cpu / first.cpu];
  });
  const heads = ["request", "req/s", "CPU us", "Postgres us", "p50 ms", "p99 ms", "speed ratio", "CPU ratio"];
  return table(`Requests: ${connections} connections, CPU of the Node process per request`, heads, rows);
}

async function measured(ground: Ground, load: Child, server: Child, what: Load): Promise<Measured> {
  const [cpuBefore, postgresBefore] = await Promise.all([server.ask<number>("cpu"), ground.postgresCpu()]);
  const { requests: count, ...loaded } = await load.ask<Loaded>("run", what);
  const [cpuAfter, postgresAfter] = await Promise.all([server.ask<number>("cpu"), ground.postgresCpu()]);
  const postgres = postgresAfter === null || postgresBefore === null ? null : postgresAfter - postgresBefore;
  return { ...loaded, count, cpu: cpuAfter - cpuBefore, postgres };
}

function request(method: string, path: string, headers: Record<string, string> = {}, body?: string): string {
  const all = {
    host: "127.0.0.1",
    ...headers,
    ...(body === undefined
      ? {}
      : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }),
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body ?? ""}`;
}

/** A client with many keys, and agents made as everybody makes them: by asking for them. */
async function populate({ deps, owner }: Ground, server: Child) {
  const seeded = await seedClient(deps, { name: "Bench", subject: "auth0|bench", credits: 100_000_000 });
  const { clientId, userId } = seeded;
  const keys = await deps.db.asClient({ clientId }, async (tx) => {
    const made: string[] = [];
    for (let n = 0; n < keyCount; n++) {
      const wanted = { name: `Key ${n}`, scopes: [...scopes] };
      made.push((await createApiKey(tx, wanted, { id: userId, scopes: ["*"] }, deps.auth.hashKey)).key);
    }
    return made;
  });
  const url = `http://127.0.0.1:${await server.ask<number>("port")}/api/v1/agents`;
  const headers = { authorization: `Bearer ${seeded.key}`, "content-type": "application/json" };
  const agentIds: string[] = [];
  for (let n = 0; n < agentCount; n++) {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(agent) });
    const { data } = (await answer.json()) as { data?: { id: string } };
    if (!data) throw new Error(`no agent was made: ${answer.status}`);
    agentIds.push(data.id);
  }
  await owner`analyze`;
  return { clientId, keys, agentId: agentIds[0]! };
}
