import { createHmac } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type CallView,
  type Ending,
  type EndReason,
  type LoggedRequest,
  NUMBERS,
  type SipTermination,
  startUltravox,
  type Ultravox,
  type WebhookEvent,
} from "../../dev/simulators/ultravox/index.ts";
import { resources } from "./simulator/resources.ts";
import { ultravoxContract } from "./validator.ts";

type Event = { event: WebhookEvent; call: CallView };
type Received = { body: string; signature: string; timestamp: string; answered: number } & Event;

const EVENTS = ["call.started", "call.joined", "call.ended", "call.billed"];
const SECRETS = ["first-secret", "second-secret"];
const KEY = "test0001.0123456789abcdef0123456789abcdef";
const OTHER_KEY = "test0002.0123456789abcdef0123456789abcdef";
const TIGHT_KEY = "test0003.0123456789abcdef0123456789abcdef";
const SLOW_KEY = "test0004.0123456789abcdef0123456789abcdef";
const SPEED = 400;
const contract = ultravoxContract();

let receiver: Server;
let received: Received[] = [];
/** The receiver's next responses. After them it returns 204. */
let responses: number[] = [];
let simulator: Ultravox;

const accounts = (url: string) => [
  { id: "a0000000-0000-4000-8000-000000000001", apiKey: KEY, webhooks: [{ url, secrets: SECRETS }] },
  { id: "a0000000-0000-4000-8000-000000000002", apiKey: OTHER_KEY, webhooks: [] },
  { id: "a0000000-0000-4000-8000-000000000003", apiKey: TIGHT_KEY, webhooks: [], concurrency: 2 },
  { id: "a0000000-0000-4000-8000-000000000004", apiKey: SLOW_KEY, webhooks: [], createPerSecond: 3 },
];

/** A slow response of the receiver does not count as a failed attempt here. */
const start = (options: { seed: number; speed: number }) =>
  startUltravox({ ...options, webhookTimeoutMs: 30_000, accounts: accounts(receiverUrl()) });

const receiverUrl = () => `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/ultravox`;

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const answered = responses.shift() ?? 204;
    received.push({
      body,
      signature: String(request.headers["x-ultravox-webhook-signature"]),
      timestamp: String(request.headers["x-ultravox-webhook-timestamp"]),
      answered,
      ...(JSON.parse(body) as Event),
    });
    response.writeHead(answered).end();
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  simulator = await start({ seed: 7, speed: SPEED });
});

beforeEach(async () => {
  await ask("POST", "/_sim/reset");
  received = [];
  responses = [];
});

afterAll(async () => {
  await simulator.close();
  await new Promise((resolve) => receiver.close(resolve));
});

type Answer<Body> = { status: number; body: Body; headers: Headers };
type Page<Row> = { results: Row[]; next: string | null; previous: string | null; total: number };

async function ask<Body = CallView>(
  method: string,
  path: string,
  body?: unknown,
  { key = KEY, url = simulator.url, signal }: { key?: string; url?: string; signal?: AbortSignal } = {},
): Promise<Answer<Body>> {
  const response = await fetch(path.startsWith("http") ? path : url + path, {
    method,
    redirect: "manual",
    headers: { "X-API-Key": key, "Content-Type": "application/json" },
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(signal && { signal }),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, body: (isJson ? JSON.parse(text) : text) as Body, headers: response.headers };
}

const sip = (ending: string) => ({
  sip: { outgoing: { to: `sip:+1555010${ending}@trunk.example`, from: "sip:us@example" } },
});
const telnyx = (ending: string) => ({ telnyx: { outgoing: { to: `+1555010${ending}`, from: "+15550101234" } } });

async function dial(
  ending: string,
  more: object = {},
  options: { key?: string; url?: string } = {},
): Promise<CallView> {
  const { status, body } = await ask("POST", "/api/calls", { medium: sip(ending), ...more }, options);
  expect(status, JSON.stringify(body)).toBe(201);
  return body;
}

async function until<T>(look: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error("the expected condition was not reached");
    await sleep(5);
  }
}

const read = async (callId: string, options = {}) =>
  (await ask("GET", `/api/calls/${callId}`, undefined, options)).body;
const billed = (callId: string, options = {}) =>
  until(async () => {
    const call = await read(callId, options);
    return call.billingStatus !== "BILLING_STATUS_PENDING" && call;
  });
const eventsOf = (callId: string) => received.filter((each) => each.call.callId === callId).map((each) => each.event);
const faults = async (plan: object) => expect((await ask("PUT", "/_sim/faults", plan)).status).toBe(200);
const requests = async () => (await ask<{ requests: LoggedRequest[] }>("GET", "/_sim/requests")).body.requests;

type State = {
  accepted: { total: number; byCallId: Record<string, number> };
  requests: Record<string, number>;
  webhooks: {
    sent: number;
    acked: number;
    failed: number;
    lost: number;
    endpoints: { status: string; recentFailures: [] }[];
  };
};
const state = async () => (await ask<State>("GET", "/_sim/state")).body;
const between = (from: string | null, to: string | null) => (Date.parse(to ?? "") - Date.parse(from ?? "")) / 1000;

/** After every test: no message broke the provider's schema. */
afterEach(async () => {
  for (const { method, path, query, body, status, response } of await requests()) {
    if (status === 0 || status === 405) continue;
    expect(contract.response(method, path, status, response), `${method} ${path} ${status}`).toEqual([]);
    if (status < 400) expect(contract.request(method, path, undefined, query, body), `${method} ${path}`).toEqual([]);
  }
});

describe("the contract", () => {
  test("every documented path is called, and follows its schema in both directions", async () => {
    const template = { systemPrompt: "You are {{name}}.", medium: telnyx("0015"), recordingEnabled: true };
    const { body: agent } = await ask<{ agentId: string }>("POST", "/api/agents", {
      name: "ag_1",
      callTemplate: template,
    });
    const agentPath = `/api/agents/${agent.agentId}`;
    await ask("GET", "/api/agents?search=ag_1&sort=-created");
    await ask("GET", agentPath);
    await ask("PATCH", agentPath, { callTemplate: { temperature: 0.4, voice: "Mark" } });
    const templateContext = { name: "Ada" };
    const callbacks = { ended: { url: receiverUrl(), secrets: ["callback-secret"] } };
    const started = await ask("POST", `${agentPath}/calls`, {
      templateContext,
      callbacks,
      metadata: { callId: "call_1" },
    });
    const { callId } = started.body;
    await dial("0000", {
      medium: { sip: { outgoing: { to: "sip:0015@example", from: "sip:us@example", username: "u", password: "p" } } },
      firstSpeakerSettings: { user: { fallback: { delay: "3s", text: "Hello?" } } },
      externalVoice: { elevenLabs: { voiceId: "v", speed: 1.1 } },
    });
    await ask("GET", "/api/calls?metadata.callId=call_1&sort=created&pageSize=5");
    await ask("GET", `${agentPath}/calls`);
    await until(async () => (await read(callId)).joined);
    await ask("POST", `/api/calls/${callId}/send_data_message`, {
      type: "user_text_message",
      text: "Hi",
      urgency: "soon",
    });
    await ask("POST", `/api/calls/${callId}/send_data_message`, { type: "hang_up", message: "Goodbye" });
    await billed(callId);
    await ask("GET", `/api/calls/${callId}/messages?mode=in_call`);
    await until(async () => (await ask("GET", `/api/calls/${callId}/recording`)).status < 400);
    await ask("DELETE", `/api/calls/${callId}`);
    await ask("DELETE", agentPath);
    await ask("GET", "/api/accounts/me");
    const hook = { url: "https://example.com/hook", events: ["call.ended"] };
    const { body: webhook } = await ask<{ webhookId: string }>("POST", "/api/webhooks", hook);
    const webhookPath = `/api/webhooks/${webhook.webhookId}`;
    await ask("GET", "/api/webhooks");
    await ask("GET", webhookPath);
    await ask("PUT", webhookPath, { ...hook, events: EVENTS });
    await ask("PATCH", webhookPath, { secrets: ["old", "new"] });
    await ask("DELETE", webhookPath);
    for (const speak of resources) await speak(ask);

    const answered = (await requests()).filter(({ status }) => status < 400);
    const spoken = new Set(answered.map(({ method, template: path }) => `${method} ${path}`));
    expect([...spoken].sort()).toEqual(contract.operations().sort());
    expect(JSON.stringify(answered)).not.toContain("callback-secret");
  });

  test("the validator rejects what the provider's schema rejects", () => {
    const call = "/api/calls/0d0e6b51-6e5a-4a3c-9d8a-0a5c8f9b1a11";
    const ask = (method: string, path: string, body?: unknown, query = {}) =>
      contract.request(method, path, { "X-API-Key": KEY }, query, body);
    expect(ask("POST", "/api/calls", { systemPrompt: "Hi" })).toEqual([]);
    expect(ask("POST", "/api/calls", { systemPromt: "Hi" })[0]).toContain("systemPromt");
    expect(ask("POST", "/api/calls", { medium: { webRtc: {}, sms: {} } })[0]).toContain("sms");
    expect(ask("POST", "/api/calls", { initialOutputMedium: "VOICE" })).toHaveLength(1);
    expect(ask("POST", "/api/calls", { joinTimeout: "30" })).toHaveLength(1);
    expect(ask("POST", "/api/agents", { name: "n".repeat(65) })).toHaveLength(1);
    expect(ask("POST", "/api/agents", { agentId: "mine" })[0]).toContain("agentId");
    expect(ask("POST", "/api/webhooks", { url: "https://example.com" })[0]).toContain("events");
    expect(ask("POST", "/api/webhooks", { url: "https://example.com", events: ["call.completed"] })).toHaveLength(1);
    expect(ask("POST", `${call}/send_data_message`, { type: "hangup" })).not.toEqual([]);
    expect(ask("GET", "/api/calls", undefined, { "metadata.callId": "call_1", pageSize: "5" })).toEqual([]);
    expect(ask("GET", "/api/calls", undefined, { metadata: "callId:call_1" })).toHaveLength(1);
    expect(ask("GET", "/api/calls", undefined, { pageSize: "many" })).toHaveLength(1);
    expect(ask("GET", "/api/calls/7")).toHaveLength(1);
    expect(ask("PUT", call, {})).toHaveLength(1);
    expect(ask("GET", "/api/calls/")).not.toEqual([]);
    expect(ask("GET", "/api/voices/")).toHaveLength(1);
    expect(contract.request("GET", "/api/calls", {}, {}, undefined)).toHaveLength(1);
    expect(contract.response("GET", call, 200, { callId: "0d0e6b51" }).length).toBeGreaterThan(20);
    expect(contract.response("GET", call, 404, "Not found")).toHaveLength(1);
    expect(contract.response("GET", call, 404, { detail: "Not found" })).toEqual([]);
    expect(contract.response("POST", "/api/calls", 400, { medium: ["is wrong"] })).toEqual([]);
    expect(contract.response("POST", "/api/calls", 200, {})).toHaveLength(1);
    expect(contract.response("DELETE", call, 204, { deleted: true })).toHaveLength(1);
  });

  test("a returned call has exactly the fields of the schema", async () => {
    const { callId } = await dial("0010");
    const call = await billed(callId);
    const path = `/api/calls/${callId}`;
    expect(contract.response("GET", path, 200, call)).toEqual([]);
    expect(contract.response("GET", path, 200, { ...call, status: "ended" })[0]).toContain("status");
    expect(contract.response("GET", path, 200, { ...call, endReason: "completed" })).not.toEqual([]);
    expect(contract.response("GET", path, 200, { ...call, billingStatus: null })).not.toEqual([]);
    const { endReason: _, ...less } = call;
    expect(contract.response("GET", path, 200, less)[0]).toContain("endReason");
  });

  test("errors have the provider's form", async () => {
    const refused = async (body: unknown, field: string) => {
      const reply = await ask<Record<string, string[]>>("POST", "/api/calls", body);
      expect(reply).toMatchObject({ status: 400, body: { [field]: [expect.any(String)] } });
    };
    await refused({ metadata: { "ultravox.mine": "x" } }, "metadata");
    await refused({ medium: { webRtc: {}, plivo: {} } }, "medium");
    await refused({ medium: { sip: { outgoing: { to: "+15550100000", from: "us" } } } }, "medium");
    await refused({ joinTimeout: "soon" }, "joinTimeout");
    await refused({ voice: "Mark", externalVoice: { lmnt: {} } }, "non_field_errors");
    await refused({ prompt: "Hi" }, "prompt");
    expect((await ask("POST", "/api/calls", "{")).status).toBe(400);
    expect((await ask("PUT", "/api/calls", {})).status).toBe(405);
    expect((await state()).accepted.total).toBe(0);
  });

  test("a bad key is refused with 403", async () => {
    for (const path of ["/api/calls", "/api/agents", "/api/accounts/me", "/api/webhooks"]) {
      expect(await ask("GET", path, undefined, { key: "wrong" })).toMatchObject({
        status: 403,
        body: { detail: expect.any(String) },
      });
    }
  });

  test("resources of one account are not found by another", async () => {
    const { body: agent } = await ask<{ agentId: string }>("POST", "/api/agents", { name: "mine" });
    const { callId } = await dial("0014");
    const { body: hooks } = await ask<Page<{ webhookId: string }>>("GET", "/api/webhooks");
    const stranger = { key: OTHER_KEY };
    const webhook = `/api/webhooks/${hooks.results[0]?.webhookId}`;
    const operations: [string, string, unknown?][] = [
      ["GET", `/api/agents/${agent.agentId}`],
      ["PATCH", `/api/agents/${agent.agentId}`, { name: "theirs" }],
      ["DELETE", `/api/agents/${agent.agentId}`],
      ["POST", `/api/agents/${agent.agentId}/calls`, {}],
      ["GET", `/api/agents/${agent.agentId}/calls`],
      ["GET", `/api/calls/${callId}`],
      ["GET", `/api/calls/${callId}/messages`],
      ["GET", `/api/calls/${callId}/recording`],
      ["POST", `/api/calls/${callId}/send_data_message`, { type: "hang_up" }],
      ["DELETE", `/api/calls/${callId}`],
      ["GET", webhook],
      ["DELETE", webhook],
    ];
    for (const [method, path, body] of operations) {
      expect((await ask(method, path, body, stranger)).status, `${method} ${path}`).toBe(404);
    }
    expect((await ask<Page<CallView>>("GET", "/api/calls", undefined, stranger)).body.total).toBe(0);
    expect((await ask<Page<object>>("GET", "/api/agents", undefined, stranger)).body.total).toBe(0);
    expect((await ask("GET", `/api/agents/${agent.agentId}`)).status).toBe(200);
  });
});

describe("agents", () => {
  type AgentView = {
    agentId: string;
    name: string;
    publishedRevisionId: string;
    callTemplate: Record<string, unknown>;
    statistics: { calls: number };
  };

  test("an update merges the template field by field and creates a revision", async () => {
    const callTemplate = { systemPrompt: "Be kind.", temperature: 0.2, voice: "Mark" };
    const { body: agent } = await ask<AgentView>("POST", "/api/agents", { name: "a", callTemplate });
    const change = { callTemplate: { temperature: 0.9, externalVoice: { lmnt: { voiceId: "x" } } } };
    const { body: updated } = await ask<AgentView>("PATCH", `/api/agents/${agent.agentId}`, change);
    expect(updated.callTemplate).toMatchObject({ systemPrompt: "Be kind.", temperature: 0.9 });
    expect(updated.callTemplate).not.toHaveProperty("voice");
    expect(updated.publishedRevisionId).not.toBe(agent.publishedRevisionId);
    expect(updated.name).toBe("a");
  });

  test("a call needs the template's variables, and uses them", async () => {
    const callTemplate = { systemPrompt: "You call {{ customer.name }} for {{company}}.", medium: sip("0014") };
    const { body: agent } = await ask<AgentView>("POST", "/api/agents", { name: "a", callTemplate });
    const path = `/api/agents/${agent.agentId}/calls`;
    const refused = await ask<{ templateContext: string[] }>("POST", path, { templateContext: { company: "Acme" } });
    expect(refused).toMatchObject({ status: 400, body: { templateContext: [expect.stringContaining("customer")] } });
    const context = { company: "Acme", customer: { name: "Ada" } };
    const { body: call } = await ask("POST", path, { templateContext: context });
    expect(call).toMatchObject({ systemPrompt: "You call Ada for Acme.", agentId: agent.agentId, joinUrl: null });
    expect((await ask<AgentView>("GET", `/api/agents/${agent.agentId}`)).body.statistics.calls).toBe(1);
  });

  test("pages have no gap and no repeat, in both directions, while rows are added and removed", async () => {
    for (let index = 0; index < 12; index++) await ask("POST", "/api/agents", { name: `ag_${index}` });
    type AgentPage = Page<AgentView>;
    const names = ({ body }: Answer<AgentPage>) => body.results.map(({ name }) => name);
    const first = await ask<AgentPage>("GET", "/api/agents?pageSize=5&search=AG_");
    expect(names(first)).toEqual(["ag_11", "ag_10", "ag_9", "ag_8", "ag_7"]);
    expect(first.body).toMatchObject({ total: 12, previous: null });
    await ask("POST", "/api/agents", { name: "ag_late" });
    await ask("DELETE", `/api/agents/${first.body.results[4]?.agentId}`);
    const second = await ask<AgentPage>("GET", String(first.body.next));
    expect(names(second)).toEqual(["ag_6", "ag_5", "ag_4", "ag_3", "ag_2"]);
    const third = await ask<AgentPage>("GET", String(second.body.next));
    expect(names(third)).toEqual(["ag_1", "ag_0"]);
    expect(third.body.next).toBeNull();
    const back = await ask<AgentPage>("GET", String(third.body.previous));
    expect(names(back)).toEqual(names(second));
  });
});

describe("the table of numbers", () => {
  type Told = [EndReason, SipTermination, answered: boolean, status?: string];
  const normal = "SIP_TERMINATION_NORMAL";
  const free = "BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION";
  const ends: Partial<Record<Ending, Told>> = {
    "0000": ["agent_hangup", normal, true],
    "0001": ["unjoined", "SIP_TERMINATION_BUSY", false, free],
    "0002": ["unjoined", "SIP_TERMINATION_TIMEOUT", false, free],
    "0003": ["agent_hangup", normal, true],
    "0004": ["unjoined", "SIP_TERMINATION_INVALID_NUMBER", false, free],
    "0005": ["connection_error", normal, true],
    "0008": ["timeout", normal, true],
    "0009": ["hangup", normal, true, free],
    "0010": ["hangup", normal, true],
    "0011": ["system_error", normal, true, "BILLING_STATUS_FREE_SYSTEM_ERROR"],
    "0012": ["unjoined", "SIP_TERMINATION_REJECTED", false, free],
    "0013": ["unjoined", "SIP_TERMINATION_DESTINATION_UNAVAILABLE", false, free],
  };

  test.for(Object.entries(ends))("%s ends as documented", async ([ending, [reason, termination, answered, status]]) => {
    const call = await billed((await dial(ending, { maxDuration: "90s" })).callId);
    expect(call).toMatchObject({
      endReason: reason,
      billingStatus: status ?? "BILLING_STATUS_BILLED",
      sipDetails: { terminationReason: termination, billedDuration: expect.stringMatching(/^\d+s$/) },
    });
    expect(call.joined !== null).toBe(answered);
    const talked = answered ? between(call.joined, call.ended) : 0;
    const due = status ? 0 : Math.ceil(talked / 6) * 6;
    expect(call.billedDuration).toBe(`${due}s`);
    expect(call.sipDetails?.billedDuration).toBe(`${Math.ceil(between(call.created, call.ended) / 6) * 6}s`);
    await until(() => eventsOf(call.callId).includes("call.billed"));
    expect(eventsOf(call.callId)).toEqual(EVENTS.filter((event) => answered || event !== "call.joined"));
  });

  test("every number of the table is tested here or below", () => {
    const below = ["0006", "0007", "0014", "0015"];
    expect([...Object.keys(ends), ...below].sort()).toEqual(Object.keys(NUMBERS).sort());
  });

  test("a number that is not in the table answers and talks for about 40 s", async () => {
    const call = await billed((await dial("5309")).callId);
    expect(call.endReason).toBe("agent_hangup");
    expect(between(call.joined, call.ended)).toBeGreaterThanOrEqual(36);
    expect(between(call.joined, call.ended)).toBeLessThanOrEqual(44);
  });

  test("0006 returns 400 and creates no call", async () => {
    const reply = await ask("POST", "/api/calls", { medium: sip("0006") });
    expect(reply).toMatchObject({ status: 400, body: { medium: [expect.any(String)] } });
    expect((await state()).accepted.total).toBe(0);
  });

  test("0007 responds seconds after its call.started event", async () => {
    const before = Date.now();
    let answered = false;
    const reply = dial("0007").finally(() => {
      answered = true;
    });
    await until(() => received.length > 0);
    expect(answered).toBe(false);
    const { callId } = await reply;
    expect(Date.now() - before).toBeGreaterThanOrEqual(2900);
    expect(received[0]?.call.callId).toBe(callId);
  });

  test("0014 rings until the admin API moves it on, and cannot be hung up before", async () => {
    const { callId } = await dial("0014");
    await sleep(200); // 80 simulated seconds, well past the joinTimeout
    expect(await read(callId)).toMatchObject({ joined: null, ended: null });
    expect((await ask("POST", `/api/calls/${callId}/send_data_message`, { type: "hang_up" })).status).toBe(422);
    expect((await ask("DELETE", `/api/calls/${callId}`)).status).toBe(400);
    await ask("POST", `/_sim/calls/${callId}/join`);
    expect((await billed(callId)).endReason).toBe("agent_hangup");
    expect((await ask("POST", `/_sim/calls/${callId}/join`)).status).toBe(409);
  });

  test("0015 talks until it is hung up", async () => {
    const { callId } = await dial("0015", { maxDuration: "30s" });
    await until(async () => (await read(callId)).joined);
    await sleep(150); // 60 simulated seconds, past the maxDuration
    expect((await read(callId)).ended).toBeNull();
    const hangUp = { type: "hang_up", message: "Goodbye." };
    expect((await ask("POST", `/api/calls/${callId}/send_data_message`, hangUp)).status).toBe(204);
    expect((await read(callId)).endReason).toBe("agent_hangup");
    expect((await ask("POST", `/api/calls/${callId}/send_data_message`, hangUp)).status).toBe(422);
    const { body } = await ask<Page<{ text: string }>>("GET", `/api/calls/${callId}/messages?pageSize=100`);
    expect(body.results.at(-1)?.text).toBe("Goodbye.");
  });

  test("a call that the admin API ends while it rings was never joined", async () => {
    const { callId } = await dial("0014");
    await ask("POST", `/_sim/calls/${callId}/end`, { endReason: "connection_error" });
    await ask("POST", `/_sim/calls/${callId}/bill`);
    expect(await read(callId)).toMatchObject({
      endReason: "unjoined",
      billedDuration: "0s",
      sipDetails: { terminationReason: "SIP_TERMINATION_TIMEOUT" },
    });
  });

  test("without SIP there is no end reason: a busy number ends at the joinTimeout", async () => {
    const call = await billed((await dial("0001", { medium: telnyx("0001"), joinTimeout: "20s" })).callId);
    expect(call).toMatchObject({ endReason: "unjoined", sipDetails: null });
    expect(between(call.created, call.ended)).toBe(20);
  });

  test("a client joins a call that was not dialled", async () => {
    const { callId, joinUrl } = await dial("", { medium: { webRtc: {} } });
    expect(joinUrl).toContain(callId);
    expect((await billed(callId)).endReason).toBe("hangup");
  });

  test("voicemail appears as a leaveVoicemail tool call in the messages", async () => {
    const { callId } = await dial("0003");
    await billed(callId);
    const { body } = await ask<Page<{ role: string; toolName?: string }>>("GET", `/api/calls/${callId}/messages`);
    expect(body.results.map(({ role }) => role.slice("MESSAGE_ROLE_".length))).toEqual([
      ...["USER", "TOOL_CALL", "TOOL_RESULT", "AGENT"],
    ]);
    expect(body.results[1]?.toolName).toBe("leaveVoicemail");
  });
});

describe("recordings", () => {
  const recording = (callId: string) => ask<string>("GET", `/api/calls/${callId}/recording`);

  test("a call that was not recorded or not answered has none", async () => {
    const quiet = await dial("0009");
    const busy = await dial("0001", { recordingEnabled: true });
    await Promise.all([billed(quiet.callId), billed(busy.callId)]);
    expect((await recording(quiet.callId)).status).toBe(404);
    expect((await recording(busy.callId)).status).toBe(404);
  });

  test("it returns 425 until a while after the end, then audio", async () => {
    await faults({ recordings: "inline" });
    const { callId } = await dial("0015", { recordingEnabled: true });
    await until(async () => (await read(callId)).joined);
    expect((await recording(callId)).status).toBe(425);
    await ask("POST", `/_sim/calls/${callId}/end`);
    const sound = await until(async () => {
      const reply = await recording(callId);
      return reply.status !== 425 && reply;
    });
    expect(sound.headers.get("content-type")).toBe("audio/wav");
    expect(sound.body.slice(0, 4)).toBe("RIFF");
  });

  test("a redirect leads to a signed link that needs no API key", async () => {
    await faults({ recordings: "redirect" });
    const { callId } = await dial("0009", { recordingEnabled: true });
    const found = await until(async () => {
      const reply = await recording(callId);
      return reply.status === 302 && reply;
    });
    const link = String(found.headers.get("location"));
    expect((await ask("GET", link)).status).toBe(400);
    expect((await fetch(link)).headers.get("content-type")).toBe("audio/wav");
    expect((await fetch(link.replace(/signature=./, "signature=x"))).status).toBe(403);
  });
});

describe("webhooks", () => {
  test("have one signature per secret, over the body and then the time", async () => {
    const before = Date.now();
    const { callId } = await dial("0009");
    await until(() => eventsOf(callId).length === 4);
    const after = Date.now();
    for (const { body, timestamp, signature, event, call } of received) {
      const expected = SECRETS.map((secret) =>
        createHmac("sha256", secret)
          .update(body + timestamp)
          .digest("hex"),
      );
      expect(signature.split(",")).toEqual(expected);
      expect(Date.parse(timestamp)).toBeGreaterThanOrEqual(before);
      expect(Date.parse(timestamp)).toBeLessThanOrEqual(after);
      expect(Object.keys(JSON.parse(body))).toEqual(["event", "call"]);
      expect(contract.response("GET", `/api/calls/${callId}`, 200, call), event).toEqual([]);
    }
  });

  test("show the call as it was at the event", async () => {
    const { callId } = await dial("0010");
    await until(() => eventsOf(callId).length === 4);
    const [started, joined, ended, bill] = received.map(({ call }) => call);
    expect(started).toMatchObject({ joined: null, ended: null });
    expect(joined).toMatchObject({ joined: expect.any(String), ended: null, endReason: null });
    expect(ended).toMatchObject({ endReason: "hangup", billedDuration: null, summary: expect.any(String) });
    expect(bill).toEqual(await read(callId));
    const first = received.map(({ body }) => body);
    for (const event of EVENTS) await ask("POST", "/_sim/webhooks/resend", { callId, event });
    expect(received.slice(4).map(({ body }) => body)).toEqual(first);
  });

  test("are retried until they are acknowledged, with the same body and a valid signature", async () => {
    responses = [500, 302, 404];
    const { callId } = await dial("0014");
    await until(() => received.some(({ answered }) => answered === 204));
    expect(received.map(({ answered }) => answered)).toEqual([500, 302, 404, 204]);
    expect(new Set(received.map(({ body }) => body)).size).toBe(1);
    expect(eventsOf(callId)).toEqual(Array(4).fill("call.started"));
    const last = received.at(-1)!;
    expect(last.signature).toContain(
      createHmac("sha256", SECRETS[0]!)
        .update(last.body + last.timestamp)
        .digest("hex"),
    );
    // The receiver's response must reach the simulator before it is counted.
    await until(async () => (await state()).webhooks.acked === 1);
    expect((await state()).webhooks).toMatchObject({ sent: 4, failed: 3, endpoints: [{ status: "normal" }] });
    expect((await state()).webhooks.endpoints[0]?.recentFailures).toHaveLength(3);
  });

  test("fail after ten retries, and the endpoint is unhealthy until a delivery succeeds", async () => {
    const hasty = await start({ seed: 1, speed: 1_000_000 });
    try {
      responses = Array(11).fill(503);
      await dial("0014", {}, { url: hasty.url });
      await until(() => received.length === 11);
      await sleep(100);
      expect(received).toHaveLength(11);
      const look = async () => (await ask<State>("GET", "/_sim/state", undefined, { url: hasty.url })).body.webhooks;
      expect(await look()).toMatchObject({ abandoned: 1, endpoints: [{ status: "unhealthy" }] });
      await dial("0014", {}, { url: hasty.url });
      await until(async () => (await look()).endpoints[0]?.status === "normal");
    } finally {
      await hasty.close();
    }
  });

  test("arrive as many times as requested, except those that are lost", async () => {
    await faults({ webhooks: { duplicate: 2, lose: ["call.billed"] } });
    const { callId } = await dial("0009");
    await billed(callId);
    await until(() => received.length === 9);
    await sleep(50);
    expect(eventsOf(callId)).toEqual(
      ["call.started", "call.joined", "call.ended"].flatMap((event) => [event, event, event]),
    );
    expect((await state()).webhooks.lost).toBe(1);
  });

  test("can be held until the end of the call and arrive in reverse order", async () => {
    await faults({ webhooks: { reorder: true } });
    const { callId } = await dial("0009");
    await until(() => eventsOf(callId).length === 4);
    expect(eventsOf(callId)).toEqual(EVENTS.toReversed());
  });

  test("that are held are sent when the faults end", async () => {
    await faults({ webhooks: { reorder: "shuffle" } });
    const { callId } = await dial("0014");
    const later = await dial("0009");
    await until(() => eventsOf(later.callId).length === 4);
    expect(eventsOf(callId)).toEqual([]);
    await faults({});
    await until(() => eventsOf(callId).length === 1);
  });

  test("from before a reset do not arrive after it", async () => {
    const slow = await start({ seed: 7, speed: 10 });
    const { url } = slow;
    try {
      responses = [500];
      await dial("0014", {}, { url });
      await until(() => received.length === 1);
      await ask("PUT", "/_sim/faults", { webhooks: { reorder: true } }, { url });
      await dial("0014", {}, { url });
      await ask("POST", "/_sim/reset", undefined, { url });
      await ask("PUT", "/_sim/faults", {}, { url });
      await sleep(3_500); // the retry was due 3 s after the first attempt
      expect(received).toHaveLength(1);
      const { body } = await ask<State>("GET", "/_sim/state", undefined, { url });
      expect(body).toMatchObject({ accepted: { total: 0 }, webhooks: { sent: 0 } });
    } finally {
      await slow.close();
    }
  });

  test("are delayed by the requested time", async () => {
    await faults({ webhooks: { delaySeconds: 80 } });
    const before = Date.now();
    const { callId } = await dial("0014");
    await until(() => eventsOf(callId).length === 1);
    expect(Date.now() - before).toBeGreaterThanOrEqual(190);
  });

  test("can be sent again through the admin API, with another time or secret", async () => {
    const { callId } = await dial("0014");
    await until(() => received.length === 1);
    const first = received[0]!;
    const resend = { callId, event: "call.started", timestampOffsetSeconds: -600, times: 2, secret: "wrong" };
    const { body } = await ask<{ attempts: object[] }>("POST", "/_sim/webhooks/resend", resend);
    expect(body.attempts).toEqual(Array(2).fill({ url: receiverUrl(), failure: null }));
    const again = received.at(-1)!;
    expect(received).toHaveLength(3);
    expect(again.body).toBe(first.body);
    expect(Date.now() - Date.parse(again.timestamp)).toBeGreaterThan(599_000);
    expect(again.signature).toBe(
      createHmac("sha256", "wrong")
        .update(again.body + again.timestamp)
        .digest("hex"),
    );
    expect((await ask("POST", "/_sim/webhooks/resend", { callId, event: "call.ended" })).status).toBe(409);
  });

  test("report an inbound call", async () => {
    const inbound = { from: "+15550107777", ending: "0010", metadata: { note: "x" } };
    const { status, body } = await ask("POST", "/_sim/inbound", inbound);
    expect(status).toBe(201);
    await until(() => eventsOf(body.callId).length === 4);
    expect(received[0]?.call).toMatchObject({ medium: { sip: { incoming: {} } }, metadata: { note: "x" } });
    expect((await read(body.callId)).endReason).toBe("hangup");
  });

  test("of one call also go to its callbacks; those of one agent go only to its webhook", async () => {
    const { body: agent } = await ask<{ agentId: string }>("POST", "/api/agents", { name: "a" });
    const hook = { url: `${receiverUrl()}/agent`, events: ["call.started"], agentId: agent.agentId, secrets: ["s"] };
    await ask("POST", "/api/webhooks", hook);
    const callbacks = { joined: { url: `${receiverUrl()}/callback`, secrets: ["c"] } };
    await dial("0014", { callbacks });
    await until(() => received.length === 1);
    const { body: call } = await ask("POST", `/api/agents/${agent.agentId}/calls`, { medium: sip("0015"), callbacks });
    await until(() => eventsOf(call.callId).length === 4);
    expect(eventsOf(call.callId).sort()).toEqual(["call.joined", "call.joined", "call.started", "call.started"]);
    expect(received).toHaveLength(5);
  });
});

describe("faults of creates", () => {
  const create = (callId: string, signal?: AbortSignal) =>
    ask("POST", "/api/calls", { medium: sip("0014"), metadata: { callId } }, signal ? { signal } : {});

  test("a missing response leaves exactly one accepted call, with its events", async () => {
    await faults({ create: { timeoutAfterAccepting: 1 } });
    const patience = new AbortController();
    const unanswered = expect(create("call_1", patience.signal)).rejects.toThrow();
    await until(async () => (await state()).accepted.total === 1);
    patience.abort();
    await unanswered;
    const { accepted } = await state();
    expect(accepted).toMatchObject({ total: 1, byCallId: { call_1: 1 } });
    await until(() => received[0]?.call.metadata.callId === "call_1");
    const { body } = await ask<Page<CallView>>("GET", "/api/calls?metadata.callId=call_1");
    expect(body.results.map(({ callId }) => callId)).toEqual([received[0]?.call.callId]);
    expect((await create("call_2")).status).toBe(201);
  });

  test("a request that hangs before it is accepted leaves none, and is closed after its time", async () => {
    await faults({ create: { hangBeforeAccepting: 1, holdMs: 60 } });
    await expect(create("call_1")).rejects.toThrow();
    expect((await state()).accepted.total).toBe(0);
  });

  test("a connection reset after acceptance leaves one", async () => {
    await faults({ create: { resetAfterAccepting: 1 } });
    await expect(create("call_1")).rejects.toThrow();
    expect((await state()).accepted.byCallId).toEqual({ call_1: 1 });
  });

  test("errors occur as many times as requested, before or after the work", async () => {
    const errors = [
      { status: 503, times: 2, retryAfterSeconds: 3 },
      { status: 502, times: 1, afterAccepting: true },
    ];
    await faults({ create: { errors } });
    const first = await create("call_1");
    expect(first.headers.get("retry-after")).toBe("3");
    const statuses = [first.status];
    for (let index = 0; index < 3; index++) statuses.push((await create("call_1")).status);
    expect(statuses).toEqual([503, 503, 502, 201]);
    expect((await state()).accepted.byCallId).toEqual({ call_1: 2 });
  });

  test("apply only where they are requested; reads and writes have separate faults", async () => {
    await faults({ applyTo: "agents", create: { errors: [{ status: 500 }] }, reads: { errors: [{ status: 429 }] } });
    expect((await create("call_1")).status).toBe(201);
    expect((await ask("GET", "/api/calls")).status).toBe(200);
    expect((await ask("POST", "/api/agents", { name: "a" })).status).toBe(500);
    expect((await ask("GET", "/api/agents")).status).toBe(429);
    expect((await ask("GET", "/api/agents")).status).toBe(200);
    await faults({ changes: { errors: [{ status: 503 }] } });
    const [call] = (await ask<Page<CallView>>("GET", "/api/calls")).body.results;
    const hangUp = () => ask("POST", `/api/calls/${call?.callId}/send_data_message`, { type: "hang_up" });
    expect([(await hangUp()).status, (await hangUp()).status]).toEqual([503, 422]);
  });

  test("a misspelt fault is refused", async () => {
    expect((await ask("PUT", "/_sim/faults", { webhook: { duplicate: 1 } })).status).toBe(400);
  });
});

describe("limits", () => {
  test("an account at its concurrency limit gets 429 with Retry-After until a call ends", async () => {
    const tight = { key: TIGHT_KEY };
    const { callId } = await dial("0014", {}, tight);
    await dial("0014", {}, tight);
    const refused = await ask("POST", "/api/calls", { medium: sip("0014") }, tight);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    const me = await ask<object>("GET", "/api/accounts/me", undefined, tight);
    expect(me.body).toMatchObject({ activeCalls: 2, allowedConcurrentCalls: 2 });
    await ask("POST", `/_sim/calls/${callId}/end`);
    await dial("0014", {}, tight);
  });

  test("an account that creates too fast gets 429 with Retry-After, and can continue a second later", async () => {
    const slow = { key: SLOW_KEY };
    const create = () => ask("POST", "/api/calls", { medium: sip("0014") }, slow);
    const all = await Promise.all([create(), create(), create(), create()]);
    expect(all.map(({ status }) => status).toSorted()).toEqual([201, 201, 201, 429]);
    await dial("0014"); // each account has its own rate
    const refused = all.find(({ status }) => status === 429);
    await sleep(Number(refused?.headers.get("retry-after")) * 1000);
    await dial("0014", {}, slow);
  });
});

describe("determinism", () => {
  async function story(seed: number): Promise<unknown[]> {
    const other = await start({ seed, speed: SPEED });
    try {
      const options = { url: other.url };
      const calls = [];
      for (const ending of ["0000", "0001", "0003", "0005"]) calls.push(await dial(ending, {}, options));
      return await Promise.all(
        calls.map(async ({ callId }) => {
          const { created, joined, ended, ...call } = await billed(callId, options);
          const path = `/api/calls/${callId}/messages?pageSize=100`;
          const messages = (await ask<Page<object>>("GET", path, undefined, options)).body.results;
          const times = [between(created, joined), between(created, ended)];
          return { callId, reason: call.endReason, bill: call.billedDuration, summary: call.summary, times, messages };
        }),
      );
    } finally {
      await other.close();
    }
  }

  test("the same seed gives the same conversation, another seed another", async () => {
    const [one, again, another] = await Promise.all([story(3), story(3), story(4)]);
    expect(one).toEqual(again);
    expect(one).not.toEqual(another);
  });
});
