import { createHmac } from "node:crypto";
import { afterAll, afterEach, expect, test } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { grantCredits } from "../../routers/billing/ledger.ts";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";
import {
  type CallRow,
  callRow,
  expectSoundBooks,
  finished,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
  shuffled,
  storyOf,
  sweepUntilBilled,
} from "../support/calls.ts";

const h = await startTestApp({ speed: 100 });
const workers = await openWorkers(h.deps);
afterAll(() => workers.stop());
const agentId = await makeAgent(h, { maxDurationSeconds: 120, joinTimeoutSeconds: 30 });
const provider = h.deps.providers.ultravox;
const everything = ["call.started", "call.joined", "call.ended", "call.billed"] as const;

afterEach(() => h.simulator.faults({}));

async function upstreamAgent(id: string): Promise<string> {
  const [row] = await h.owner`select provider_agent_id from agents where id = ${id}`;
  return row!.provider_agent_id;
}

/** Somebody rings the agent: answers the provider's id of the call. */
async function ring(more: object = {}, of = agentId): Promise<string> {
  const input = {
    accountId: "platform",
    agentId: await upstreamAgent(of),
    from: "+14155550142",
    ending: "0010",
    ...more,
  };
  return (await h.simulator.control("inbound", input)).callId;
}

const rowsOf = (providerCallId: string) => h.owner`select * from calls where provider_call_id = ${providerCallId}`;
const adopted = (providerCallId: string): Promise<string> =>
  until(async () => (await rowsOf(providerCallId))[0]?.id ?? null);
const receivedOf = (providerCallId: string) =>
  h.owner`select status, note, key from ingress_events where key like ${`%${providerCallId}%`}`;
const settledAll = (providerCallId: string, count: number) =>
  until(async () => {
    const rows = await receivedOf(providerCallId);
    return rows.length >= count && rows.every(({ status }) => status !== "received") ? rows : null;
  });
const resend = (callId: string, event: string, more: object = {}) =>
  h.simulator.control("webhooks/resend", { callId, event, ...more });

async function knock(body: string, secret: string) {
  const at = new Date().toISOString();
  const signature = createHmac("sha256", secret).update(body).update(at).digest("hex");
  const headers = { "x-ultravox-webhook-timestamp": at, "x-ultravox-webhook-signature": signature };
  return (await fetch(`${h.url}/api/v1/webhooks/ultravox`, { method: "POST", headers, body })).status;
}

async function expectWhole(id: string) {
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", outcome: "completed", billing_revision: 1, failure_reason: null });
  const shown = (await h.get(`/calls/${id}`)).body.data;
  expect(shown).toMatchObject({
    direction: "inbound",
    carrier: "sip",
    from: "+14155550142",
    to: null,
    agentId,
    agentVersion: 1,
    durationSeconds: expect.any(Number),
    heldMicros: null,
  });
  const story = (await storyOf(h, id)).filter((type) => type !== "call.recording.ready");
  expect(story.slice(0, 4)).toEqual(["call.created", "call.started", "call.joined", "call.ended"]);
  expect(story.slice(4).toSorted()).toEqual(["call.billed", "call.completed", "call.transcript.ready"]);
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  await expectSoundBooks(h);
}

test("a call that comes in is a call of the agent's client: held for, told of, billed and settled", async () => {
  const upstream = await ring();
  const id = await adopted(upstream);
  await expectWhole(id);
  expect((await h.get("/calls?direction=inbound")).body.data).toMatchObject([{ id }]);
  expect((await h.get("/calls?number=%2B14155550142")).body.data).toMatchObject([{ id }]);
  expect((await h.get("/calls?direction=inbound", { key: h.bob.key })).body.data).toEqual([]);
  expect((await h.get(`/calls/${id}/transcript`)).body.data.messages.length).toBeGreaterThan(2);
});

test("every event many times, in any order and all at once: one call, one hold, one story", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstreams = await Promise.all(Array.from({ length: 6 }, () => ring()));
  for (const callId of upstreams) {
    await until(async () => (await provider.getCall(platformAccount, callId, inTime()))?.billing === "final");
  }
  await Promise.all(
    upstreams.flatMap((callId, seed) =>
      shuffled([...everything, ...everything, ...everything], seed + 1).map((event) => resend(callId, event)),
    ),
  );
  for (const callId of upstreams) {
    await settledAll(callId, 4);
    expect(await rowsOf(callId)).toHaveLength(1);
    await expectWhole(await adopted(callId));
  }
});

test("only its bill is heard of: it is one call all the same", async () => {
  await h.simulator.faults({ webhooks: { lose: ["call.started", "call.joined", "call.ended"] } });
  await expectWhole(await adopted(await ring()));
});

test("a call for nobody's agent is ignored, and so is one that carries an id of ours which is not here", async () => {
  const nobodys = (await h.simulator.control("inbound", { accountId: "platform", ending: "0010" })).callId;
  const upstream = await ring({ metadata: { callId: "call_01m82knxfbfrssk0x3en012rbf" } });
  for (const callId of [nobodys, upstream]) {
    for (const { status } of await settledAll(callId, 4)) expect(status).toBe("ignored");
    expect(await rowsOf(callId)).toEqual([]);
  }
});

test("an account's calls are only ever for agents of that account", async () => {
  const upstream = await ring({ ending: "0015" });
  const id = await adopted(upstream);
  await until(async () => (await callRow(h, id)).status === "active");
  const before = await callRow(h, id);
  const seen = (await h.simulator.requests()) && (await provider.getCall(platformAccount, upstream, inTime()))!;
  const foreign = {
    callId: "00000000-0000-4000-8000-000000000001",
    created: new Date().toISOString(),
    joined: null,
    ended: null,
    endReason: null,
    billingStatus: "BILLING_STATUS_PENDING",
    billedDuration: null,
    medium: { sip: { incoming: {} } },
    agent: { agentId: seen.providerAgentId },
  };
  // Signed by another account: about an agent of this one, and about a call of this one.
  expect(await knock(JSON.stringify({ event: "call.started", call: foreign }), "other-webhook-secret")).toBe(204);
  const over = { ...foreign, callId: upstream, ended: new Date().toISOString(), endReason: "hangup" };
  expect(await knock(JSON.stringify({ event: "call.ended", call: over }), "other-webhook-secret")).toBe(204);
  const rows = await settledAll(foreign.callId, 1);
  expect(rows).toMatchObject([{ status: "ignored" }]);
  await until(async () => (await receivedOf(upstream)).filter(({ status }) => status === "ignored").length === 1);
  expect(await rowsOf(foreign.callId)).toEqual([]);
  expect(await callRow(h, id)).toEqual(before);
  await h.simulator.control(`calls/${upstream}/end`);
  await finished(h, id);
});

test("an event outside the time window is not believed: the provider is asked, and then it is the call", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstream = await ring();
  await resend(upstream, "call.started", { timestampOffsetSeconds: -600 });
  const id = await adopted(upstream);
  await sweepUntilBilled(h, id);
  await expectWhole(id);
});

test("the provider does not know of what an old event tells: nothing comes of it", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstream = await ring({ ending: "0015" });
  const { getCall } = provider;
  provider.getCall = async (account, id, deadline) => (id === upstream ? null : getCall(account, id, deadline));
  try {
    await resend(upstream, "call.started", { timestampOffsetSeconds: 600 });
    expect(await settledAll(upstream, 1)).toMatchObject([{ status: "ignored" }]);
    expect(await rowsOf(upstream)).toEqual([]);
  } finally {
    provider.getCall = getCall;
  }
});

test("the balance does not cover it: it is hung up as soon as it is answered, and what it cost is owed", async () => {
  const hers = await makeAgent(h, {}, h.bob.key);
  await h.deps.db.asClient({ clientId: h.bob.clientId }, (tx) => grantCredits(tx, "spent", -999_000_000, "Elsewhere"));
  const upstream = await ring({ ending: "0015" }, hers); // would talk for ever
  const id = await adopted(upstream);
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", end_reason: "agent_hangup", client_id: h.bob.clientId });
  expect(row.failure_reason).toMatch(/balance/);
  const cost = Number(row.cost_micros);
  expect(cost).toBeGreaterThan(0);
  expect(await postingsOf(h, id)).toEqual([["settlement", -cost]]);
  const { body } = await h.get("/billing/balance", { key: h.bob.key });
  expect(body.data).toEqual({ availableMicros: 1_000_000 - cost, heldMicros: 0 });
  const story = await storyOf(h, id);
  expect(story.filter((type) => type === "call.ended")).toHaveLength(1);
  const [hold] = await h.owner`select status from holds where subject_id = ${id}`;
  expect(hold).toMatchObject({ status: "settled" });
  // Below zero nothing new starts.
  const next = await h.post("/calls", { agentId: hers, medium: { type: "web" } }, { key: h.bob.key });
  expect(next).toMatchObject({ status: 402, body: { error: { code: "credits_insufficient" } } });
  // And one that nobody answers costs its line, or nothing, and leaves no hold open.
  const unanswered = await adopted(await ring({ ending: "0001" }, hers));
  await finished(h, unanswered);
  const open = await h.owner`select * from holds where client_id = ${h.bob.clientId} and status = 'held'`;
  expect(open).toEqual([]);
});

test("a client that the operator has just made owes what its first call in did cost, though it never had credits", async () => {
  const made = await newClient("Newcomer");
  const hers = await makeAgent(h, {}, made.key);
  const id = await adopted(await ring({ ending: "0015" }, hers));
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", end_reason: "agent_hangup", client_id: made.clientId });
  const cost = Number(row.cost_micros);
  expect(cost).toBeGreaterThan(0);
  expect(await postingsOf(h, id)).toEqual([["settlement", -cost]]);
  const { body } = await h.get("/billing/balance", { key: made.key });
  expect(body.data).toEqual({ availableMicros: -cost, heldMicros: 0 });
  await expectSoundBooks(h);
});

test("whom the operator gave a price of zero is called, and calls, without ever having had credits", async () => {
  const made = await newClient("Guest");
  const free = { callMicrosPerMinute: 0, telephoneMicrosPerMinute: 0 };
  const set = await h.post(`/admin/clients/${made.clientId}/prices`, free, { key: await h.operator() });
  expect(set).toMatchObject({ status: 201 });
  const hers = await makeAgent(h, {}, made.key);
  const placed = await h.post("/calls", { agentId: hers, medium: { type: "web" } }, { key: made.key });
  expect(placed).toMatchObject({ status: 201, body: { data: { heldMicros: 0 } } });
  for (const id of [placed.body.data.id as string, await adopted(await ring({}, hers))]) {
    const row = await finished(h, id);
    expect(row).toMatchObject({ status: "ended", outcome: "completed", failure_reason: null, cost_micros: "0" });
    expect(row.billed_seconds).toBeGreaterThan(0);
    expect(await postingsOf(h, id), "nothing moved").toEqual([]);
    expect(await refunded(row)).toMatchObject({ billed_seconds: 0, cost_micros: "0", check_at: null });
    expect(await postingsOf(h, id), "nor by a refund").toEqual([]);
  }
  const holds = await h.owner`select status from holds where client_id = ${made.clientId}`;
  expect(holds.map(({ status }) => status)).toEqual(["settled", "settled"]);
  const { body } = await h.get("/billing/balance", { key: made.key });
  expect(body.data).toEqual({ availableMicros: 0, heldMicros: 0 });
  const told = await h.owner`select type from events where client_id = ${made.clientId} and type like 'credits.%'`;
  expect(told, "nor is any told of").toEqual([]);
  await expectSoundBooks(h);
});

/** The provider takes its bill back, and says so: answers what became of the call. */
async function refunded({ id, provider_call_id: upstream }: CallRow): Promise<CallRow> {
  const { getCall } = provider;
  const seen = (await getCall(platformAccount, upstream!, inTime()))!;
  const requests = (await h.simulator.requests()).requests as { path: string; response: object }[];
  const sent = requests.findLast(({ path }) => path === `/api/calls/${upstream}`)!.response;
  const call = { ...sent, billingStatus: "BILLING_STATUS_REFUNDED" };
  try {
    provider.getCall = async () => ({ ...seen, billing: "refunded" });
    expect(await knock(JSON.stringify({ event: "call.billed", call }), "platform-webhook-secret")).toBe(204);
    return await until(async () => {
      const row = await callRow(h, id);
      return row.billing_revision === 2 ? row : null;
    });
  } finally {
    provider.getCall = getCall;
  }
}

/** As the operator makes one: with an owner, and without credits. */
async function newClient(name: string) {
  const ownerEmail = `${name}@example.com`;
  const made = await h.post("/admin/clients", { name, ownerEmail }, { key: await h.operator() });
  const { id: clientId, invitationToken } = made.body.data as { id: string; invitationToken: string };
  const key = await h.identity.token({ sub: `auth0|${name}`, clients: [clientId] });
  expect(await h.post(`/invitations/${invitationToken}/accept`, undefined, { key })).toMatchObject({ status: 200 });
  return { clientId, key };
}

test("an agent that is deleted takes no calls: one that comes in meanwhile is hung up", async () => {
  const leaving = await makeAgent(h);
  await h.owner`update agents set status = 'deleted' where id = ${leaving}`;
  const upstream = await ring({ ending: "0015" }, leaving);
  const id = await adopted(upstream);
  expect(await finished(h, id)).toMatchObject({ status: "ended", failure_reason: expect.stringMatching(/not active/) });
  await expectSoundBooks(h);
});

test("a suspended client takes no calls: one that comes in meanwhile is hung up, and its line costs a moment", async () => {
  const { clientId, key } = await seedClient(h.deps, { name: "S", subject: "auth0|suspended-line", credits: 1000 });
  const his = await makeAgent(h, {}, key);
  await h.post(`/admin/clients/${clientId}/suspend`, { reason: "The invoice is open." }, { key: await h.operator() });
  const upstream = await ring({ ending: "0015" }, his); // would talk for ever
  const id = await adopted(upstream);
  const row = await finished(h, id);
  expect(row).toMatchObject({
    status: "ended",
    end_reason: "agent_hangup",
    client_id: clientId,
    failure_reason: expect.stringMatching(/suspended/),
  });
  expect(await h.owner`select from holds where client_id = ${clientId} and status = 'held'`).toEqual([]);
  await expectSoundBooks(h);
});
