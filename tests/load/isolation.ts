import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { seedClient } from "../../dev/seed.ts";
import { createApiKey } from "../../routers/api-keys/service.ts";
import { scopes } from "../../routers/core/scopes.ts";
import { type Child, startChild } from "./child.ts";
import { type Ground, openGround } from "./ground.ts";
import { untilOver } from "./interruption.ts";
import { type Heard, type Noise, type NoiseKind, noiseKinds } from "./noise-kinds.ts";
import { median } from "./rounds.ts";
import { table } from "./table.ts";

const usage =
  "npm run bench:isolation -- [calls|webhooks|streams|bodies|lists|unfinished ...] [--seconds 10] [--rounds 1]";
const noisyKeys = 26;
/** Time for the noise to start, and for its remains to end. */
const settleMs = 3_000;
const patienceMs = 10_000;
const quietPauseMs = 20;

type Seen = { calls: number[]; reads: number[]; failed: number };
type Quiet = { url: string; key: string; agentId: string };

/** One request of the quiet client. Without a response in time it has failed. */
async function timed(seen: Seen, into: "calls" | "reads", { url, key }: Quiet, path: string, body?: string) {
  const began = performance.now();
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const init = { headers, signal: AbortSignal.timeout(patienceMs), ...(body ? { method: "POST", body } : {}) };
  const ok = await fetch(url + path, init).then(
    async (response) => {
      await response.arrayBuffer();
      return response.ok;
    },
    () => false,
  );
  if (ok) seen[into].push(performance.now() - began);
  else seen.failed++;
}

/** Places a call and reads one agent, in turn, for the given time. */
async function measure(quiet: Quiet, seconds: number, over: AbortSignal): Promise<Seen> {
  const seen: Seen = { calls: [], reads: [], failed: 0 };
  const call = JSON.stringify({ agentId: quiet.agentId, medium: { type: "web" } });
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    over.throwIfAborted();
    await timed(seen, "calls", quiet, "/api/v1/calls", call);
    await timed(seen, "reads", quiet, `/api/v1/agents/${quiet.agentId}`);
    await sleep(quietPauseMs);
  }
  return seen;
}

async function makeAgent(url: string, key: string): Promise<string> {
  const reply = await fetch(`${url}/api/v1/agents`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ name: "Reception", systemPrompt: "You answer for a bakery.", maxDurationSeconds: 120 }),
  });
  const { data } = (await reply.json()) as { data?: { id: string } };
  if (!data) throw new Error(`no agent was created: ${reply.status}`);
  return data.id;
}

/** A quiet client, and a noisy one with many keys, of the same installation. */
async function populate({ deps }: Ground, url: string): Promise<{ quiet: Quiet; noise: Omit<Noise, "kinds"> }> {
  const credits = 100_000_000;
  const quiet = await seedClient(deps, { name: "Quiet", subject: "auth0|quiet", credits });
  const noisy = await seedClient(deps, { name: "Noisy", subject: "auth0|noisy", credits });
  const keys = await deps.db.asClient({ clientId: noisy.clientId }, async (tx) => {
    const made: string[] = [];
    for (let n = 0; n < noisyKeys; n++) {
      const wanted = { name: `Key ${n}`, scopes: [...scopes] };
      made.push((await createApiKey(tx, wanted, { id: noisy.userId, scopes: ["*"] }, deps.auth.hashKey)).key);
    }
    return made;
  });
  return {
    quiet: { url, key: quiet.key, agentId: await makeAgent(url, quiet.key) },
    noise: { url, keys, agentId: await makeAgent(url, noisy.key) },
  };
}

const part = (values: number[], share: number) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;

type Wanted = { kinds: NoiseKind[]; seconds: number; rounds: number; over: AbortSignal; say(line: string): void };

/** Alone and beside each kind of noise, in turn: only measurements of the same run are comparable. */
async function bench(
  ground: Ground,
  child: Child,
  { kinds, seconds, rounds, over, say: log }: Wanted,
): Promise<string> {
  const server = await ground.child("./server-ours.ts");
  await ground.child("./worker-ours.ts");
  const url = `http://127.0.0.1:${await server.ask<number>("port")}`;
  const { quiet, noise } = await populate(ground, url);
  log("warming up");
  await measure(quiet, 3, over);
  const pairs = new Map<NoiseKind, { alone: Seen; beside: Seen; heard: Heard }[]>();
  for (let round = 1; round <= rounds; round++) {
    for (const kind of kinds) {
      log(`round ${round} of ${rounds}: ${kind}`);
      const alone = await measure(quiet, seconds, over);
      await child.ask("start", { ...noise, kinds: [kind] } satisfies Noise);
      await sleep(settleMs);
      const beside = await measure(quiet, seconds, over);
      const received = await child.ask<Heard>("heard");
      await child.ask("stop");
      await sleep(settleMs);
      pairs.set(kind, [...(pairs.get(kind) ?? []), { alone, beside, heard: received }]);
    }
  }
  const rows = [...pairs].flatMap(([kind, seen]) =>
    (["calls", "reads"] as const).map((of) => {
      const over = (who: "alone" | "beside", share: number) => median(seen.map((each) => part(each[who][of], share)));
      const failed = seen.reduce((sum, { beside }) => sum + beside.failed, 0);
      const spread = [over("alone", 0.5), over("beside", 0.5), over("alone", 0.95), over("beside", 0.95)] as const;
      const ratios = [spread[1] / spread[0], spread[3] / spread[2]];
      return [`${kind}: ${of === "calls" ? "place a call" : "read an agent"}`, ...spread, ...ratios, failed];
    }),
  );
  for (const [kind, seen] of pairs)
    log(`${kind} was answered: ${JSON.stringify(seen.map(({ heard: received }) => received[kind]))}`);
  const heads = ["noise", "p50 alone", "p50 beside", "p95 alone", "p95 beside", "p50 ratio", "p95 ratio", "failed"];
  return table(`A quiet client alone and beside a noisy one, ms; ${seconds} s each, rounds: ${rounds}`, heads, rows);
}

async function main() {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { seconds: text, rounds: text } });
  const [seconds, rounds] = [Number(values.seconds ?? 10), Number(values.rounds ?? 1)];
  const kinds = (positionals.length > 0 ? positionals : [...noiseKinds]) as NoiseKind[];
  const inReach = [seconds, rounds].every((number) => Number.isFinite(number) && number > 0 && number <= 600);
  if (!inReach || kinds.some((kind) => !noiseKinds.includes(kind))) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  const log = (line: string) => console.error(`  ${line}`);
  await untilOver(async (stops, over) => {
    const ground = await openGround(stops);
    const child = await startChild("./noise.ts");
    stops.push(() => child.stop());
    console.log(await bench(ground, child, { kinds, seconds, rounds, over, say: log }));
  });
}

await main();
