import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { telnyxAccount } from "../../dev/simulators/telnyx.ts";
import { agentBody, bearer, type Customer, create, openCustomer, request } from "./bench/world.ts";
import { seedCalls } from "./call-ground.ts";
import type { Child, Vitals } from "./child.ts";
import type { Drive, Driven } from "./driver.ts";
import type { Ground } from "./ground.ts";
import type { Sending, Sent } from "./ingress-sender.ts";
import type { Load, Loaded } from "./load-client.ts";
import { openStage } from "./pace.ts";

/** The rate per second, by kind: a third of what two cores could do when this was written. */
const paces = { reads: 60, agents: 1, calls: 4, events: 20, messages: 12 };
const settleMs = 120_000;

export type Work = { requests: number; p50Ms: number; p99Ms: number; errors: Record<string, number> };
/** Work that was not done in time, and errors in the logs of the processes. */
export type Left = { pending: number; jobsGivenUp: number; messagesFailed: number; logErrors: Record<string, number> };

/** Clients, providers, receivers, API and worker, and a function that runs all of them for a while. */
export async function openMixture(ground: Ground, scale: number) {
  const { server, providers } = await openServer(ground);
  const logs = [join(ground.home, "api.log"), join(ground.home, "worker.log")];
  const stage = await openStage(ground, { clients: 4, endpointsEach: 5, workers: 0 });
  const worker = await ground.child("./worker-ours.ts", providers.environment, logs[1]);
  const customers = await openCustomers(ground, server);
  const paths = await pathsOf(server, customers);
  const load = await Promise.all([1, 2, 3].map(() => ground.child("./load-client.ts")));
  await ground.owner`analyze`;
  const port = await server.ask<number>("port");
  const at = (pace: number) => Math.max(1, Math.round(pace * scale));

  const send = (child: Child, requests: string[], pace: number, status: number, seconds: number) =>
    child.ask<Loaded>("run", {
      ...{ port, requests, connections: 16, seconds, perSecond: at(pace) },
      expect: { status, leastBytes: 2 },
    } satisfies Load);

  return {
    async run(seconds: number): Promise<Work> {
      const writers = stage.customers.map(({ clientId, types }) => ({ clientId, type: types[0]! }));
      const drive: Drive = { writers, perSecond: at(paces.events), seconds };
      const [reads, agents, calls, driven, sent] = await Promise.all([
        send(load[0]!, paths.reads, paces.reads, 200, seconds),
        send(load[1]!, paths.agents, paces.agents, 201, seconds),
        send(load[2]!, paths.calls, paces.calls, 201, seconds),
        stage.driver.ask<Driven>("run", drive),
        providers.send({
          port,
          perSecond: at(paces.messages),
          seconds,
          calls: providers.next(at(paces.messages) * seconds),
        }),
      ]);
      return workOf({ reads, agents, calls }, driven, sent);
    },
    startWatch: () => Promise.all([server.ask("lag.start"), worker.ask("lag.start")]),
    async vitals() {
      const [api, work] = await Promise.all([server.ask<Vitals>("vitals"), worker.ask<Vitals>("vitals")]);
      return { api, worker: work };
    },
    settle: () => settled(ground, logs),
  };
}

async function openServer(ground: Ground) {
  await seedCalls(ground.owner, { calls: 4_000, clients: 1, autovacuum: true });
  const rows = await ground.owner<{ id: string; upstream: string }[]>`
    select id, provider_call_id as upstream from calls where status = 'ended' order by id`;
  const account = telnyxAccount();
  const stripeSecret = `whsec_${randomBytes(24).toString("hex")}`;
  const environment = { STRIPE_WEBHOOK_SECRETS: stripeSecret, TELNYX_PUBLIC_KEYS: account.publicKey };
  const privateKey = { key: account.privateKey.export({ format: "pem", type: "pkcs8" }) };
  const sender = await ground.child("./ingress-sender.ts", {
    STRIPE_SECRET: stripeSecret,
    ULTRAVOX_SECRET: ground.environment.ULTRAVOX_WEBHOOK_SECRETS,
    TELNYX_ACCOUNT: JSON.stringify({ privateKey }),
  });
  let used = 0;
  const providers = {
    environment,
    send: (sending: Sending) => sender.ask<Sent>("run", sending),
    /** New calls in each slice: a repeated message causes no work. */
    next: (messages: number) => {
      const count = Math.ceil(messages / 12) + 1;
      const calls = Array.from({ length: count }, (_, n) => rows[(used + n) % rows.length]!);
      used += count;
      return calls.map(({ id, upstream }) => ({ id, upstream }));
    },
  };
  const server = await ground.child("./server-ours.ts", environment, join(ground.home, "api.log"));
  return { server, providers };
}

/** Their endpoints subscribe to everything, at a receiver that accepts everything. */
async function openCustomers(ground: Ground, server: Child): Promise<Customer[]> {
  const sink = await ground.child("./sink.ts");
  const hook = { url: `http://127.0.0.1:${await sink.ask<number>("port")}/hook`, eventTypes: ["*"] };
  const customers: Customer[] = [];
  for (let n = 0; n < 5; n++) {
    const customer = await openCustomer(ground, server, `Customer ${n}`, 20);
    await create(server, customer.keys[0]!, "webhooks", hook, 1);
    customers.push(customer);
  }
  return customers;
}

async function pathsOf(server: Child, customers: Customer[]) {
  const reads: string[] = [];
  const agents: string[] = [];
  const calls: string[] = [];
  for (const { agentId, keys } of customers) {
    const call = { agentId, medium: { type: "web" }, metadata: { orderId: "10248" } };
    const [callId] = await create(server, keys[0]!, "calls", call, 1);
    const [toolPage, callPage] = ["/agents?limit=20", "/calls?limit=20"];
    const paths = [`/agents/${agentId}`, `/calls/${callId}`, toolPage, callPage, "/events?limit=50", "/webhooks"];
    for (const key of keys) {
      reads.push(...paths.map((path) => request("GET", `/api/v1${path}`, bearer(key))));
      const headers = { ...bearer(key), "idempotency-key": "load-%n%" };
      agents.push(request("POST", "/api/v1/agents", headers, agentBody));
      calls.push(request("POST", "/api/v1/calls", headers, call));
    }
  }
  return { reads, agents, calls };
}

function workOf(loads: Record<string, Loaded>, driven: Driven, sent: Sent): Work {
  const errors: Record<string, number> = {};
  const add = (what: string, count: number) => {
    if (count > 0) errors[what] = (errors[what] ?? 0) + count;
  };
  for (const [name, { wrong, replayed, refused }] of Object.entries(loads)) {
    for (const [response, count] of Object.entries(wrong)) add(`${name}: ${response}`, count);
    add(`${name}: replays`, replayed);
    add(`${name}: 503`, refused);
  }
  for (const [why, count] of Object.entries(driven.failed)) add(`events: ${why}`, count);
  for (const [response, count] of Object.entries(sent.answers)) if (!response.endsWith(" 204")) add(response, count);
  const all = Object.values(loads);
  const worst = (read: (load: Loaded) => number) => Math.max(...all.map(read));
  const requests = all.reduce((sum, { requests }) => sum + requests, 0);
  return { requests, p50Ms: worst(({ p50Ms }) => p50Ms), p99Ms: worst(({ p99Ms }) => p99Ms), errors };
}

/** Waits until every delivery is sent and every message is applied, and counts the rest. */
async function settled({ owner }: Ground, logs: string[]): Promise<Left> {
  const until = performance.now() + settleMs;
  for (;;) {
    const [seen] = await owner`
      select (select count(*)::int from deliveries where status <> 'delivered')
          + (select count(*)::int from ingress_events where status = 'received') as pending,
        (select count(*)::int from graphile_worker._private_jobs where attempts >= max_attempts) as given_up,
        (select count(*)::int from ingress_events where status = 'failed') as failed`;
    if (seen!.pending === 0 || performance.now() > until) {
      const logErrors = await errorsIn(logs);
      return { pending: seen!.pending, jobsGivenUp: seen!.given_up, messagesFailed: seen!.failed, logErrors };
    }
    await sleep(500);
  }
}

/** Lines of level 50 and above, by their message. */
async function errorsIn(logs: string[]): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const file of logs) {
    for (const line of (await readFile(file, "utf8")).split("\n")) {
      if (!/"level":(5|6)0|"level":"(error|fatal)"/.test(line)) continue;
      const message = String((JSON.parse(line) as { msg?: string }).msg ?? line.slice(0, 80));
      found[message] = (found[message] ?? 0) + 1;
    }
  }
  return found;
}
