import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { makeKey } from "../contract/endpoints/core.ts";
import { startChild } from "../load/child.ts";
import { type Heard, type Noise, noiseKinds } from "../load/noise-kinds.ts";
import { startTestApp, until } from "../support/app.ts";
import { finished, makeAgent } from "../support/calls.ts";
import { openReceiver } from "../support/receiver.ts";

/**
 * One client does everything that may harm others at the same time: it floods calls, has webhook endpoints that respond
 * just in time, opens event streams with many keys, sends large invalid bodies and bodies that never end, and reads long
 * lists. The other client must not be affected. The limits are generous: npm run bench:isolation measures the real times.
 */
const noisyKeys = 26;
const quietSeconds = 12;
const requestMs = 5_000;
const webhookSeconds = 10;
const billSeconds = 20;

// Few slots and connections: one client could take all of them.
const h = await startTestApp({
  workers: true,
  credits: 100_000,
  env: { DATABASE_POOL_SIZE: "10", WORKER_PROMPT_JOBS: "20" },
});
const receiver = await openReceiver();
const noisy = await startChild("./noise.ts");
afterAll(async () => {
  await noisy.stop();
  await receiver.close();
});

type Asked = { what: string; status: number; ms: number };
type Seen = { status: number; id: string | undefined };
const requests: Asked[] = [];

/** A request of the quiet client, with its duration. Status 0: no response in time. */
async function quietly(method: "GET" | "POST", path: string, body?: object): Promise<Seen> {
  const began = performance.now();
  const seen = await fetch(`${h.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${h.ada.key}`, "content-type": "application/json" },
    signal: AbortSignal.timeout(requestMs),
    ...(body ? { body: JSON.stringify(body) } : {}),
  }).then(
    async (response) => {
      const { data } = (await response.json()) as { data?: { id?: string } };
      return { status: response.status, id: data?.id };
    },
    () => ({ status: 0, id: undefined }),
  );
  const what = `${method} ${path.replace(/call_\w+/, "{id}")}`;
  requests.push({ what, status: seen.status, ms: Math.round(performance.now() - began) });
  return seen;
}

async function startNoise() {
  const agentId = await makeAgent(h, {}, h.bob.key);
  const keys = await Promise.all(
    Array.from({ length: noisyKeys }, async () => (await makeKey(h, h.bob, ["*" as never])).key),
  );
  await noisy.ask("start", { url: h.url, keys, agentId, kinds: noiseKinds } satisfies Noise);
  await sleep(3_000);
}

/** Repeats: places a call, reads it, reads a list. */
async function useQuietly(agentId: string): Promise<string[]> {
  const callIds: string[] = [];
  const until = performance.now() + quietSeconds * 1000;
  while (performance.now() < until) {
    const { id } = await quietly("POST", "/calls", { agentId, medium: { type: "web" } });
    if (id) callIds.push(id);
    if (id) await quietly("GET", `/calls/${id}`);
    await quietly("GET", "/agents");
    await sleep(500);
  }
  return callIds;
}

const receivedFor = (callId: string, type: string) =>
  receiver.at("/quiet").some(({ body }) => body.includes(callId) && body.includes(`"type":"${type}"`));

/** The status of the event stream, or 0 without a response in time. */
async function follow(over: AbortSignal): Promise<number> {
  const signal = AbortSignal.any([over, AbortSignal.timeout(60_000)]);
  const late = sleep(requestMs, 0, { ref: false });
  const headers = { authorization: `Bearer ${h.ada.key}` };
  const opened = fetch(`${h.url}/trpc/events.stream?input=%7B%7D`, { headers, signal }).then(
    ({ status }) => status,
    () => 0,
  );
  return Promise.race([opened, late]);
}

test("a client beside one that floods the service is served, notified and billed", {
  timeout: 120_000,
}, async () => {
  const agentId = await makeAgent(h);
  const endpoint = await h.post("/webhooks", { url: `${receiver.url}/quiet`, eventTypes: ["*"] });
  expect(endpoint.status).toBe(201);
  await startNoise();

  const over = new AbortController();
  const followed = await follow(over.signal);
  const callIds = await useQuietly(agentId);
  const unnotified = () => callIds.filter((id) => !receivedFor(id, "call.created"));
  await until(async () => unnotified().length === 0, webhookSeconds).catch(() => {});
  const silent = unnotified();
  const unbilled = await Promise.all(
    callIds.slice(-2).map((id) =>
      finished(h, id, billSeconds).then(
        () => null,
        () => id,
      ),
    ),
  );
  const received = await noisy.ask<Heard>("heard");
  over.abort();
  await noisy.ask("stop");

  expect(followed, "the status of the stream of events").toBe(200);
  expect(requests.filter(({ status }) => status < 200 || status >= 300)).toEqual([]);
  expect(callIds.length).toBeGreaterThan(3);
  expect(silent, `calls without a webhook after ${webhookSeconds} s`).toEqual([]);
  expect(unbilled.filter(Boolean), `calls without a bill after ${billSeconds} s`).toEqual([]);
  expect(Object.keys(received).toSorted(), "every kind of noise was made").toEqual([...noiseKinds].toSorted());
});
