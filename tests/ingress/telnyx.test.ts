import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import type { SeededClient } from "../../dev/seed.ts";
import {
  callControl,
  nowSeconds,
  type TelnyxAccount,
  type TelnyxMessage,
  telnyxAccount,
  telnyxHeaders,
  texmlStatus,
} from "../../dev/simulators/telnyx.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import { callRow, inTime, makeAgent, platformAccount, shuffled, storyOf, waitingJobs } from "../support/calls.ts";

const platform = telnyxAccount();
const other = telnyxAccount();
const adas = telnyxAccount();
const bobs = telnyxAccount();

const publicUrl = "https://patchbay.test";
const h = await startTestApp({
  workers: true,
  speed: 200,
  env: { PUBLIC_URL: publicUrl, TELNYX_PUBLIC_KEYS: `${platform.publicKey}, pacc_other:${other.publicKey}` },
});
const agentId = await makeAgent(h);
const provider = h.deps.providers.ultravox;
for (const [who, { publicKey }] of [[h.ada, adas] as const, [h.bob, bobs] as const]) {
  const secret = { apiKey: "KEY0123456789abcdef_0123456789", publicKey };
  const saved = await h.send("PUT", "/auth/providers/telnyx", { secret }, { key: who.key });
  expect(saved.status).toBe(200);
}

afterEach(() => h.simulator.faults({}));

const everything = ["call.started", "call.joined", "call.ended", "call.billed"];
const lostWebhooks = () => h.simulator.faults({ webhooks: { lose: everything } });

async function place(to = "+14155550002", more: object = {}): Promise<string> {
  const { status, body } = await h.post("/calls", { agentId, medium: { ...phone(to), carrier: "telnyx" }, ...more });
  expect(status).toBe(201);
  return body.data.id;
}

type Knock = {
  by?: TelnyxAccount;
  query?: Record<string, string> | string;
  /** Seconds from now to the time of the signature. */
  offset?: number;
  headers?: Record<string, string>;
};

async function knock(message: TelnyxMessage, { by = platform, query = {}, offset = 0, headers }: Knock = {}) {
  const response = await fetch(`${h.url}/api/v1/webhooks/telnyx?${new URLSearchParams(query)}`, {
    method: "POST",
    headers: { ...telnyxHeaders(by, message, nowSeconds() + offset), ...headers },
    body: message.body,
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

async function keep(message: TelnyxMessage, how: Knock = {}) {
  expect(await knock(message, how)).toEqual({ status: 204, body: null });
}

const received = () => h.owner`select * from ingress_events where provider = 'telnyx' order by id`;
const settled = () => until(async () => (await received()).every(({ status }) => status !== "received"));
const last = async () => {
  await settled();
  return (await received()).at(-1)!;
};
const legsOf = async (id: string, who: SeededClient = h.ada) =>
  (await h.get(`/calls/${id}/legs`, { key: who.key })).body.data;

/** Sends an event with the current status of the call. */
async function resend(id: string, event: string) {
  const { provider_call_id: callId } = await callRow(h, id);
  await h.simulator.control("webhooks/resend", { callId, event });
}
async function endUpstream(id: string) {
  const { provider_call_id } = await callRow(h, id);
  await h.simulator.control(`calls/${provider_call_id}/end`).catch(() => {}); // it may have ended already
  await until(async () => (await provider.getCall(platformAccount, provider_call_id!, inTime()))?.endedAt);
}

const hungUp = (more: object, told: object = {}) => ({
  type: "call.hangup",
  callControlId: `v3:${randomUUID()}`,
  more: { hangup_source: "callee", ...more },
  ...told,
});
const busy = { hangup_cause: "user_busy", sip_hangup_cause: "486" };

test("Telnyx gets a webhook address that names the call and its client", async () => {
  const id = await place();
  const { requests } = await h.simulator.requests();
  const asked = requests.findLast(({ body }: { body?: { metadata?: { callId?: string } } }) => {
    return body?.metadata?.callId === id;
  });
  expect(asked.body.medium).toEqual({
    telnyx: {
      outgoing: {
        to: "+14155550002",
        from: "+14155550199",
        additionalParams: {
          StatusCallback: `${publicUrl}/api/v1/webhooks/telnyx?call=${id}&client=${h.ada.clientId}`,
          StatusCallbackMethod: "POST",
          StatusCallbackEvent: "initiated answered completed",
        },
      },
    },
  });
});

test("the legs of a call from the first message to the bill, five times each, shuffled, in both formats", async () => {
  const id = await place();
  const sid = `v3:${randomUUID()}`;
  const at = (second: number) => new Date(Date.UTC(2026, 10, 24, 10, 0, second));
  const control = (type: string, second: number, more: object = {}) =>
    callControl({ type, callControlId: sid, callId: id, at: at(second), more });
  const numbers = { direction: "outgoing", from: "+14155550199", to: "+14155550100", start_time: at(1).toISOString() };
  const messages = [
    control("call.initiated", 1, numbers),
    control("call.answered", 5, numbers),
    control("call.hangup", 30, { hangup_cause: "normal_clearing", hangup_source: "callee", sip_hangup_cause: "200" }),
    control("call.cost", 40, { total_cost: "0.0050", status: "success", cost_parts: [{ currency: "USD" }] }),
    texmlStatus({ callSid: sid, status: "initiated", sequence: 0, at: at(1) }),
    texmlStatus({ callSid: sid, status: "in-progress", sequence: 1, at: at(5) }),
    texmlStatus({ callSid: sid, status: "completed", sequence: 2, at: at(30), more: { CallDuration: "25" } }),
  ];
  const before = (await received()).length;
  const five = [1, 2, 3, 4, 5].flatMap(() => messages);
  await Promise.all(shuffled(five, 3).map((message) => keep(message, { query: { call: id, client: h.ada.clientId } })));
  await settled();
  const rows = (await received()).slice(before);
  expect(rows).toHaveLength(messages.length);
  for (const row of rows) {
    expect(row).toMatchObject({ status: "applied", subject_id: id, client_id: h.ada.clientId, note: null });
    expect(row).toMatchObject({ provider_account_id: platformAccount, verified_by: `${platformAccount}#1` });
  }
  expect(rows.map(({ event_type }) => event_type).toSorted()).toEqual([
    "call.answered",
    "call.cost",
    "call.hangup",
    "call.initiated",
    "texml.completed",
    "texml.in-progress",
    "texml.initiated",
  ]);
  const legs = await legsOf(id);
  expect(legs).toEqual([
    {
      id: expect.stringMatching(/^leg_/),
      callId: id,
      carrier: "telnyx",
      carrierLegId: sid,
      carrierSessionId: `session-${sid}`,
      direction: "outgoing",
      from: "+14155550199",
      to: "+14155550100",
      status: "ended",
      cause: "normal",
      hangupCause: "normal_clearing",
      hangupSource: "callee",
      sipHangupCause: "200",
      startedAt: at(1).toISOString(),
      answeredAt: at(5).toISOString(),
      endedAt: at(30).toISOString(),
      durationSeconds: 25,
      carrierCost: null,
    },
  ]);
  // Charges of the installation's carrier are stored for operators.
  const [row] = await h.owner`select carrier_cost, carrier_currency from call_legs where call_id = ${id}`;
  expect(row).toEqual({ carrier_cost: "0.0050", carrier_currency: "USD" });
});

test("busy at the carrier and unjoined at the voice provider gives busy, not no_answer", async () => {
  await lostWebhooks();
  const id = await place("+14155550001");
  await keep(callControl(hungUp(busy, { callId: id })));
  await settled();
  expect((await callRow(h, id)).status, "a leg moves no call by itself").toBe("ringing");
  await endUpstream(id);
  await resend(id, "call.ended");
  await until(async () => (await callRow(h, id)).outcome_final);
  expect(await callRow(h, id)).toMatchObject({ status: "ended", outcome: "busy", end_reason: "unjoined" });
  expect((await storyOf(h, id)).at(-1)).toBe("call.failed");
});

test("a late end of a leg is waited for, if the leg had an earlier event", async () => {
  await lostWebhooks();
  const id = await place("+14155550001");
  const callControlId = `v3:${randomUUID()}`;
  await keep(callControl({ type: "call.initiated", callControlId, callId: id }));
  await settled();
  await endUpstream(id);
  await resend(id, "call.ended");
  await until(async () => (await callRow(h, id)).status === "ended");
  const [job, ...others] = await waitingJobs(h, "calls.finalise");
  await h.owner`update graphile_worker._private_jobs set run_at = now() + interval '1 hour' where id = ${job!.id}`;
  expect(others).toEqual([]);
  expect(await callRow(h, id)).toMatchObject({ outcome: "no_answer", outcome_final: false });
  await keep(callControl({ ...hungUp({ hangup_cause: "call_rejected" }), callControlId, callId: id }));
  await until(async () => (await callRow(h, id)).outcome_final);
  expect(await callRow(h, id)).toMatchObject({ outcome: "rejected" });
});

test("after a final outcome a late end changes only the leg", async () => {
  await lostWebhooks();
  const id = await place("+14155550001");
  await endUpstream(id);
  await resend(id, "call.ended");
  await until(async () => (await callRow(h, id)).outcome_final);
  const before = await callRow(h, id);
  const story = await storyOf(h, id);
  await keep(callControl(hungUp(busy, { callId: id })));
  expect(await last()).toMatchObject({ status: "applied", subject_id: id });
  expect(await callRow(h, id)).toEqual(before);
  expect(await storyOf(h, id)).toEqual(story);
  expect(await legsOf(id)).toMatchObject([{ status: "ended", cause: "busy", sipHangupCause: "486" }]);
});

test("a client's own key reports the client's calls, with the charges of its carrier", async () => {
  const id = await place();
  const query = { client: h.ada.clientId };
  const told = { callControlId: `v3:${randomUUID()}`, callId: id };
  const cost = { total_cost: "0.0123", cost_parts: [{ currency: "EUR" }] };
  await keep(callControl({ type: "call.cost", ...told, more: cost }), { by: adas, query });
  await keep(callControl({ ...hungUp(busy), ...told }), { by: adas, query });
  await settled();
  const [leg] = await legsOf(id);
  expect(leg).toMatchObject({ status: "ended", cause: "busy", carrierCost: { amount: "0.0123", currency: "EUR" } });
  const row = await last();
  expect(row.provider_account_id).toMatch(/^cred_/);
  expect(row).toMatchObject({ client_id: h.ada.clientId, subject_id: id, verified_by: `${row.provider_account_id}#1` });
});

test("a client's own key cannot update another client's call", async () => {
  await lostWebhooks();
  const id = await place();
  const before = await callRow(h, id);
  const query = { client: h.bob.clientId, call: id };
  await keep(callControl(hungUp(busy, { callId: id })), { by: bobs, query });
  expect(await last()).toMatchObject({ status: "ignored", client_id: h.bob.clientId, subject_id: null });
  await keep(texmlStatus({ callSid: "v3:forged", status: "busy", sequence: 1 }), { by: bobs, query });
  expect(await last()).toMatchObject({ status: "ignored", note: "No call of this account." });
  // With Ada's client id, Bob's key is not used.
  const refused = await knock(callControl(hungUp(busy, { callId: id })), {
    by: bobs,
    query: { client: h.ada.clientId, call: id },
  });
  expect(refused).toMatchObject({ status: 401, body: { error: { code: "unauthenticated" } } });
  expect(await legsOf(id)).toEqual([]);
  expect(await callRow(h, id)).toEqual(before);
  expect((await h.get(`/calls/${id}/legs`, { key: h.bob.key })).body.error.code).toBe("call_not_found");
});

test("the carrier of another voice provider account cannot update calls of this one", async () => {
  const id = await place();
  await keep(callControl(hungUp(busy, { callId: id })), { by: other });
  expect(await last()).toMatchObject({ status: "ignored", provider_account_id: "pacc_other", subject_id: null });
  expect(await legsOf(id)).toEqual([]);
});

test("a leg stays with the call and the account that it was first reported for", async () => {
  const [first, second] = [await place(), await place()];
  const told = { type: "call.initiated", callControlId: `v3:${randomUUID()}` };
  await keep(callControl({ ...told, callId: first }));
  await settled();
  await keep(callControl({ ...told, callId: second }));
  expect(await last()).toMatchObject({ status: "ignored", note: "This leg belongs to another call." });
  await keep(callControl({ ...told, callId: first }), { by: adas, query: { client: h.ada.clientId } });
  expect(await last()).toMatchObject({ status: "ignored", note: "Another account reported this leg first." });
  expect(await legsOf(first)).toHaveLength(1);
  expect(await legsOf(second)).toEqual([]);
});

test("a call is not found by its numbers, or by two ids", async () => {
  const id = await place("+14155550002");
  const numbers = { from: "+14155550199", to: "+14155550002" };
  await keep(callControl(hungUp({ ...busy, ...numbers })));
  expect(await last()).toMatchObject({ status: "ignored", note: "The event names no call of ours." });
  await keep(callControl(hungUp(busy, { callId: id })), { query: { call: newId("call") } });
  expect((await last()).note).toMatch(/different calls/);
  await keep(callControl(hungUp(busy, { callId: newId("call") })));
  expect(await last()).toMatchObject({ status: "ignored", note: "No call of this account." });
  expect(await legsOf(id)).toEqual([]);
});

test.each([
  ["with another key", { by: telnyxAccount() }],
  ["with a client's key, without a client", { by: adas }],
  ["six minutes ago", { offset: -360 }],
  ["six minutes ahead", { offset: 360 }],
  ["without a signature", { headers: { "telnyx-signature-ed25519": "" } }],
  ["with an invalid signature", { headers: { "telnyx-signature-ed25519": "AAAA" } }],
  ["with an invalid timestamp", { headers: { "telnyx-timestamp": "yesterday" } }],
  ["with the timestamp of another message", { headers: { "telnyx-timestamp": String(nowSeconds() - 1) } }],
  ["for an unknown client", { by: adas, query: { client: newId("client") } }],
  ["at an unknown address", { query: { call: "1; drop table calls" } }],
  ["at an address that names two calls", { query: `call=${newId("call")}&call=${newId("call")}` }],
] satisfies [string, Knock][])("signed %s: 401, and nothing is kept", async (_, how) => {
  const before = (await received()).length;
  const { status, body } = await knock(callControl(hungUp(busy)), how);
  expect({ status, code: body.error.code }).toEqual({ status: 401, code: "unauthenticated" });
  expect((await received()).length).toBe(before);
});

test("a changed byte makes the signature invalid, in both formats", async () => {
  const before = (await received()).length;
  for (const message of [callControl(hungUp(busy)), texmlStatus({ callSid: "v3:a", status: "busy", sequence: 1 })]) {
    const response = await fetch(`${h.url}/api/v1/webhooks/telnyx`, {
      method: "POST",
      headers: telnyxHeaders(platform, message),
      body: `${message.body} `,
    });
    expect(response.status).toBe(401);
  }
  expect((await received()).length).toBe(before);
});

test("a signed but unreadable message is stored once, as failed", async () => {
  const before = (await received()).length;
  for (const body of ["not a form", '{"data":{"event_type":"call.hangup"}}', '{"data":']) {
    for (let times = 0; times < 2; times++) await keep({ contentType: "application/json", body });
  }
  await settled();
  const rows = (await received()).slice(before);
  expect(rows).toHaveLength(3);
  for (const row of rows) expect(row).toMatchObject({ status: "failed", event_type: "" });
});

test("messages without a leg are stored and ignored", async () => {
  await keep(callControl({ type: "call.dtmf.received", callControlId: "v3:a", callId: newId("call") }));
  expect(await last()).toMatchObject({ status: "ignored", note: "No handler for call.dtmf.received." });
});

test("erasing a call removes the numbers from its legs, also from those reported later", async () => {
  await lostWebhooks();
  const id = await place("+14155550001");
  const numbers = { direction: "outgoing", from: "+14155550199", to: "+14155550001" };
  await keep(callControl({ type: "call.initiated", callControlId: "v3:before", callId: id, more: numbers }));
  await keep(callControl({ ...hungUp({ ...busy, ...numbers }), callControlId: "v3:before", callId: id }));
  await endUpstream(id);
  await resend(id, "call.ended");
  await until(async () => (await callRow(h, id)).outcome_final);
  expect((await h.remove(`/calls/${id}`)).status).toBe(204);
  await keep(callControl({ type: "call.initiated", callControlId: "v3:after", callId: id, more: numbers }));
  await settled();
  const legs = await legsOf(id);
  expect(legs).toHaveLength(2);
  for (const { from, to } of legs) expect([from, to]).toEqual(["+14*******99", "+14*******01"]);
});

test("the number of legs of a call is limited", async () => {
  const id = await place();
  for (let leg = 0; leg < 21; leg++) {
    await keep(callControl({ type: "call.initiated", callControlId: `v3:${leg}:${id}`, callId: id }));
    await settled();
  }
  expect(await last()).toMatchObject({ status: "ignored", note: "A call has 20 legs at most." });
  const page = await h.get(`/calls/${id}/legs?limit=15`);
  expect(page.body.data).toHaveLength(15);
  const rest = await h.get(`/calls/${id}/legs?limit=15&cursor=${page.body.meta.nextCursor}`);
  expect(rest.body.data).toHaveLength(5);
});
