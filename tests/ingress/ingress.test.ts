import { type ChildProcess, fork } from "node:child_process";
import { createHash, createHmac } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, expect, test } from "vitest";
import { enqueue } from "../../db/queue.ts";
import { openWorkers } from "../../server/workers.ts";
import type { ChildOptions } from "../support/api-child.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  expectStory,
  finished,
  hurry,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
  shuffled,
  storyOf,
  sweepUntilBilled,
  waitingJobs,
} from "../support/calls.ts";

const h = await startTestApp({ speed: 200 });
let workers = await openWorkers(h.deps);
afterAll(() => workers.stop());
const agentId = await makeAgent(h);
const provider = h.deps.providers.ultravox;
const door = `${h.url}/api/v1/webhooks/ultravox`;
const everything = ["call.started", "call.joined", "call.ended", "call.billed"] as const;
type Heard = (typeof everything)[number];

afterEach(() => h.simulator.faults({}));

async function place(to = "+14155550100"): Promise<string> {
  const { body } = await h.post("/calls", { agentId, medium: phone(to) });
  if (!body.data) throw new Error(`not placed: ${JSON.stringify(body)}`);
  return body.data.id;
}

/** The provider's id of a call, also before its first event. */
async function upstream(id: string): Promise<string> {
  const since = new Date(Date.now() - 3_600_000);
  const [call] = await provider.findCalls(platformAccount, id, since, inTime());
  return call!.providerCallId;
}

type Again = { timestampOffsetSeconds?: number; secret?: string; times?: number };
async function resend(callId: string, event: Heard, more: Again = {}): Promise<string[]> {
  const { attempts } = await h.simulator.control("webhooks/resend", { callId, event, ...more });
  return attempts.map(({ failure }: { failure: string | null }) => failure ?? "kept");
}

/** Posts a body unchanged, as a provider would. */
async function knock(body: string | Buffer, secret: string, at = new Date().toISOString()) {
  const signature = createHmac("sha256", secret).update(body).update(at).digest("hex");
  const response = await fetch(door, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-ultravox-webhook-timestamp": at,
      "x-ultravox-webhook-signature": signature,
    },
    body,
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

const received = () =>
  h.owner`select id, key, status, note, stale, subject_id, provider_account_id from ingress_events order by id`;
const receivedOf = async (providerCallId: string) =>
  (await received()).filter(({ key }) => key.includes(providerCallId));
const counted = async () => (await received()).length;

/** A call that has ended and is billed at the provider, without any event received. */
async function silentCalls(count: number, to = "+14155550100"): Promise<{ id: string; upstream: string }[]> {
  const made = await Promise.all(Array.from({ length: count }, () => place(to)));
  return Promise.all(
    made.map(async (id) => {
      const callId = await upstream(id);
      await until(async () => (await provider.getCall(platformAccount, callId, inTime()))?.billing === "final");
      return { id, upstream: callId };
    }),
  );
}

const queueRefresh = (callId: string) =>
  h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) => enqueue(tx, "calls.refresh", { callId }));

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((first, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [first, ...rest]),
  );
}

async function expectTheSameEnd(id: string) {
  const row = await finished(h, id);
  const seen = await provider.getCall(platformAccount, row.provider_call_id!, inTime());
  expect(row).toMatchObject({
    status: "ended",
    outcome: "completed",
    end_reason: "agent_hangup",
    failure_reason: null,
    joined_at: seen!.joinedAt,
    ended_at: seen!.endedAt,
    billed_seconds: seen!.billedSeconds,
    sip_billed_seconds: seen!.sipBilledSeconds,
    billing_revision: 1,
    summary: seen!.summary,
    check_at: null,
  });
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  await expectStory(h, id, { joined: true, last: "call.completed" });
}

test("the four events of a call in every order give the same call and one settlement", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const orders = permutations(everything); // 24
  const known = await silentCalls(orders.length / 2);
  await h.simulator.faults({ create: { resetAfterAccepting: 12 }, webhooks: { lose: everything } });
  // In two groups: after ten consecutive failures the provider is not called for a while.
  const unknown = [...(await silentCalls(6)), ...(await silentCalls(6))];
  for (const { id } of unknown) expect((await callRow(h, id)).status).toBe("unknown");
  const calls = [...known, ...unknown];
  await Promise.all(
    shuffled(orders, 7).map(async (order, index) => {
      const { upstream } = calls[index]!;
      for (const event of order) {
        expect(await resend(upstream, event)).toEqual(["kept"]);
        await until(async () => {
          const rows = await receivedOf(upstream);
          return rows.some(({ key, status }) => key.startsWith(event) && status === "applied");
        });
      }
    }),
  );
  for (const { id } of calls) await expectTheSameEnd(id);
  await expectSoundBooks(h);
});

test("every event five times, shuffled and concurrent, is stored once and applied once", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const calls = await silentCalls(6);
  await Promise.all(
    calls.map(async ({ upstream }, index) => {
      const five = [1, 2, 3, 4, 5].flatMap(() => everything);
      await Promise.all(shuffled(five, index + 1).map((event) => resend(upstream, event)));
    }),
  );
  for (const { id, upstream } of calls) {
    await expectTheSameEnd(id);
    const rows = await until(async () => {
      const all = await receivedOf(upstream);
      return all.every(({ status }) => status === "applied") ? all : null;
    });
    expect(rows).toHaveLength(4);
  }
});

test.for([
  ["twice and reversed", { duplicate: 2, reorder: "reverse" }],
  ["shuffled", { duplicate: 3, reorder: "shuffle" }],
  ["a minute late", { delaySeconds: 60 }],
  ["without the first two", { lose: ["call.started", "call.joined"] }],
  ["only the bill", { lose: ["call.started", "call.joined", "call.ended"] }],
] as const)("webhooks %s: the call comes to the same end by itself", async ([, webhooks]) => {
  await h.simulator.faults({ webhooks });
  const ids = await Promise.all([place(), place(), place()]);
  for (const id of ids) await expectTheSameEnd(id);
  await expectSoundBooks(h);
});

test.for([
  ["the bill", ["call.billed"]],
  ["the end and the bill", ["call.ended", "call.billed"]],
  ["all of them", everything],
] as const)("webhooks lost, %s: the sweep reads the call, which ends and is billed once", async ([, lose]) => {
  await h.simulator.faults({ webhooks: { lose } });
  const [{ id } = { id: "" }] = await silentCalls(1);
  const row = await callRow(h, id);
  expect(row.cost_micros).toBeNull();
  expect(row.check_at, "a check is scheduled").not.toBeNull();
  await sweepUntilBilled(h, id);
  await expectTheSameEnd(id);
  const { provider_call_id } = await callRow(h, id);
  await resend(provider_call_id!, "call.billed");
  await queueRefresh(id);
  await until(async () => (await receivedOf(provider_call_id!)).every(({ status }) => status !== "received"));
  await until(async () => (await waitingJobs(h, "calls.refresh")).length === 0);
  await expectTheSameEnd(id);
  await expectSoundBooks(h);
});

test("a wrong, empty or missing signature is 401, and nothing is stored", async () => {
  const callId = await upstream(await place("+14155550015"));
  await until(async () => (await receivedOf(callId)).length === 2);
  const before = await counted();
  expect(await resend(callId, "call.started", { secret: "somebody else's" })).toEqual(["HTTP 401"]);
  const body = JSON.stringify({ event: "call.ended", call: {} });
  expect((await knock(body, "guessed")).status).toBe(401);
  const bare = await fetch(door, { method: "POST", body });
  expect(bare.status).toBe(401);
  const answer = (await bare.json()) as { error: unknown };
  expect(answer.error).toMatchObject({ code: "unauthenticated" });
  const at = new Date().toISOString();
  const short = await fetch(door, {
    method: "POST",
    body,
    headers: { "x-ultravox-webhook-timestamp": at, "x-ultravox-webhook-signature": "," },
  });
  expect(short.status).toBe(401);
  expect(await counted()).toBe(before);
  await h.simulator.control(`calls/${callId}/end`);
});

test("the secret of another account does not update our calls", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const [call] = await silentCalls(1);
  const before = await callRow(h, call!.id);
  for (const event of everything) {
    expect(await resend(call!.upstream, event, { secret: "other-webhook-secret" })).toEqual(["kept"]);
  }
  const rows = await until(async () => {
    const all = await receivedOf(call!.upstream);
    return all.length === 4 && all.every(({ status }) => status !== "received") ? all : null;
  });
  for (const row of rows) expect(row).toMatchObject({ status: "ignored", provider_account_id: "pacc_other" });
  expect(await callRow(h, call!.id)).toEqual(before);
  expect(await storyOf(h, call!.id)).toEqual(["call.created", "call.started"]);
  // It does not block the valid events.
  for (const event of everything) await resend(call!.upstream, event);
  await expectTheSameEnd(call!.id);
});

test.for([-120, 120])(
  "signed %d s away from now: acknowledged without effect, and the provider is read",
  async (by) => {
    await h.simulator.faults({ webhooks: { lose: everything } });
    const [call] = await silentCalls(1);
    const { id, upstream } = call!;
    const { getCall } = provider;
    let asked = 0;
    provider.getCall = async () => {
      asked++;
      throw new Error("not now");
    };
    try {
      expect(await resend(upstream, "call.ended", { timestampOffsetSeconds: by })).toEqual(["kept"]);
      const [row] = await until(async () => {
        const all = await receivedOf(upstream);
        return all.length === 1 && all[0]!.status === "ignored" ? all : null;
      });
      expect(row).toMatchObject({ stale: true, subject_id: id });
      await until(async () => asked > 0);
      expect(await callRow(h, id)).toMatchObject({ status: "ringing", ended_at: null });
      provider.getCall = getCall;
      await sweepUntilBilled(h, id);
      await expectTheSameEnd(id);
      // With a valid time the same event is new: the first did not take its key.
      expect(await resend(upstream, "call.ended")).toEqual(["kept"]);
      expect(await receivedOf(upstream)).toHaveLength(2);
    } finally {
      provider.getCall = getCall;
    }
  },
);

test("a second bill is another event: the provider is read, the difference is posted once, and a refund is credited", async () => {
  const id = await place();
  await expectTheSameEnd(id);
  const { provider_call_id, cost_micros } = await callRow(h, id);
  const { getCall } = provider;
  const seen = (await getCall(platformAccount, provider_call_id!, inTime()))!;
  const requests = (await h.simulator.requests()).requests as { path: string; response: object }[];
  const sent = requests.findLast(({ path }) => path === `/api/calls/${provider_call_id}`)!.response;
  const bill = (more: object) =>
    knock(JSON.stringify({ event: "call.billed", call: { ...sent, ...more } }), "platform-webhook-secret");
  try {
    provider.getCall = async () => ({ ...seen, billedSeconds: seen.billedSeconds! + 60 });
    const dearer = { billedDuration: `${seen.billedSeconds! + 60}s` };
    for (let times = 0; times < 3; times++) expect((await bill(dearer)).status).toBe(204);
    await until(async () => (await callRow(h, id)).billing_revision === 2);
    expect(Number((await callRow(h, id)).cost_micros)).toBe(Number(cost_micros) + 9_000_000);

    provider.getCall = async () => ({ ...seen, billing: "refunded" });
    expect((await bill({ billingStatus: "BILLING_STATUS_REFUNDED" })).status).toBe(204);
    await until(async () => (await callRow(h, id)).billing_revision === 3);
    // An older one arrives late: the current data of the provider counts, which has not changed.
    expect((await bill({ billedDuration: `${seen.billedSeconds! + 120}s` })).status).toBe(204);
    await until(async () => (await receivedOf(provider_call_id!)).every(({ status }) => status !== "received"));
    await until(async () => (await waitingJobs(h, "calls.refresh")).length === 0);
  } finally {
    provider.getCall = getCall;
  }
  expect(Number((await callRow(h, id)).cost_micros)).toBe(0);
  const postings = await postingsOf(h, id);
  expect(postings.map(([kind]) => kind)).toEqual(["hold", "settlement", "settlement", "settlement"]);
  expect(postings.reduce((sum, [, available]) => sum + available, 0)).toBe(0);
  expect((await storyOf(h, id)).filter((type) => type === "call.billed")).toHaveLength(3);
  await expectSoundBooks(h);
});

test("a refund is credited also when the call is erased, here and at the provider", async () => {
  const id = await place();
  await expectTheSameEnd(id);
  const { provider_call_id: upstreamId } = await callRow(h, id);
  await provider.getCall(platformAccount, upstreamId!, inTime());
  const requests = (await h.simulator.requests()).requests as { path: string; response: object }[];
  const sent = requests.findLast(({ path }) => path === `/api/calls/${upstreamId}`)!.response;
  const bill = (more: object) =>
    knock(JSON.stringify({ event: "call.billed", call: { ...sent, ...more } }), "platform-webhook-secret");
  expect(await h.remove(`/calls/${id}`)).toMatchObject({ status: 204 });
  await until(async () => (await provider.getCall(platformAccount, upstreamId!, inTime())) === null);

  expect((await bill({ billedDuration: "6000s" })).status).toBe(204);
  for (let times = 0; times < 3; times++)
    expect((await bill({ billingStatus: "BILLING_STATUS_REFUNDED" })).status).toBe(204);
  await until(async () => (await callRow(h, id)).billing_revision === 2);
  expect((await bill({ billedDuration: "9000s" })).status).toBe(204);
  await until(async () => (await receivedOf(upstreamId!)).every(({ status }) => status !== "received"));
  await until(async () => (await waitingJobs(h, "calls.refresh")).length === 0);
  expect(await callRow(h, id)).toMatchObject({ billing_revision: 2, cost_micros: "0", check_at: null, summary: null });
  const postings = await postingsOf(h, id);
  expect(postings.map(([kind]) => kind)).toEqual(["hold", "settlement", "settlement"]);
  expect(postings.reduce((sum, [, available]) => sum + available, 0)).toBe(0);
  await expectSoundBooks(h);
});

test("a bill stays when the provider no longer has the call", async () => {
  const id = await place();
  await expectTheSameEnd(id);
  const { cost_micros, provider_call_id } = await callRow(h, id);
  expect(await h.remove(`/calls/${id}`)).toMatchObject({ status: 204 });
  await until(async () => (await provider.getCall(platformAccount, provider_call_id!, inTime())) === null);
  // As if the provider had been unavailable when another billing event arrived.
  await h.owner`update calls set check_at = now(), checks = 3, created_at = created_at - interval '1 day' where id = ${id}`;
  await queueRefresh(id);
  await until(async () => (await callRow(h, id)).check_at === null);
  expect(await callRow(h, id)).toMatchObject({ cost_micros, billing_revision: 1 });
  await expectSoundBooks(h);
});

test("an unreadable body with a valid signature is stored once, as failed", async () => {
  const before = await counted();
  for (const [body, status] of [
    ["not json", "failed"],
    ['{"event":"call.exploded","call":{}}', "failed"],
    ["", "failed"],
    ["{}", "failed"],
  ] as const) {
    expect((await knock(body, "platform-webhook-secret")).status).toBe(204);
    expect((await knock(body, "platform-webhook-secret")).status).toBe(204);
    const key = `unreadable:${createHash("sha256").update(body).digest("hex")}`;
    const row = await until(async () =>
      (await received()).find((each) => each.key === key && each.status !== "received"),
    );
    expect(row, body).toMatchObject({ status, subject_id: null });
  }
  expect(await counted()).toBe(before + 4);
});

test("text of a provider that the database cannot store does not prevent the end of a call", async () => {
  const id = await place("+14155550015");
  const providerCallId = await upstream(id);
  await until(async () => (await callRow(h, id)).status === "active");
  const response = await fetch(`${h.simulator.url}/api/calls/${providerCallId}`, {
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
  });
  const now = new Date().toISOString();
  const over = { joined: now, ended: now, endReason: "hangup", summary: "a\u0000b", shortSummary: "half \ud83d" };
  const call = { ...((await response.json()) as object), ...over, "ke\u0000y": "\ud800" };
  expect((await knock(JSON.stringify({ event: "call.ended", call }), "platform-webhook-secret")).status).toBe(204);
  await until(async () => (await callRow(h, id)).status === "ended");
  const [row] = await h.owner`select summary, short_summary from calls where id = ${id}`;
  expect(row).toEqual({ summary: "a\ufffdb", short_summary: "half \ufffd" });
  await h.simulator.control(`calls/${providerCallId}/end`);
  await finished(h, id);
});

test("a body of more than five megabytes is refused, with or without Content-Length", async () => {
  const before = await counted();
  /** Sends only as much as must be read: the server may close the connection during the upload. */
  const refusalOf = (headers: Record<string, string>, beginning: Buffer) =>
    new Promise<string>((resolve, reject) => {
      const sending = request(door, { method: "POST", headers }, async (response) => {
        resolve(`${response.statusCode} ${await text(response)}`);
        sending.destroy();
      });
      sending.on("error", reject).write(beginning);
    });
  const refused = /^413 .*"code":"payload_too_large"/;
  expect(await refusalOf({ "content-length": "5000001" }, Buffer.from(" "))).toMatch(refused);
  expect(await refusalOf({ "transfer-encoding": "chunked" }, Buffer.alloc(5_000_001, " "))).toMatch(refused);
  expect(await counted()).toBe(before);
  const [{ id } = { id: "" }] = await silentCalls(1);
  await expectTheSameEnd(id);
});

test("while the database is unavailable the provider gets an error and sends again, and no event is lost", async () => {
  const id = await place("+14155550015");
  const callId = (await callRow(h, id)).provider_call_id!;
  await until(async () => (await callRow(h, id)).status === "active");
  const name = new URL(h.database.url).pathname.slice(1);
  const before = await counted();
  const { failed } = (await h.simulator.status()).webhooks;
  await h.owner.unsafe(`revoke connect on database ${name} from public, patchbay_system, patchbay_tenant`);
  await h.owner`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and usename in ('patchbay_system', 'patchbay_tenant')`;
  await h.simulator.control(`calls/${callId}/end`);
  try {
    await until(async () => (await resend(callId, "call.ended")).some((failure) => /^HTTP 5\d\d$/.test(failure)));
    await until(async () => (await h.simulator.status()).webhooks.failed > failed + 2);
  } finally {
    await h.owner.unsafe(`grant connect on database ${name} to public`);
  }
  await until(async () => (await callRow(h, id)).cost_micros !== null, 25);
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", end_reason: "hangup", billing_revision: 1 });
  expect(await counted()).toBe(before + 2);
  await expectStory(h, id, { joined: true, last: "call.completed" });
  await expectSoundBooks(h);
});

test("the events of a killed worker are processed by another worker", {
  timeout: 150_000,
}, async () => {
  await workers.stop();
  const ids = await Promise.all(Array.from({ length: 12 }, () => place()));
  await until(async () => (await h.simulator.status()).activeCalls.platform === 0);
  const children: ChildProcess[] = [];
  try {
    for (const transaction of [1, 4]) {
      const options: ChildOptions = { env: h.env, role: "worker", transaction };
      const child = fork(new URL("../support/api-child.ts", import.meta.url), [JSON.stringify(options)]);
      children.push(child);
      const [, signal] = await once(child, "exit");
      expect(signal).toBe("SIGKILL");
      const left = (await received()).filter(({ status }) => status === "received");
      expect(left.length).toBeGreaterThan(0);
      // The dead workers miss their heartbeat deadline.
      await h.owner`update worker_heartbeats set beat_at = beat_at - interval '1 hour'`;
      await h.owner`update graphile_worker._private_jobs set locked_at = locked_at - interval '1 hour'
        where locked_at is not null`;
      await h.owner`select * from graphile_worker.patchbay_rescue(30)`;
      // Jobs that were lost twice return at spread times.
      for (const task of ["ingress.applyBatch", "ingress.apply", "calls.finalise", "calls.refresh"])
        await hurry(h, task);
    }
  } finally {
    for (const child of children) child.kill("SIGKILL");
    workers = await openWorkers(h.deps);
  }
  for (const id of ids) await expectTheSameEnd(id);
  await until(async () => (await received()).every(({ status }) => status !== "received"));
  await expectSoundBooks(h);
});
