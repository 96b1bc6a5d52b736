import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { telnyxAccount } from "../../server/dev/telnyx.ts";
import { seedCalls } from "./call-ground.ts";
import { openGround } from "./ground.ts";
import type { Sending, Sent } from "./ingress-sender.ts";
import { table } from "./table.ts";

/** How soon all but one in a hundred must be acknowledged: providers give up later, and send again. */
const boundMs = 100;
const warmUpSeconds = 3;

/** How soon providers hear that we have what they sent: `npm run bench:ingress -- [--per-second 300] [--seconds 20]`. */
async function main() {
  const { values } = parseArgs({
    options: { "per-second": { type: "string", default: "300" }, seconds: { type: "string", default: "20" } },
  });
  const [perSecond, seconds] = [Number(values["per-second"]), Number(values.seconds)];
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const ground = await openGround(stops);
    const { owner } = ground;
    await seedCalls(owner, { calls: 4000, clients: 1 });
    const rows = await owner<{ id: string; upstream: string }[]>`
      select id, provider_call_id as upstream from calls where status = 'ended' order by id`;
    const calls = rows.map(({ id, upstream }) => ({ id, upstream }));
    const account = telnyxAccount();
    const stripeSecret = `whsec_${randomBytes(24).toString("hex")}`;
    const environment = { STRIPE_WEBHOOK_SECRETS: stripeSecret, TELNYX_PUBLIC_KEYS: account.publicKey };
    const server = await ground.child("./server-ours.ts", environment);
    const worker = await ground.child("./worker-ours.ts", environment);
    const sender = await ground.child("./ingress-sender.ts", {
      STRIPE_SECRET: stripeSecret,
      ULTRAVOX_SECRET: ground.environment.ULTRAVOX_WEBHOOK_SECRETS,
      TELNYX_ACCOUNT: JSON.stringify({
        privateKey: { key: account.privateKey.export({ format: "pem", type: "pkcs8" }) },
      }),
    });
    const port = await server.ask<number>("port");
    const half = Math.floor(calls.length / 2);
    const warm: Sending = { port, perSecond, seconds: warmUpSeconds, calls: calls.slice(0, half) };
    await sender.ask<Sent>("run", warm);
    await allApplied(owner);

    const used = async () => {
      const parts = [server.ask<number>("cpu"), worker.ask<number>("cpu"), ground.postgresCpu()];
      return Promise.all(parts);
    };
    const before = await used();
    const sent = await sender.ask<Sent>("run", { ...warm, seconds, calls: calls.slice(half) } satisfies Sending);
    const applied = await allApplied(owner);
    const after = await used();

    const count = perSecond * seconds;
    const perMessage = after.map((now, index) =>
      now === null || before[index] === null ? null : (now - before[index]!) / count,
    );
    const heads = ["", "per second", "p50 ms", "p95 ms", "p99 ms", "slowest", "API us", "worker us", "Postgres us"];
    const figures = [perSecond, sent.p50Ms, sent.p95Ms, sent.p99Ms, sent.slowestMs, ...perMessage];
    const title = `Ingress: ${count} messages of three providers, one in ten of them twice, over ${seconds} s`;
    console.log(table(title, heads, [["acknowledged", ...figures]]));
    console.log(`${JSON.stringify(sent.answers)}; all applied ${applied} s after the last was sent`);

    const faults = [...(await missing(owner, sent)), ...refusals(sent, count)];
    if (sent.p99Ms > boundMs) faults.push(`p99 is ${Math.round(sent.p99Ms)} ms; ${boundMs} ms are allowed`);
    if (faults.length > 0) {
      console.error(faults.join("\n"));
      process.exitCode = 1;
    }
  } finally {
    for (const stop of stops.reverse()) await stop().catch((error: unknown) => console.error(error));
  }
}

type Owner = Awaited<ReturnType<typeof openGround>>["owner"];

/** Waits until nothing is left to apply; answers for how many seconds. */
async function allApplied(owner: Owner): Promise<string> {
  const began = performance.now();
  for (;;) {
    const [left] = await owner`select count(*)::int as n from ingress_events where state = 'received'`;
    if (left!.n === 0) return ((performance.now() - began) / 1000).toFixed(1);
    if (performance.now() - began > 120_000) throw new Error(`${left!.n} messages were never applied`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What was acknowledged is there once, and nothing failed. */
async function missing(owner: Owner, { acknowledged }: Sent): Promise<string[]> {
  const faults: string[] = [];
  for (const [provider, keys] of Object.entries(acknowledged)) {
    const [seen] = await owner`
      select count(distinct key)::int as keys, count(*)::int as rows, count(*) filter (where state = 'failed')::int as failed
      from ingress_events where provider = ${provider} and key = any(${keys})`;
    if (seen!.keys !== keys.length) faults.push(`${provider}: ${keys.length - seen!.keys} acknowledged and not kept`);
    if (seen!.rows !== seen!.keys) faults.push(`${provider}: ${seen!.rows - seen!.keys} kept twice`);
    if (seen!.failed > 0) faults.push(`${provider}: ${seen!.failed} could not be applied`);
  }
  return faults;
}

function refusals({ answers }: Sent, count: number): string[] {
  const accepted = Object.entries(answers).filter(([name]) => name.endsWith(" 204"));
  const total = accepted.reduce((sum, [, answered]) => sum + answered, 0);
  return total === count ? [] : [`${count - total} were not acknowledged: ${JSON.stringify(answers)}`];
}

await main();
