import { afterEach, expect, test } from "vitest";
import { enqueue } from "../../db/queue.ts";
import { resyncAgentsUsing } from "../../routers/core/resync-agents.ts";
import { partsFor } from "../contract/endpoints/agents.ts";
import { agent, startTestApp, type TestResponse, until } from "../support/app.ts";
import { hurry, queueSystemJob } from "../support/calls.ts";

const log: string[] = [];
const h = await startTestApp({ workers: true, log });

const { ultravox } = h.deps.providers;
const make = async (more: object = {}) => (await h.post("/agents", { ...agent, ...more })).body.data;
afterEach(() => h.simulator.faults({}));

/** Makes the last comparison older than a day, runs the sweep, and waits for the comparison. */
async function aDayLater(id: string) {
  await h.owner`update agents set compared_at = now() - interval '25 hours' where id = ${id}`;
  await queueSystemJob(h, "agents.sweep");
}
const compared = (id: string) =>
  until(async () => {
    const row = await rowOf(id);
    return row.fresh && row.open === 0 && row;
  });

test("an agent that was changed at the provider is repaired, and an unchanged one is not touched", async () => {
  const [touched, untouched] = [await make({ greeting: "Ours." }), await make()];
  await changeThere(touched.id, { systemPrompt: "Sell timeshares.", selectedTools: [{ toolName: "hangUp" }] });
  const before = (await rowOf(untouched.id)).revision;
  await aDayLater(touched.id);
  await aDayLater(untouched.id);
  expect(await compared(touched.id)).toMatchObject({ drifts: 1, status: "active", version: 1 });
  expect(await compared(untouched.id)).toMatchObject({ drifts: 0, revision: before });
  const upstream = (await upstreamOf(touched.id))[0];
  expect(upstream.callTemplate).toMatchObject({
    systemPrompt: agent.systemPrompt,
    selectedTools: [],
    firstSpeakerSettings: { agent: { text: "Ours." } },
  });
  expect((await rowOf(touched.id)).revision).toBe(upstream.publishedRevisionId);
  // Two sweeps ran, so there may be two comparisons; the second may find a correct copy whose revision is not yet stored.
  const told = log.map((line) => JSON.parse(line)).filter(({ agent_id }) => agent_id === touched.id);
  expect(told).toContainEqual(expect.objectContaining({ level: "warn", fields: ["systemPrompt", "selectedTools"] }));
  expect(await auditOf(touched.id)).toEqual(["agents.create", "agents.realign"]);
  await aDayLater(touched.id);
  expect(await compared(touched.id)).toMatchObject({ drifts: 1 });
  expect(await eventsOf(touched.id)).toEqual(["agent.created"]);
});

test("without a revision the fields are compared, and a normalized form of the same value is no difference", async () => {
  const mine = await partsFor(h, h.ada.clientId);
  const more = {
    voiceId: mine.voice,
    knowledgeBaseIds: [mine.base],
    tools: [{ toolId: mine.tool }],
    temperature: 0.3,
    // biome-ignore lint/suspicious/noThenProperty: the field's name in the API
    inactivityMessages: [{ afterSeconds: 10, message: "Hello?", then: "nothing" }],
  };
  const { id } = await make(more);
  const bare = await make();
  for (const each of [id, bare.id]) {
    await h.owner`update agent_versions set provider_revision_id = null where agent_id = ${each}`;
    await aDayLater(each);
  }
  expect(await compared(id)).toMatchObject({ drifts: 0 });
  expect(await compared(bare.id)).toMatchObject({ drifts: 0 });
  await jobsDone();
  await changeThere(id, { languageHint: "de" });
  await aDayLater(id);
  expect(await compared(id)).toMatchObject({ drifts: 1 });
  expect((await upstreamOf(id))[0].callTemplate.languageHint || null).toBeNull();
});

test("a pending change wins: nothing is compared, and its request stays", async () => {
  const { id } = await make();
  await changeThere(id, { systemPrompt: "Other." });
  const held = holdChanges();
  const changing = h.patch(`/agents/${id}`, { greeting: "New" });
  try {
    await until(async () => (await rowOf(id)).open === 1);
    await compareNow(id);
    await jobsDone();
  } finally {
    held.letGo();
  }
  expect((await changing).body.data).toMatchObject({ version: 2, greeting: "New" });
  expect(await rowOf(id)).toMatchObject({ drifts: 0, version: 2 });
  const [upstream] = await upstreamOf(id);
  expect(upstream.callTemplate).toMatchObject({
    systemPrompt: agent.systemPrompt,
    firstSpeakerSettings: { agent: { text: "New" } },
  });
  expect(await auditOf(id)).toEqual(["agents.create", "agents.update"]);
});

test("while an agent is being repaired it cannot be changed, and no call uses it", async () => {
  const { id } = await make();
  await changeThere(id, { systemPrompt: "Other." });
  const held = holdChanges();
  try {
    await compareNow(id);
    await until(async () => (await rowOf(id)).open === 1);
    const refused = [
      await h.patch(`/agents/${id}`, { greeting: "New" }),
      await h.remove(`/agents/${id}`),
      await h.post("/calls", { agentId: id, medium: { type: "web" } }),
    ];
    for (const answer of refused) expect(outcome(answer)).toEqual([409, "agent_busy"]);
  } finally {
    held.letGo();
  }
  await until(async () => (await rowOf(id)).open === 0);
  expect(await rowOf(id)).toMatchObject({ drifts: 1, version: 1 });
  expect((await h.patch(`/agents/${id}`, { greeting: "New" })).body.data.version).toBe(2);
});

test("an agent that the provider lost is created again under its name, and calls work", async () => {
  const { id } = await make({ greeting: "Ours." });
  const [gone] = await upstreamOf(id);
  await there("DELETE", `/api/agents/${gone.agentId}`);
  await aDayLater(id);
  expect(await compared(id)).toMatchObject({ drifts: 1, status: "active" });
  const again = await upstreamOf(id);
  expect(again).toHaveLength(1);
  expect(again[0].agentId).not.toBe(gone.agentId);
  expect(again[0].callTemplate.firstSpeakerSettings).toEqual({ agent: { text: "Ours." } });
  expect(await rowOf(id)).toMatchObject({ upstream: again[0].agentId, revision: again[0].publishedRevisionId });
  const placed = await h.post("/calls", { agentId: id, medium: { type: "web" } });
  expect(placed).toMatchObject({ status: 201, body: { data: { agentVersion: 1 } } });
});

test("an agent that was created again, with a lost response, is found by its name and exists once", async () => {
  const { id } = await make();
  await there("DELETE", `/api/agents/${(await upstreamOf(id))[0].agentId}`);
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, applyTo: "agents" });
  await compareNow(id);
  await until(async () => (await rowOf(id)).open === 1 && (await upstreamOf(id)).length === 1);
  await jobsDone();
  await compareNow(id);
  await jobsDone();
  expect(await upstreamOf(id)).toHaveLength(1);
  await lookNow();
  expect(await compared(id)).toMatchObject({ drifts: 1, upstream: (await upstreamOf(id))[0].agentId });
});

test("an agent that the provider refuses to create again is failed with the reason; an unavailable provider is retried later", async () => {
  const [refused, away] = [await make(), await make()];
  for (const { id } of [refused, away]) await there("DELETE", `/api/agents/${(await upstreamOf(id))[0].agentId}`);
  await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
  await compareNow(refused.id);
  await until(async () => (await rowOf(refused.id)).status === "failed");
  expect((await h.get(`/agents/${refused.id}`)).body.data.statusReason).toMatch(
    /^The voice provider no longer has this agent/,
  );

  await h.simulator.faults({ reads: { errors: [{ status: 503, times: 50 }] }, applyTo: "agents" });
  await aDayLater(away.id);
  await until(async () => Number((await rowOf(away.id)).hours) < 24);
  expect(await rowOf(away.id)).toMatchObject({ status: "active", drifts: 0 });
  expect(Number((await rowOf(away.id)).hours)).toBeGreaterThan(22);
  await h.simulator.faults({});
  await compareNow(away.id);
  await until(async () => (await rowOf(away.id)).drifts === 1);
});

test("a lost create that made two agents keeps one and removes the other", async () => {
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, applyTo: "agents" });
  const lost = await h.post("/agents", agent);
  expect(lost).toMatchObject({ status: 202, body: { data: { status: "provisioning" } } });
  const { id } = lost.body.data;
  const { callTemplate } = (await upstreamOf(id))[0];
  await there("POST", "/api/agents", { name: id, callTemplate: { systemPrompt: callTemplate.systemPrompt } });
  expect(await upstreamOf(id)).toHaveLength(2);
  await lookNow();
  await until(async () => (await rowOf(id)).status === "active");
  await until(async () => (await upstreamOf(id)).length === 1);
  expect((await rowOf(id)).upstream).toBe((await upstreamOf(id))[0].agentId);
  expect(await eventsOf(id)).toEqual(["agent.created"]);
});

test("when a tool's fixed part changes, exactly the agents that use the tool are sent again", async () => {
  const [one, two] = [await partsFor(h, h.ada.clientId), await partsFor(h, h.ada.clientId)];
  const a = await make({ tools: [{ toolId: one.tool }] });
  const b = await make({ tools: [{ toolId: two.tool }] });
  const [before, other] = [(await rowOf(a.id)).revision, (await rowOf(b.id)).revision];
  await h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) => resyncAgentsUsing(tx, "tool", one.tool));
  await until(async () => (await rowOf(a.id)).revision !== before);
  await jobsDone();
  expect((await rowOf(b.id)).revision).toBe(other);
});

test("a resource deleted by force is removed from the agents that used it, at the provider too", async () => {
  const mine = await partsFor(h, h.ada.clientId);
  const uses = { voiceId: mine.voice, knowledgeBaseIds: [mine.base], tools: [{ toolId: mine.tool }] };
  const { id } = await make(uses);
  for (const path of [`/voices/${mine.voice}`, `/kb/${mine.base}`, `/tools/${mine.tool}`]) {
    expect(outcome(await h.remove(path))).toEqual([409, expect.stringMatching(/_in_use$/)]);
    expect((await h.remove(`${path}?force=true`)).status).toBe(204);
  }
  const { callTemplate } = await until(async () => {
    const [upstream] = await upstreamOf(id);
    return upstream.callTemplate.selectedTools.length === 0 && !upstream.callTemplate.voice && upstream;
  });
  expect(callTemplate.systemPrompt).toBe(agent.systemPrompt);
  expect((await h.get(`/agents/${id}`)).body.data).toMatchObject({ ...uses, version: 1 });
});

/** An agent with a tool that sends a secret. */
async function withSecret() {
  const mine = await partsFor(h, h.ada.clientId);
  const definition = {
    ...{ type: "http", url: "https://example.com", method: "GET", timeoutSeconds: 20, reaction: "speaks" },
    ...{ parameters: [], staticParameters: [], automaticParameters: [], staticResponse: null },
    auth: { type: "bearer", credential: "custom-crm" },
  };
  await h.owner`update tools set kind = 'http', config = ${h.owner.json({ definition })} where id = ${mine.tool}`;
  const put = (value: string) => h.send("PUT", "/auth/providers/custom-crm", { secret: { value } });
  expect((await put("the-first-secret")).status).toBe(200);
  const { id } = await make({ tools: [{ toolId: mine.tool }] });
  const tokens = async () => (await upstreamOf(id))[0].callTemplate.selectedTools[0].authTokens;
  expect(await tokens()).toEqual({ auth: "the-first-secret" });
  await jobsDone();
  return { id: id as string, put, tokens };
}

test("a new secret is sent to every agent whose tools use it, and never to the log", async () => {
  const { put, tokens } = await withSecret();
  expect((await put("the-second-secret")).status).toBe(200);
  await until(async () => (await tokens()).auth === "the-second-secret");
  await jobsDone();
  expect(log.join("")).not.toMatch(/the-(first|second)-secret/);
});

test.for([
  ["is away", "reads"],
  ["takes no change", "changes"],
])(
  "a new secret is sent again in an hour when the provider %s for longer than its job is tried, until it is there",
  async ([, what]) => {
    const { id, put, tokens } = await withSecret();
    await h.simulator.faults({ [what!]: { errors: [{ status: 503, times: 1_000 }] }, applyTo: "agents" });
    expect((await put("the-second-secret")).status).toBe(200);
    const waiting = () => h.owner`select id, key, run_at from graphile_worker._private_jobs
    where payload->'body'->>'agentId' = ${id} and payload->'body'->>'resend' = 'true' and locked_at is null`;
    /** Makes the next attempt the last one. */
    await until(async () => {
      const last = await h.owner`update graphile_worker._private_jobs
      set payload = jsonb_set(payload::jsonb, '{attempt}', '4')::json, run_at = now()
      where payload->'body'->>'agentId' = ${id} and payload->>'attempt' = '1' and locked_at is null returning id`;
      return last.length === 1;
    });
    await h.owner`select pg_notify('jobs:insert', '{"r":0,"count":1}')`;
    const gaveUp = () => h.owner`select from dead_jobs where payload->>'agentId' = ${id}`;
    await until(async () => (await gaveUp()).length === 1);
    const [later, ...others] = await waiting();
    expect(others).toEqual([]);
    const inSeconds = (later!.run_at.getTime() - Date.now()) / 1000;
    expect(inSeconds).toBeGreaterThan(3_000);
    expect(inSeconds).toBeLessThanOrEqual(3_601);

    await h.simulator.faults({});
    await until(async () => {
      await hurry(h, "agents.compare");
      await lookNow();
      return (await waiting()).length === 0 && (await tokens()).auth === "the-second-secret";
    });
  },
);

test("a response that arrives after the recovery job found the agent removes nothing", async () => {
  const { createAgent } = ultravox;
  const gate = Promise.withResolvers<void>();
  ultravox.createAgent = async (...asked) => {
    const made = await createAgent(...asked);
    await gate.promise;
    return made;
  };
  const making = h.post("/agents", { ...agent, name: "Slowly made" });
  let id: string;
  try {
    id = await until(async () => (await h.owner`select id from agents where name = 'Slowly made'`)[0]?.id);
    await until(async () => (await upstreamOf(id)).length === 1);
    await lookNow();
    await until(async () => (await rowOf(id)).status === "active");
  } finally {
    gate.resolve();
    ultravox.createAgent = createAgent;
  }
  expect(await making).toMatchObject({ status: 201, body: { data: { id, status: "active" } } });
  const [found, ...others] = await upstreamOf(id);
  expect(others).toEqual([]);
  const [row] = await h.owner`select count(*)::int as n from graphile_worker._private_jobs j
    join graphile_worker._private_tasks t on t.id = j.task_id
    where t.identifier = 'upstream.remove' and j.payload->'body'->>'providerId' = ${found.agentId}`;
  expect(row!.n).toBe(0);
  expect(await eventsOf(id)).toEqual(["agent.created"]);
});

test("the sweep compares only the agents that are due, the oldest comparison first", async () => {
  const [old, fresh, deleted] = [await make(), await make(), await make()];
  await h.remove(`/agents/${deleted.id}`);
  await h.owner`update agents set compared_at = now() - interval '2 days' where id = any(${[old.id, deleted.id]})`;
  const { compared_at: then } = await rowOf(fresh.id);
  await queueSystemJob(h, "agents.sweep");
  await compared(old.id);
  await jobsDone();
  expect((await rowOf(fresh.id)).compared_at).toEqual(then);
  expect((await rowOf(deleted.id)).fresh).toBe(false);
});

const outcome = ({ status, body }: TestResponse) => [status, (body.error?.data ?? body.error)?.code];

async function rowOf(id: string) {
  const [row] = await h.owner`
    select a.status, a.version, a.drifts, a.compared_at, a.compared_at > now() - interval '1 minute' as fresh,
      extract(epoch from now() - a.compared_at) / 3600 as hours,
      a.provider_agent_id as upstream, v.provider_revision_id as revision,
      (select count(*)::int from intents i where i.subject_id = a.id and i.status = 'open') as open
    from agents a left join agent_versions v on v.agent_id = a.id and v.version = a.version where a.id = ${id}`;
  return row!;
}

async function eventsOf(id: string): Promise<string[]> {
  const rows = await h.owner`select type from events where subject_id = ${id} order by sequence`;
  return rows.map(({ type }) => type);
}

async function auditOf(id: string): Promise<string[]> {
  const rows = await h.owner`select action from audit_log where subject_id = ${id} order by created_at`;
  return rows.map(({ action }) => action);
}

const compareNow = (agentId: string) =>
  h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) => enqueue(tx, "agents.compare", { agentId, resend: false }));

/** Waits until no job of agents is queued or running. */
const jobsDone = () =>
  until(async () => {
    const [row] = await h.owner`select count(*)::int as n from graphile_worker._private_jobs j
      join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier like 'agents.%'`;
    return row!.n === 0;
  });

/** Changes the agent directly at the provider, with the account's key. */
async function there(method: string, path: string, body?: object) {
  const response = await fetch(h.simulator.url + path, {
    method,
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  expect(response.ok).toBe(true);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

const upstreamOf = async (id: string) => (await there("GET", `/api/agents?search=${id}`)).results;

async function changeThere(id: string, callTemplate: object) {
  const [found] = await upstreamOf(id);
  await there("PATCH", `/api/agents/${found.agentId}`, { callTemplate });
}

/** Holds changes back before they reach the provider. */
function holdChanges() {
  const { updateAgent } = ultravox;
  const gate = Promise.withResolvers<void>();
  ultravox.updateAgent = async (...asked) => {
    await gate.promise;
    return await updateAgent(...asked);
  };
  return {
    letGo() {
      ultravox.updateAgent = updateAgent;
      gate.resolve();
    },
  };
}

/** Runs the recovery job now instead of after 30 seconds. */
const lookNow = () => hurry(h, "intents.resolve");
