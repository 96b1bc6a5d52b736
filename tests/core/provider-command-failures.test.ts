import { afterEach, describe, expect, test } from "vitest";
import { agent, broughtKeys, phone, startTestApp, until } from "../support/app.ts";
import { letSafetyJobsRun, makeAgent } from "../support/calls.ts";
import { fileOf, hurrySteps, letAnswersBeOverdue, makeBase, putFile, sourceNames } from "../support/knowledge.ts";
import { cloneOf, inState, sendSample, upstreamOf } from "../support/voices.ts";

/*
 * Every command that calls the voice provider before it responds, and every way in which the provider may fail it. However
 * it fails: the provider has the thing at most once, a refusal that passes is not kept under the idempotency key, and a caller
 * who may come again is told when.
 */

const h = await startTestApp({ workers: true, speed: 100, env: { PUBLIC_URL: "http://127.0.0.1:9" } });
const everything = ["call.started", "call.joined", "call.ended", "call.billed"];
afterEach(() => h.simulator.faults({}));

type Body = Record<string, unknown>;
type Noun = "calls" | "agents" | "tools" | "corpora" | "telephony";
type Command = {
  name: string;
  noun: Noun;
  /** `create`: makes a thing there. `change`: sends the whole of one that is there. */
  kind: "create" | "change";
  /** The input. It contains `mark`, so that it is found in the provider's requests. */
  prepare: (mark: string) => Promise<{ method: "POST" | "PATCH"; path: string; body: Body }>;
  /** How many things the provider has of what was sent. */
  count: (mark: string, ids: string[]) => Promise<number>;
};

const platform = "pacc_platform";
const soon = () => ({ signal: AbortSignal.timeout(10_000) });
const { ultravox } = h.deps.providers;
const sum = async (ids: string[], count: (id: string) => Promise<unknown[]>) =>
  (await Promise.all(ids.map(count))).flat().length;
const longAgo = new Date(Date.now() - 3_600_000);
const tool = (name: string) => ({
  name,
  description: "Looks up an order.",
  definition: { type: "client", parameters: [] },
});
const byName = (mark: string) => mark.replaceAll("-", "_");
const agents = (ids: string[]) => sum(ids, (id) => ultravox.findAgents(platform, id, soon()));
const tools = (ids: string[]) => sum(ids, (id) => ultravox.findTools(platform, id, soon()));

const callsAgent = await makeAgent(h, { recordingEnabled: false });

const commands: Command[] = [
  {
    name: "POST /calls",
    noun: "calls",
    kind: "create",
    prepare: async (mark) => ({
      method: "POST",
      path: "/calls",
      body: { agentId: callsAgent, medium: phone("+14155550014"), metadata: { mark } },
    }),
    count: (_, ids) => sum(ids, (id) => ultravox.findCalls(platform, id, longAgo, soon())),
  },
  {
    name: "POST /agents",
    noun: "agents",
    kind: "create",
    prepare: async (mark) => ({ method: "POST", path: "/agents", body: { ...agent, name: mark } }),
    count: (_, ids) => agents(ids),
  },
  {
    name: "POST /agents/{id}/duplicate",
    noun: "agents",
    kind: "create",
    prepare: async (mark) => ({
      method: "POST",
      path: `/agents/${await makeAgent(h)}/duplicate`,
      body: { name: mark },
    }),
    count: (_, ids) => agents(ids),
  },
  {
    name: "PATCH /agents/{id}",
    noun: "agents",
    kind: "change",
    prepare: async (mark) => ({ method: "PATCH", path: `/agents/${await makeAgent(h)}`, body: { systemPrompt: mark } }),
    count: (_, ids) => agents(ids),
  },
  {
    name: "POST /tools",
    noun: "tools",
    kind: "create",
    prepare: async (mark) => ({ method: "POST", path: "/tools", body: tool(byName(mark)) }),
    count: (_, ids) => tools(ids),
  },
  {
    name: "PATCH /tools/{id}",
    noun: "tools",
    kind: "change",
    async prepare(mark) {
      const { body } = await h.post("/tools", tool(byName(`of-${mark}`)));
      return { method: "PATCH", path: `/tools/${body.data.id}`, body: { description: mark } };
    },
    count: (_, ids) => tools(ids),
  },
  {
    name: "POST /kb",
    noun: "corpora",
    kind: "create",
    prepare: async (mark) => ({ method: "POST", path: "/kb", body: { name: mark } }),
    count: (_, ids) => sum(ids, (id) => ultravox.findCorpora(platform, id, soon())),
  },
  {
    name: "POST /telephony/registrations",
    noun: "telephony",
    kind: "create",
    prepare: async (mark) => ({
      method: "POST",
      path: "/telephony/registrations",
      body: { username: mark, password: "a-password-of-sip", proxy: "sip.example.com" },
    }),
    async count(mark) {
      const all = await ultravox.listRegistrations(platform, [], soon());
      return all.filter(({ username }) => username === mark).length;
    },
  },
];

const rowsOf = {
  calls: "calls",
  agents: "agents",
  tools: "tools",
  corpora: "knowledge_bases",
  telephony: "sip_registrations",
};

/** What this client has of a kind: a command that was tried twice has written two rows. */
const idsOf = async (noun: Noun): Promise<string[]> => {
  const rows = await h.owner.unsafe<{ id: string }[]>(`select id from ${rowsOf[noun]} where client_id = $1`, [
    h.ada.clientId,
  ]);
  return rows.map(({ id }) => id);
};

/** `first`: the status of the first response; for a change where it differs. Each is retried until the provider works. */
type Failing = { name: string; fault: (kind: Command["kind"]) => Body; first: number[]; change?: number[] };

const errors = (kind: Command["kind"], error: object) => ({
  [kind === "create" ? "create" : "changes"]: { errors: [error] },
});

const failing: Failing[] = [
  { name: "429 every time", fault: (kind) => errors(kind, { status: 429, times: 50 }), first: [503] },
  {
    name: "429 with a Retry-After beyond the limit",
    fault: (kind) => errors(kind, { status: 429, times: 50, retryAfterSeconds: 600 }),
    first: [503],
  },
  { name: "503 before it did anything", fault: (kind) => errors(kind, { status: 503, times: 50 }), first: [503] },
  {
    name: "402: its account has no money",
    fault: (kind) => errors(kind, { status: 402, times: 50 }),
    first: [422],
  },
  {
    name: "503 though it did it",
    fault: (kind) => errors(kind, { status: 503, times: 1, afterAccepting: true }),
    first: [200, 201],
  },
  {
    name: "500 though it did it",
    fault: (kind) => errors(kind, { status: 500, times: 1, afterAccepting: true }),
    first: [202],
    change: [200],
  },
  {
    name: "a reset after it did it",
    fault: (kind) => ({ [kind === "create" ? "create" : "changes"]: { resetAfterAccepting: 1 } }),
    first: [202],
    change: [200],
  },
  {
    name: "a connection that breaks before it did anything",
    fault: () => ({ create: { hangBeforeAccepting: 1, holdMs: 50 } }),
    first: [202],
    change: [200],
  },
];

for (const { name, noun, kind, prepare, count } of commands) {
  describe(name, () => {
    test.for(failing)("$name", async ({ name: why, fault, first, change }) => {
      const mark = `m${Math.random().toString(36).slice(2, 10)}`;
      const { method, path, body } = await prepare(mark);
      const before = new Set(await idsOf(noun));
      const send = () => h.send(method, path, body, { idempotencyKey: mark });
      await h.simulator.faults({ ...fault(kind), applyTo: noun, webhooks: { lose: everything } });
      const answer = await send();
      expect(kind === "change" && change ? change : first, JSON.stringify(answer.body)).toContain(answer.status);
      if (answer.status === 503) expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);

      await h.simulator.faults({ webhooks: { lose: everything } });
      await letSafetyJobsRun(h);
      const again = await until(async () => {
        const next = await send();
        return next.status === 409 ? null : next;
      });
      expect([200, 201], `${why}: ${JSON.stringify(again.body)}`).toContain(again.status);
      const isReplay = again.headers.get("idempotency-replayed") === "true";
      if (isReplay) expect(again.body.data.id).toBe(answer.body.data.id);

      const ids = kind === "change" ? [again.body.data.id] : (await idsOf(noun)).filter((id) => !before.has(id));
      expect(await count(mark, ids), "the provider has it once").toBe(1);
      const third = await send();
      expect([third.status, third.body]).toEqual([again.status, again.body]);
      expect(third.headers.get("idempotency-replayed")).toBe("true");
    });
  });
}

/** The provider requests of a workflow, after the response to the request that started it. */
const inWorkflows: [string, Body][] = [
  ["429 for a while", { errors: [{ status: 429, times: 4 }] }],
  ["503 before it did anything", { errors: [{ status: 503, times: 2 }] }],
  ["503 though it did it", { errors: [{ status: 503, times: 2, afterAccepting: true }] }],
  ["402: its account has no money", { errors: [{ status: 402, times: 1 }] }],
  ["a reset after it did it", { resetAfterAccepting: 1 }],
];

test.for(inWorkflows)("a voice is made once, and does not fail: %s", async ([, create]) => {
  const fileId = await sendSample(h);
  await h.simulator.faults({ create, applyTo: "voices" });
  const idempotencyKey = `voice-${fileId}`;
  const made = await h.post("/voices", cloneOf(fileId), { idempotencyKey });
  expect([made.status, made.body.error]).toEqual([202, undefined]);
  const { id } = made.body.data;
  await inState(h, id, "active", 30);
  expect(await upstreamOf(h, id)).toHaveLength(1);
  const replay = await h.post("/voices", cloneOf(fileId), { idempotencyKey });
  expect([replay.status, replay.headers.get("idempotency-replayed")]).toEqual([202, "true"]);
});

test.for(inWorkflows)("a file is read in once, and does not fail: %s", async ([, create]) => {
  const base = await makeBase(h);
  const upload = await putFile(h, base);
  await h.simulator.faults({ create, applyTo: "corpora" });
  const { body } = await h.post(`/kb/${base}/files/ingest`, { fileIds: [upload] });
  const fileId = body.data.files[0].id;
  await until(async () => {
    await letAnswersBeOverdue(h);
    await hurrySteps(h);
    return (await fileOf(h, base, fileId)).status === "ready";
  }, 40);
  expect((await sourceNames(h, base)).filter((name) => name === fileId)).toHaveLength(1);
});

test("a credential that could not be tried for now: nothing is saved, and the same key runs again", async () => {
  const put = () =>
    h.send(
      "PUT",
      "/auth/providers/ultravox",
      { secret: { apiKey: broughtKeys[0] } },
      { key: h.bob.key, idempotencyKey: "own-account" },
    );
  await h.simulator.faults({ reads: { errors: [{ status: 503, times: 50 }] }, applyTo: "all" });
  const away = await put();
  expect(away).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
  expect(Number(away.headers.get("retry-after"))).toBeGreaterThan(0);
  await h.simulator.faults({});
  const saved = await put();
  expect(saved.status, JSON.stringify(saved.body)).toBe(200);
  expect((await put()).headers.get("idempotency-replayed")).toBe("true");
});

test("a refusal of the request itself is final: the same response under the same key", async () => {
  const send = () =>
    h.post("/calls", { agentId: callsAgent, medium: phone("+14155550006") }, { idempotencyKey: "final-refusal" });
  const refused = await send();
  expect(refused).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });
  const replay = await send();
  expect({ ...replay, headers: null }).toEqual({ ...refused, headers: null });
  expect(replay.headers.get("idempotency-replayed")).toBe("true");
});

test("a refused connection: nothing happened, and the key is released immediately", async () => {
  const { createCall } = ultravox;
  const send = () =>
    h.post("/calls", { agentId: callsAgent, medium: phone("+14155550014") }, { idempotencyKey: "no-connection" });
  const nowhere = (await import("../../server/adapters/ultravox/index.ts")).ultravox({
    baseUrl: "http://127.0.0.1:9",
    apiKeyOf: async () => "key",
    sipTrunk: "trunk.example",
  });
  ultravox.createCall = nowhere.createCall;
  try {
    const away = await send();
    expect(away).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
    expect(Number(away.headers.get("retry-after"))).toBeGreaterThan(0);
  } finally {
    ultravox.createCall = createCall;
  }
  expect(await send()).toMatchObject({ status: 201 });
});
