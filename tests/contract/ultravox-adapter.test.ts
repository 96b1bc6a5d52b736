import { createServer } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import type { AgentTemplate, CallMedium, CallRequest } from "../../routers/ports/ultravox.ts";
import { closeConnections } from "../../server/adapters/http/connections.ts";
import { type UltravoxOptions, ultravox } from "../../server/adapters/ultravox/index.ts";
import { verifyUltravoxSignature } from "../../server/adapters/ultravox/webhook.ts";
import { ultravoxContract } from "./validator.ts";

const apiKey = "abcd1234.0123456789abcdef0123456789abcdef";
const secret = "a-webhook-secret";
const agentId = "agent_0198c5d0a1b2c3d4e5f6a7b8c9d0e1f2";
const nobodysId = "00000000-0000-4000-8000-00000000dead";
const hooks: { body: Buffer; timestamp: string | undefined; signature: string | undefined; at: Date }[] = [];

const template: AgentTemplate = {
  systemPrompt: "Be kind to {{name}}.",
  model: null,
  voice: null,
  languageHint: null,
  temperature: null,
  firstSpeaker: "user",
  greeting: "Hello!",
  recordingEnabled: true,
  maxDurationSeconds: 600,
  joinTimeoutSeconds: 30,
  inactivityMessages: [],
  timeExceededMessage: null,
  tools: [],
};

const Log = z.object({
  requests: z.array(
    z.object({
      method: z.string(),
      path: z.string(),
      query: z.record(z.string(), z.array(z.string())),
      body: z.unknown(),
      status: z.number(),
      response: z.unknown(),
    }),
  ),
});

const receiver = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const header = (name: string) => [request.headers[name]].flat()[0];
  hooks.push({
    body: Buffer.concat(chunks),
    timestamp: header("x-ultravox-webhook-timestamp"),
    signature: header("x-ultravox-webhook-signature"),
    at: new Date(),
  });
  response.writeHead(204).end();
});

let simulator: Awaited<ReturnType<typeof startUltravox>>;

beforeAll(async () => {
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const address = receiver.address();
  if (address === null || typeof address === "string") throw new Error("The receiver has no port");
  const webhooks = [{ url: `http://127.0.0.1:${address.port}/hook`, secrets: ["an-old-secret", secret] }];
  simulator = await startUltravox({ seed: 1, accounts: [{ id: "account-1", apiKey, webhooks }] });
});

afterAll(async () => {
  await simulator.close();
  await closeConnections();
  receiver.closeAllConnections();
  receiver.close();
});

const uv = (over: Partial<UltravoxOptions> = {}) =>
  ultravox({ baseUrl: simulator.url, apiKeyOf: async () => apiKey, sipTrunk: "trunk.example", ...over });
const soon = () => ({ signal: AbortSignal.timeout(20_000) });

function admin(method: string, path: string, body: object = {}) {
  const init = method === "GET" ? { method } : { method, body: JSON.stringify(body) };
  return fetch(`${simulator.url}/_sim${path}`, init);
}

function request(callId: string, providerAgentId: string, medium: CallMedium): CallRequest {
  return {
    callId,
    clientId: "client_1",
    providerAgentId,
    medium,
    variables: { name: "Ada" },
    joinTimeoutSeconds: 30,
    maxDurationSeconds: 300,
    recordingEnabled: true,
  };
}

test("the adapter's requests and the responses follow the provider's published schema", async () => {
  const since = new Date();
  const agent = await uv().createAgent("pacc_1", { id: agentId, template }, soon());
  expect(agent.name).toBe(agentId);
  expect(await uv().findAgents("pacc_1", agentId, soon())).toEqual([agent]);
  const changed: AgentTemplate = {
    ...template,
    firstSpeaker: "agent",
    temperature: 0.3,
    languageHint: "de",
    timeExceededMessage: "Time is up.",
    inactivityMessages: (["nothing", "hang_up_soft", "hang_up"] as const).map((each) => ({
      ...{ afterSeconds: 10, message: "Hello?" },
      // biome-ignore lint/suspicious/noThenProperty: the provider's field name; a message is never awaited
      then: each,
    })),
    variables: [{ name: "name", required: true }],
    tools: [
      {
        kind: "tool",
        providerToolId: nobodysId,
        authTokens: { auth: "a-tool-secret" },
        parameterOverrides: { size: 3 },
      },
      { kind: "builtin", name: "queryCorpus", nameOverride: "queryCorpus_1", descriptionOverride: "Looks things up." },
    ],
  };
  expect((await uv().updateAgent("pacc_1", agent.providerAgentId, changed, soon())).name).toBe(agentId);
  const copy = await uv().getAgent("pacc_1", agent.providerAgentId, soon());
  expect(copy && uv().differences(copy, changed)).toEqual([]);
  expect(copy && uv().differences(copy, { ...changed, tools: [], temperature: 0.4 })).toEqual([
    "temperature",
    "selectedTools",
  ]);
  expect(await uv().getAgent("pacc_1", nobodysId, soon())).toBeNull();
  await uv().updateAgent("pacc_1", agent.providerAgentId, template, soon());

  const phone = { to: "+14155550014", from: "+14155550100" };
  const media: CallMedium[] = [
    { kind: "web" },
    { kind: "sip", ...phone, username: "user", password: "a-trunk-password" },
    { kind: "sip", ...phone },
    { kind: "twilio", ...phone },
    { kind: "telnyx", ...phone },
    { kind: "plivo", ...phone },
  ];
  for (const [n, medium] of media.entries()) {
    const made = await uv().createCall("pacc_1", request(`call_${n}`, agent.providerAgentId, medium), soon());
    expect(made).toMatchObject({ callId: `call_${n}`, endedAt: null, billing: "pending", billedSeconds: null });
    if (medium.kind === "web") expect(made.joinUrl).toMatch(/^wss?:/);
    const found = await uv().findCalls("pacc_1", `call_${n}`, since, soon());
    expect(found.map(({ providerCallId }) => providerCallId)).toEqual([made.providerCallId]);
  }

  const [call] = await uv().findCalls("pacc_1", "call_1", since, soon());
  const id = call?.providerCallId ?? "";
  expect(await uv().hangUp("pacc_1", id, soon())).toBe("not_joined");
  await admin("POST", `/calls/${id}/join`);
  expect((await uv().getCall("pacc_1", id, soon()))?.joinedAt).toBeInstanceOf(Date);
  expect(await uv().hangUp("pacc_1", id, soon())).toBe("done");
  expect(await uv().hangUp("pacc_1", id, soon())).toBe("not_joined");
  await admin("POST", `/calls/${id}/bill`);
  expect(await uv().getCall("pacc_1", id, soon())).toMatchObject({ endReason: "agent_hangup", sipReason: "normal" });
  await uv().listMessages("pacc_1", id, soon());

  const own = { voice: "Mark", opening: { firstSpeaker: "user", greeting: "Hi!" } } as const;
  const plain = request("call_own", agent.providerAgentId, { kind: "web" });
  const overridden = await uv().createCall("pacc_1", { ...plain, overrides: own }, soon());
  const hangUp = { kind: "builtin", name: "hangUp", descriptionOverride: "Ends it.", parameterOverrides: {} } as const;
  const auth = { kind: "tool", providerToolId: nobodysId, authTokens: { key: "a-tool-secret" } } as const;
  const pinned: AgentTemplate = { ...template, systemPrompt: "Be kind to Ada.", tools: [hangUp, auth] };
  const older = await uv().createCall("pacc_1", { ...plain, callId: "call_older", pinned, overrides: own }, soon());
  expect(older).toMatchObject({ callId: "call_older", providerAgentId: null });
  expect(await uv().deleteCall("pacc_1", older.providerCallId, soon())).toBe("ongoing");
  for (const { providerCallId } of [older, overridden]) await admin("POST", `/calls/${providerCallId}/end`);
  expect(await uv().deleteCall("pacc_1", older.providerCallId, soon())).toBe("done");
  expect(await uv().deleteCall("pacc_1", older.providerCallId, soon())).toBe("done");
  expect(await uv().getCall("pacc_1", older.providerCallId, soon())).toBeNull();

  expect(await uv().getCall("pacc_1", nobodysId, soon())).toBeNull();
  await uv().deleteAgent("pacc_1", agent.providerAgentId, soon());
  await uv().deleteAgent("pacc_1", agent.providerAgentId, soon());
  const stranger = uv({ apiKeyOf: async () => "wrong123.0123456789abcdef0123456789abcdef" });
  await expect(stranger.findAgents("pacc_1", agentId, soon())).rejects.toMatchObject({ kind: "refused", status: 403 });

  const contract = ultravoxContract();
  const log = Log.parse(await (await admin("GET", "/requests")).json()).requests.filter(({ path }) =>
    path.startsWith("/api/"),
  );
  const problems = log.flatMap(({ method, path, query, body, status, response }) => [
    ...contract.request(method, path, undefined, query, body),
    ...contract.response(method, path, status, response),
  ]);
  expect(problems).toEqual([]);
  expect(log.length).toBeGreaterThan(25);
  expect(
    new Set(log.map(({ method, path }) => `${method} ${path.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "{id}")}`)),
  ).toEqual(
    new Set([
      "POST /api/agents",
      "GET /api/agents",
      "GET /api/agents/{id}",
      "PATCH /api/agents/{id}",
      "DELETE /api/agents/{id}",
      "POST /api/agents/{id}/calls",
      "POST /api/calls",
      "GET /api/calls",
      "DELETE /api/calls/{id}",
      "GET /api/calls/{id}",
      "GET /api/calls/{id}/messages",
      "POST /api/calls/{id}/send_data_message",
    ]),
  );
});

test("a call whose response is lost is unknown, and is found once by our id", async () => {
  const since = new Date();
  const agent = await uv().createAgent("pacc_1", { id: `${agentId}_lost`, template }, soon());
  await admin("PUT", "/faults", { create: { resetAfterAccepting: 1 } });
  const lost = request("call_lost", agent.providerAgentId, { kind: "web" });
  const error: unknown = await uv()
    .createCall("pacc_1", lost, soon())
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ProviderError);
  expect(error).toMatchObject({ kind: "unknown" });
  expect(await uv().findCalls("pacc_1", "call_lost", since, soon())).toHaveLength(1);

  await admin("PUT", "/faults", { create: { errors: [{ status: 429, times: 1, retryAfterSeconds: 0 }] } });
  await uv().createCall("pacc_1", { ...lost, callId: "call_busy" }, soon());
  expect(await uv().findCalls("pacc_1", "call_busy", since, soon())).toHaveLength(1);
});

test("all pages of a list are read", async () => {
  const since = new Date();
  const agent = await uv().createAgent("pacc_1", { id: `${agentId}_many`, template }, soon());
  const many = request("call_many", agent.providerAgentId, { kind: "web" });
  for (let n = 0; n < 103; n += 1) await uv().createCall("pacc_1", many, soon());
  expect(await uv().findCalls("pacc_1", "call_many", since, soon())).toHaveLength(103);
});

test("its webhooks have valid signatures and the fields that we read", async () => {
  await expect.poll(() => hooks.length, { timeout: 20_000 }).toBeGreaterThan(4);
  for (const { body, timestamp, signature, at } of hooks) {
    const verdict = verifyUltravoxSignature({
      rawBody: body,
      timestampHeader: timestamp,
      signatureHeader: signature,
      secrets: [{ accountId: "pacc_1", secretId: "sec_1", secret }],
      now: at,
      toleranceSeconds: { past: 60, future: 5 },
    });
    expect(verdict).toEqual({ verdict: "valid", accountId: "pacc_1", secretId: "sec_1" });
    expect(uv().readEvent(body).call?.callId).toMatch(/^call_/);
  }
  expect(new Set(hooks.map(({ body }) => uv().readEvent(body).event))).toContain("call.started");
});
