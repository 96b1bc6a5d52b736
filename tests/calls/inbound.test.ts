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

/** Calls the agent from outside. Returns the provider's id of the call. */
async function callAgent(more: object = {}, of = agentId): Promise<string> {
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
const appliedAll = (providerCallId: string, count: number) =>
  until(async () => {
    const rows = await receivedOf(providerCallId);
    return rows.length >= count && rows.every(({ status }) => status !== "received") ? rows : null;
  });
const resend = (callId: string, event: string, more: object = {}) =>
  h.simulator.control("webhooks/resend", { callId, event, ...more });

async function postWebhook(body: string, secret: string) {
  const at = new Date().toISOString();
  const signature = createHmac("sha256", secret).update(body).update(at).digest("hex");
  const headers = { "x-ultravox-webhook-timestamp": at, "x-ultravox-webhook-signature": signature };
  return (await fetch(`${h.url}/api/v1/webhooks/ultravox`, { method: "POST", headers, body })).status;
}

async function expectComplete(id: string) {
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

test("an inbound call belongs to the agent's client: held, billed, settled and with its events", async () => {
  const upstream = await callAgent();
  const id = await adopted(upstream);
  await expectComplete(id);
  expect((await h.get("/calls?direction=inbound")).body.data).toMatchObject([{ id }]);
  expect((await h.get("/calls?number=%2B14155550142")).body.data).toMatchObject([{ id }]);
  expect((await h.get("/calls?direction=inbound", { key: h.bob.key })).body.data).toEqual([]);
  expect((await h.get(`/calls/${id}/transcript`)).body.data.messages.length).toBeGreaterThan(2);
});

test("duplicate, unordered and concurrent events create one call, one hold and one sequence of events", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstreams = await Promise.all(Array.from({ length: 6 }, () => callAgent()));
  for (const callId of upstreams) {
    await until(async () => (await provider.getCall(platformAccount, callId, inTime()))?.billing === "final");
  }
  await Promise.all(
    upstreams.flatMap((callId, seed) =>
      shuffled([...everything, ...everything, ...everything], seed + 1).map((event) => resend(callId, event)),
    ),
  );
  for (const callId of upstreams) {
    await appliedAll(callId, 4);
    expect(await rowsOf(callId)).toHaveLength(1);
    await expectComplete(await adopted(callId));
  }
});

test("a call is created from its billed event alone", async () => {
  await h.simulator.faults({ webhooks: { lose: ["call.started", "call.joined", "call.ended"] } });
  await expectComplete(await adopted(await callAgent()));
});

test("a call without one of our agents is ignored, and so is one with an unknown call id", async () => {
  const withoutAgent = (await h.simulator.control("inbound", { accountId: "platform", ending: "0010" })).callId;
  const upstream = await callAgent({ metadata: { callId: "call_01m82knxfbfrssk0x3en012rbf" } });
  for (const callId of [withoutAgent, upstream]) {
    for (const { status } of await appliedAll(callId, 4)) expect(status).toBe("ignored");
    expect(await rowsOf(callId)).toEqual([]);
  }
});

test("calls of an account reach only agents of that account", async () => {
  const upstream = await callAgent({ ending: "0015" });
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
  // Signed by another account, for an agent and a call of this one.
  expect(await postWebhook(JSON.stringify({ event: "call.started", call: foreign }), "other-webhook-secret")).toBe(204);
  const endedEvent = { ...foreign, callId: upstream, ended: new Date().toISOString(), endReason: "hangup" };
  expect(await postWebhook(JSON.stringify({ event: "call.ended", call: endedEvent }), "other-webhook-secret")).toBe(
    204,
  );
  const rows = await appliedAll(foreign.callId, 1);
  expect(rows).toMatchObject([{ status: "ignored" }]);
  await until(async () => (await receivedOf(upstream)).filter(({ status }) => status === "ignored").length === 1);
  expect(await rowsOf(foreign.callId)).toEqual([]);
  expect(await callRow(h, id)).toEqual(before);
  await h.simulator.control(`calls/${upstream}/end`);
  await finished(h, id);
});

test("an event outside the time window is verified by a lookup at the provider", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstream = await callAgent();
  await resend(upstream, "call.started", { timestampOffsetSeconds: -600 });
  const id = await adopted(upstream);
  await sweepUntilBilled(h, id);
  await expectComplete(id);
});

test("an old event of a call that the provider does not have is ignored", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const upstream = await callAgent({ ending: "0015" });
  const { getCall } = provider;
  provider.getCall = async (account, id, deadline) => (id === upstream ? null : getCall(account, id, deadline));
  try {
    await resend(upstream, "call.started", { timestampOffsetSeconds: 600 });
    expect(await appliedAll(upstream, 1)).toMatchObject([{ status: "ignored" }]);
    expect(await rowsOf(upstream)).toEqual([]);
  } finally {
    provider.getCall = getCall;
  }
});

test("an inbound call above the balance is hung up when answered, and its cost is charged", async () => {
  const agent = await makeAgent(h, {}, h.bob.key);
  await h.deps.db.asClient({ clientId: h.bob.clientId }, (tx) => grantCredits(tx, "spent", -999_000_000, "Elsewhere"));
  const upstream = await callAgent({ ending: "0015" }, agent); // talks without end
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
  // Below zero, new calls are refused.
  const next = await h.post("/calls", { agentId: agent, medium: { type: "web" } }, { key: h.bob.key });
  expect(next).toMatchObject({ status: 402, body: { error: { code: "credits_insufficient" } } });
  // An unanswered call costs its line at most, and leaves no hold open.
  const unanswered = await adopted(await callAgent({ ending: "0001" }, agent));
  await finished(h, unanswered);
  const open = await h.owner`select * from holds where client_id = ${h.bob.clientId} and status = 'held'`;
  expect(open).toEqual([]);
});

test("a new client without credits is charged for its first inbound call", async () => {
  const made = await newClient("Newcomer");
  const agent = await makeAgent(h, {}, made.key);
  const id = await adopted(await callAgent({ ending: "0015" }, agent));
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", end_reason: "agent_hangup", client_id: made.clientId });
  const cost = Number(row.cost_micros);
  expect(cost).toBeGreaterThan(0);
  expect(await postingsOf(h, id)).toEqual([["settlement", -cost]]);
  const { body } = await h.get("/billing/balance", { key: made.key });
  expect(body.data).toEqual({ availableMicros: -cost, heldMicros: 0 });
  await expectSoundBooks(h);
});

test("a client with a price of zero can call and be called without credits", async () => {
  const made = await newClient("Guest");
  const free = { callMicrosPerMinute: 0, telephoneMicrosPerMinute: 0 };
  const set = await h.post(`/admin/clients/${made.clientId}/prices`, free, { key: await h.operator() });
  expect(set).toMatchObject({ status: 201 });
  const agent = await makeAgent(h, {}, made.key);
  const placed = await h.post("/calls", { agentId: agent, medium: { type: "web" } }, { key: made.key });
  expect(placed).toMatchObject({ status: 201, body: { data: { heldMicros: 0 } } });
  for (const id of [placed.body.data.id as string, await adopted(await callAgent({}, agent))]) {
    const row = await finished(h, id);
    expect(row).toMatchObject({ status: "ended", outcome: "completed", failure_reason: null, cost_micros: "0" });
    expect(row.billed_seconds).toBeGreaterThan(0);
    expect(await postingsOf(h, id), "no postings").toEqual([]);
    expect(await refunded(row)).toMatchObject({ billed_seconds: 0, cost_micros: "0", check_at: null });
    expect(await postingsOf(h, id), "no postings for a refund").toEqual([]);
  }
  const holds = await h.owner`select status from holds where client_id = ${made.clientId}`;
  expect(holds.map(({ status }) => status)).toEqual(["settled", "settled"]);
  const { body } = await h.get("/billing/balance", { key: made.key });
  expect(body.data).toEqual({ availableMicros: 0, heldMicros: 0 });
  const creditEvents =
    await h.owner`select type from events where client_id = ${made.clientId} and type like 'credits.%'`;
  expect(creditEvents, "no credit events").toEqual([]);
  await expectSoundBooks(h);
});

/** The provider refunds its bill and sends the event. Returns the call afterwards. */
async function refunded({ id, provider_call_id: upstream }: CallRow): Promise<CallRow> {
  const { getCall } = provider;
  const seen = (await getCall(platformAccount, upstream!, inTime()))!;
  const requests = (await h.simulator.requests()).requests as { path: string; response: object }[];
  const sent = requests.findLast(({ path }) => path === `/api/calls/${upstream}`)!.response;
  const call = { ...sent, billingStatus: "BILLING_STATUS_REFUNDED" };
  try {
    provider.getCall = async () => ({ ...seen, billing: "refunded" });
    expect(await postWebhook(JSON.stringify({ event: "call.billed", call }), "platform-webhook-secret")).toBe(204);
    return await until(async () => {
      const row = await callRow(h, id);
      return row.billing_revision === 2 ? row : null;
    });
  } finally {
    provider.getCall = getCall;
  }
}

/** A client as an operator creates it: with an owner, without credits. */
async function newClient(name: string) {
  const ownerEmail = `${name}@example.com`;
  const made = await h.post("/admin/clients", { name, ownerEmail }, { key: await h.operator() });
  const { id: clientId, invitationToken } = made.body.data as { id: string; invitationToken: string };
  const key = await h.identity.token({ sub: `auth0|${name}`, clients: [clientId] });
  expect(await h.post(`/invitations/${invitationToken}/accept`, undefined, { key })).toMatchObject({ status: 200 });
  return { clientId, key };
}

test("an inbound call of a deleted agent is hung up", async () => {
  const leaving = await makeAgent(h);
  await h.owner`update agents set status = 'deleted' where id = ${leaving}`;
  const upstream = await callAgent({ ending: "0015" }, leaving);
  const id = await adopted(upstream);
  expect(await finished(h, id)).toMatchObject({ status: "ended", failure_reason: expect.stringMatching(/not active/) });
  await expectSoundBooks(h);
});

test("an inbound call of a suspended client is hung up, and costs only a moment of its line", async () => {
  const { clientId, key } = await seedClient(h.deps, { name: "S", subject: "auth0|suspended-line", credits: 1000 });
  const suspended = await makeAgent(h, {}, key);
  await h.post(`/admin/clients/${clientId}/suspend`, { reason: "The invoice is open." }, { key: await h.operator() });
  const upstream = await callAgent({ ending: "0015" }, suspended); // talks without end
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
