import { createHmac } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { callControl, telnyxAccount, telnyxHeaders, texmlStatus } from "../../dev/simulators/telnyx.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import { callRow, expectSoundBooks, finished, inTime, makeAgent, platformAccount, storyOf } from "../support/calls.ts";

/*
 * A provider may send a value that is in none of our lists. It is stored as received and mapped to the least specific value.
 * The operator gets an alert, and no resource waits for it.
 */

const carrier = telnyxAccount();
const stripeSecret = "whsec_0123456789abcdef0123456789abcdef";
const log: string[] = [];
const h = await startTestApp({
  workers: true,
  speed: 100,
  log,
  env: {
    PUBLIC_URL: "https://patchbay.test",
    TELNYX_PUBLIC_KEYS: carrier.publicKey,
    STRIPE_WEBHOOK_SECRETS: stripeSecret,
  },
});
const provider = h.deps.providers.ultravox;
const agentId = await makeAgent(h, { recordingEnabled: false });
const everything = ["call.started", "call.joined", "call.ended", "call.billed"];
afterEach(() => h.simulator.faults({}));

type Upstream = Record<string, unknown> & { callId: string };

async function place(medium: object = phone("+14155550015")) {
  const { status, body } = await h.post("/calls", { agentId, medium });
  expect(status, JSON.stringify(body)).toBe(201);
  return body.data.id as string;
}

/** A call as the provider returns it, with unknown values. */
async function upstreamOf(id: string, ended: boolean): Promise<Upstream> {
  const { provider_call_id } = await callRow(h, id);
  if (ended) {
    await until(async () => (await provider.getCall(platformAccount, provider_call_id!, inTime()))?.joinedAt);
    return h.simulator.control(`calls/${provider_call_id}/end`);
  }
  return { callId: provider_call_id! };
}

async function tell(event: string, call: object) {
  const body = JSON.stringify({ event, call });
  const at = new Date().toISOString();
  const signature = createHmac("sha256", "platform-webhook-secret").update(body).update(at).digest("hex");
  const response = await fetch(`${h.url}/api/v1/webhooks/ultravox`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-ultravox-webhook-timestamp": at,
      "x-ultravox-webhook-signature": signature,
    },
    body,
  });
  expect(response.status).toBe(204);
}

const ingressOf = (subject: string) =>
  h.owner`select event_type, status, note from ingress_events where subject_id = ${subject} order by id`;
const alerts = () =>
  log
    .map(
      (line) => JSON.parse(line) as { msg: string; alert?: boolean; provider?: string; field?: string; word?: string },
    )
    .filter(({ msg }) => msg === "unknown provider value; stored as received and mapped to other");

async function expectAlert(name: string, field: string, word: string) {
  expect(alerts()).toContainEqual(expect.objectContaining({ alert: true, provider: name, field, word }));
  const health = await h.get("/health");
  expect(health.body.unknownProviderWords[`${name} ${field}: ${word}`]).toBeGreaterThan(0);
}

describe("an unknown end reason", () => {
  test("in a webhook: the call ends, is read and billed, and keeps the value", async () => {
    await h.simulator.faults({ webhooks: { lose: everything } });
    const id = await place();
    const ended = await upstreamOf(id, true);
    const bill = { billingStatus: "BILLING_STATUS_BILLED", billedDuration: "6s" };
    await tell("call.joined", { ...ended, ended: null, endReason: null });
    await tell("call.ended", { ...ended, endReason: "inactivity" });
    await tell("call.billed", { ...ended, endReason: "inactivity", ...bill });
    const row = await finished(h, id);
    expect(row).toMatchObject({ status: "ended", end_reason: "inactivity", outcome: "completed" });
    const shown = await h.get(`/calls/${id}`);
    expect(shown.body.data).toMatchObject({ endReason: "other", providerEndReason: "inactivity", heldMicros: null });
    expect((await ingressOf(id)).map(({ status }) => status)).toEqual(["applied", "applied", "applied"]);
    expect((await ingressOf(id)).at(-1)!.note).toContain("end reason");
    const [event] = await h.owner`select data from events where subject_id = ${id} and type = 'call.ended'`;
    expect(event!.data.endReason).toBe("other");
    await expectAlert("ultravox", "call.endReason", "inactivity");
    await expectSoundBooks(h);
  });

  test("in a response of the provider: refresh and hangup work, and the call ends", async () => {
    await h.simulator.faults({ webhooks: { lose: everything } });
    const id = await place();
    await until(async () => (await h.post(`/calls/${id}/refresh`)).body.data.status === "active");
    const { provider_call_id } = await callRow(h, id);
    await h.simulator.control(`calls/${provider_call_id}/end`, { endReason: "inactivity_2" });
    const refreshed = await h.post(`/calls/${id}/refresh`);
    expect(refreshed).toMatchObject({ status: 200, body: { data: { status: "ended", endReason: "other" } } });
    const over = await h.post(`/calls/${id}/hangup`);
    expect(over).toMatchObject({ status: 409, body: { error: { code: "call_not_joined" } } });
  });
});

test.for([
  ["with an amount", "12s", 12],
  ["without one", null, 0],
] as const)(
  "an unknown billing status, %s: the call is billed, and no credits stay held",
  async ([, billedDuration, seconds]) => {
    await h.simulator.faults({ webhooks: { lose: everything } });
    const id = await place();
    const ended = await upstreamOf(id, true);
    await tell("call.ended", ended);
    await tell("call.billed", { ...ended, billingStatus: "BILLING_STATUS_ON_THE_HOUSE", billedDuration });
    expect(await finished(h, id)).toMatchObject({ billed_seconds: seconds });
    expect((await h.get(`/calls/${id}`)).body.data.heldMicros).toBeNull();
    await expectAlert("ultravox", "call.billingStatus", "BILLING_STATUS_ON_THE_HOUSE");
  },
);

test("an unknown event, medium, SIP reason and fields: the known parts are applied", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const id = await place(phone("+14155550014"));
  const { provider_call_id } = await callRow(h, id);
  const unanswered: Upstream = await h.simulator.control(`calls/${provider_call_id}/end`);
  const sipDetails = { terminationReason: "SIP_TERMINATION_ABDUCTED", billedDuration: null, carrierPigeon: true };
  await tell("call.put_on_hold", {
    ...unanswered,
    medium: { carrierPigeon: {} },
    newField: { deep: [1] },
    agent: { agentId: "x", mood: "good" },
    sipDetails,
  });
  await until(async () => (await callRow(h, id)).status === "ended");
  await until(async () => (await ingressOf(id)).length > 0); // recorded after the call has moved
  expect((await ingressOf(id))[0]).toMatchObject({ event_type: "call.put_on_hold", status: "applied" });
  await expectAlert("ultravox", "event", "call.put_on_hold");
  await expectAlert("ultravox", "call.medium", "carrierPigeon");
  await expectAlert("ultravox", "call.sipReason", "SIP_TERMINATION_ABDUCTED");
  expect(await storyOf(h, id)).toContain("call.ended");
});

test("an unknown role: its message is in the transcript", async () => {
  const { listMessages } = provider;
  const { ultravox } = await import("../../server/adapters/ultravox/index.ts");
  const { createServer } = await import("node:http");
  const results = [
    { role: "MESSAGE_ROLE_AGENT", text: "Hello." },
    { role: "MESSAGE_ROLE_SUPERVISOR", text: "This is the supervisor." },
    { role: "MESSAGE_ROLE_UNSPECIFIED", text: "nobody" },
  ];
  const server = createServer((_, response) => response.end(JSON.stringify({ results, next: null }))).listen(0);
  const { port } = server.address() as { port: number };
  const other = ultravox({ baseUrl: `http://127.0.0.1:${port}`, apiKeyOf: async () => "key" });
  provider.listMessages = other.listMessages;
  try {
    const id = await place(phone("+14155550100"));
    await finished(h, id);
    const { body } = await h.get(`/calls/${id}/transcript`);
    expect(body.data.messages.map(({ role, text }: Record<string, string>) => [role, text])).toEqual([
      ["agent", "Hello."],
      ["other", "This is the supervisor."],
    ]);
    await expectAlert("ultravox", "message.role", "MESSAGE_ROLE_SUPERVISOR");
  } finally {
    provider.listMessages = listMessages;
    server.close();
  }
});

test("an unknown status of a source counts as not ready", async () => {
  const { ultravox } = await import("../../server/adapters/ultravox/index.ts");
  const { createServer } = await import("node:http");
  const source = { sourceId: "s", name: "n", stats: { status: "SOURCE_STATUS_HALF_BAKED", numDocs: 2 } };
  const corpus = { corpusId: "c", name: "n", stats: { status: "CORPUS_STATUS_HALF_BAKED", numDocs: 2 } };
  const server = createServer((request, response) =>
    response.end(JSON.stringify(request.url?.includes("/sources/") ? source : corpus)),
  ).listen(0);
  const { port } = server.address() as { port: number };
  const other = ultravox({ baseUrl: `http://127.0.0.1:${port}`, apiKeyOf: async () => "key" });
  try {
    expect(await other.getSource("pacc_x", "c", "s", inTime())).toMatchObject({ status: "other", documents: 2 });
    expect(await other.getCorpus("pacc_x", "c", inTime())).toMatchObject({ status: "other" });
    await expectAlert("ultravox", "source.status", "SOURCE_STATUS_HALF_BAKED");
    await expectAlert("ultravox", "corpus.status", "CORPUS_STATUS_HALF_BAKED");
  } finally {
    server.close();
  }
});

describe("Telnyx", () => {
  async function knock(message: { contentType: string; body: string }, call: string) {
    const response = await fetch(`${h.url}/api/v1/webhooks/telnyx?call=${call}`, {
      method: "POST",
      headers: telnyxHeaders(carrier, message),
      body: message.body,
    });
    expect(response.status).toBe(204);
  }
  const legsOf = async (id: string) => (await h.get(`/calls/${id}/legs`)).body.data;

  test("an unknown status, direction and cause: the leg is stored, and its end is recorded", async () => {
    const id = await place({ ...phone("+14155550014"), carrier: "telnyx" });
    await knock(texmlStatus({ callSid: "leg-a", status: "levitating", sequence: 0 }), id);
    const more = { direction: "sideways", from: "+14155550199", to: "+14155550014" };
    await knock(callControl({ type: "call.initiated", callControlId: "leg-b", callId: id, more }), id);
    const end = { ...more, hangup_cause: "cosmic_ray", hangup_source: "moon", sip_hangup_cause: "799" };
    await knock(callControl({ type: "call.hangup", callControlId: "leg-b", callId: id, more: end }), id);
    await until(async () => (await legsOf(id)).some((leg: { status: string }) => leg.status === "ended"));
    const legs = await legsOf(id);
    expect(legs.find((leg: { carrierLegId: string }) => leg.carrierLegId === "leg-b")).toMatchObject({
      ...{ status: "ended", cause: "failed", hangupCause: "cosmic_ray", hangupSource: "moon", sipHangupCause: "799" },
      direction: null,
    });
    expect(legs.find((leg: { carrierLegId: string }) => leg.carrierLegId === "leg-a")).toMatchObject({
      status: "initiated",
    });
    await expectAlert("telnyx", "CallStatus", "levitating");
    await expectAlert("telnyx", "direction", "sideways");
    await expectAlert("telnyx", "hangup_cause", "cosmic_ray");
  });

  test("an unknown event type is stored without further work", async () => {
    const id = await place({ ...phone("+14155550014"), carrier: "telnyx" });
    await knock(callControl({ type: "call.levitated", callControlId: "leg-c", callId: id }), id);
    const row = await until(async () => {
      const [found] = await h.owner`select status, note from ingress_events where event_type = 'call.levitated'`;
      return found?.status === "received" ? null : found;
    });
    expect(row).toMatchObject({ status: "ignored", note: "No handler for call.levitated." });
  });
});

test("Stripe: an unknown event type, version and fields are stored", async () => {
  const body = JSON.stringify({ id: "evt_x1", type: "moon.phase_changed", api_version: "2099-01-01", mood: "good" });
  const at = Math.floor(Date.now() / 1000);
  const signature = createHmac("sha256", stripeSecret).update(`${at}.${body}`).digest("hex");
  const response = await fetch(`${h.url}/api/v1/webhooks/stripe`, {
    method: "POST",
    headers: { "content-type": "application/json", "stripe-signature": `t=${at},v1=${signature}` },
    body,
  });
  expect(response.status).toBe(204);
  const row = await until(async () => {
    const [found] = await h.owner`select status from ingress_events where key = 'evt_x1'`;
    return found?.status === "received" ? null : found;
  });
  expect(row!.status).toBe("ignored");
});

test("a free text in place of a list value is not logged", async () => {
  await h.simulator.faults({ webhooks: { lose: everything } });
  const id = await place();
  const ended = await upstreamOf(id, true);
  await tell("call.ended", { ...ended, endReason: "my number is +14155550177" });
  await until(async () => (await callRow(h, id)).status === "ended");
  expect(alerts().some(({ word }) => word === "(not a word)")).toBe(true);
  expect(log.join("")).not.toContain("4155550177");
});
