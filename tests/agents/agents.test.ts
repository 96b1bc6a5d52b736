import { afterEach, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { agent, startTestApp, type TestResponse, until } from "../support/app.ts";

const h = await startTestApp({ workers: true });

const defaults = {
  model: null,
  voice: null,
  languageHint: null,
  languages: [],
  temperature: null,
  firstSpeaker: "agent",
  greeting: null,
  recordingEnabled: true,
  maxDurationSeconds: 600,
  joinTimeoutSeconds: 30,
};
const make = async () => (await h.post("/agents", agent)).body.data;

afterEach(() => h.simulator.faults({}));

describe("an agent", () => {
  test("is created with defaults for omitted fields, is active immediately, and is found on both transports", async () => {
    const made = await h.post("/agents", { name: " Reception ", systemPrompt: "Be brief." });
    expect(made).toMatchObject({
      status: 201,
      body: {
        data: {
          ...defaults,
          name: "Reception",
          systemPrompt: "Be brief.",
          status: "active",
          statusReason: null,
          version: 1,
        },
      },
    });
    const { data } = made.body;
    expect((await h.get(`/agents/${data.id}`)).body.data).toEqual(data);
    expect((await h.query("agents.get", { id: data.id })).body.result.data).toEqual(data);
    expect((await h.get("/agents?limit=1")).body.data).toEqual([data]);
    expect((await h.query("agents.list", { limit: 1 })).body.result.data.items).toEqual([data]);
  });

  test("exists at the provider under our id, with the fields of the request", async () => {
    const { id } = await make();
    const upstream = await upstreamOf(id);
    expect(upstream).toMatchObject({
      name: id,
      callTemplate: { systemPrompt: agent.systemPrompt, maxDuration: "120s" },
    });
  });

  test("keeps every field that a change omits, here and at the provider, and gets a version per change", async () => {
    const { id, updatedAt, ...first } = await make();
    const changes = [
      { name: "Night" },
      { temperature: 0.7 },
      { greeting: "Good evening!" },
      { greeting: null },
      { recordingEnabled: false },
    ];
    let expected = first;
    for (const [n, change] of changes.entries()) {
      expected = { ...expected, ...change, version: n + 2 };
      const changed =
        n % 2
          ? (await h.mutate("agents.update", { id, ...change })).body.result.data
          : (await h.patch(`/agents/${id}`, change)).body.data;
      expect(changed).toEqual({ id, ...expected, updatedAt: expect.any(String) });
      expect(changed.updatedAt > updatedAt).toBe(true);
      expect((await h.get(`/agents/${id}`)).body.data).toEqual(changed);
    }
    const { callTemplate } = await upstreamOf(id);
    expect(callTemplate).toMatchObject({ systemPrompt: agent.systemPrompt, temperature: 0.7, recordingEnabled: false });
    const versions = await versionsOf(id);
    expect(versions.map(({ version, status }) => `${version} ${status}`)).toEqual([
      "1 retired",
      "2 retired",
      "3 retired",
      "4 retired",
      "5 retired",
      "6 live",
    ]);
    expect(versions.map(({ name }) => name)).toEqual([agent.name, "Night", "Night", "Night", "Night", "Night"]);
    expect(versions[1]!.config).toMatchObject({ temperature: null, recordingEnabled: true });
    expect(await eventsOf(id)).toEqual(["agent.created", ...changes.map(() => "agent.updated")]);
  });

  test("cannot be changed if it does not exist or is not active", async () => {
    const missing = newId("agent");
    expect(outcome(await h.patch(`/agents/${missing}`, { name: "New" }))).toEqual([404, "agent_not_found"]);
    const { id } = await make();
    await h.owner`update agents set status = 'failed' where id = ${id}`;
    expect(outcome(await h.patch(`/agents/${id}`, { name: "New" }))).toEqual([409, "agent_not_active"]);
    expect(await versionsOf(id)).toHaveLength(1);
  });

  test("is listed by status", async () => {
    const { id } = await make();
    await h.owner`update agents set status = 'failed', status_reason = 'no' where id = ${id}`;
    const ids = async (status: string) =>
      (await h.get(`/agents?limit=100&status=${status}`)).body.data.map((row: { id: string }) => row.id);
    expect(await ids("failed")).toContain(id);
    expect(await ids("active")).not.toContain(id);
    expect(outcome(await h.get("/agents?status=deleted"))).toEqual([400, "input_invalid"]);
  });
});

describe("when the provider refuses", () => {
  test("a new agent, it is failed with the reason, and no event is emitted", async () => {
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
    const refused = await h.post("/agents", agent);
    expect(outcome(refused)).toEqual([422, "provider_rejected"]);
    const { details, message } = refused.body.error;
    const id = details.find(({ path }: { path: string }) => path === "id").id;
    expect((await h.get(`/agents/${id}`)).body.data).toMatchObject({
      status: "failed",
      version: 0,
      statusReason: message,
    });
    expect((await versionsOf(id)).map(({ status }) => status)).toEqual(["failed"]);
    expect(await eventsOf(id)).toEqual([]);
    expect(outcome(await h.post("/calls", { agentId: id, medium: { type: "web" } }))).toEqual([
      409,
      "agent_not_active",
    ]);
  });

  test("a change, the version is failed and the previous one stays live; the next change succeeds", async () => {
    const { id, ...before } = await make();
    await h.simulator.faults({ changes: { errors: [{ status: 400 }] }, applyTo: "agents" });
    expect(outcome(await h.patch(`/agents/${id}`, { name: "Bad", greeting: "Bad" }))).toEqual([
      422,
      "provider_rejected",
    ]);
    expect((await h.get(`/agents/${id}`)).body.data).toEqual({ id, ...before });
    expect((await versionsOf(id)).map(({ status }) => status)).toEqual(["live", "failed"]);
    const placed = await h.post("/calls", { agentId: id, medium: { type: "web" } });
    expect(placed).toMatchObject({ status: 201, body: { data: { agentVersion: 1 } } });
    const good = await h.patch(`/agents/${id}`, { name: "Good" });
    expect(good).toMatchObject({ status: 200, body: { data: { name: "Good", greeting: null, version: 3 } } });
    expect((await versionsOf(id)).map(({ status }) => status)).toEqual(["retired", "failed", "live"]);
  });
});

describe("when the provider is down", () => {
  test("nothing changes, and Retry-After is the provider's value or a few seconds", async () => {
    for (const [wait, ask] of [
      ["30", () => h.post("/agents", agent)],
      ["31", () => h.mutate("agents.create", agent)],
    ] as const) {
      const errors = [{ status: 503, times: 3, retryAfterSeconds: Number(wait) }];
      await h.simulator.faults({ create: { errors }, applyTo: "agents" });
      const answer = await ask();
      expect(outcome(answer)).toEqual([503, "provider_unavailable"]);
      expect(answer.headers.get("retry-after")).toBe(wait);
    }
    await h.simulator.faults({ create: { errors: [{ status: 503, times: 3 }] }, applyTo: "agents" });
    const silent = await h.post("/agents", agent);
    expect(outcome(silent)).toEqual([503, "provider_unavailable"]);
    expect(silent.headers.get("retry-after")).toBe("5");
    const id = silent.body.error.details[0].id;
    expect((await h.get(`/agents/${id}`)).body.data).toMatchObject({ status: "failed" });
    await h.simulator.faults({});
    expect(await upstreamOf(id)).toBeUndefined();
  });

  test("a change is refused too, and the live version stays", async () => {
    const { id, ...before } = await make();
    await h.simulator.faults({
      changes: { errors: [{ status: 503, times: 3, retryAfterSeconds: 40 }] },
      applyTo: "agents",
    });
    const answer = await h.patch(`/agents/${id}`, { name: "New" });
    expect([...outcome(answer), answer.headers.get("retry-after")]).toEqual([503, "provider_unavailable", "40"]);
    expect((await h.get(`/agents/${id}`)).body.data).toEqual({ id, ...before });
  });
});

describe("when the connection breaks after the provider accepted", () => {
  test("the response is 202 with the agent provisioning; it is found by its name, and the key then returns the first response", async () => {
    await h.simulator.faults({ create: { resetAfterAccepting: 1 }, applyTo: "agents" });
    const ask = { idempotencyKey: "lost-1" };
    const lost = await h.post("/agents", agent, ask);
    expect(lost).toMatchObject({ status: 202, body: { data: { ...agent, status: "provisioning", version: 0 } } });
    const { id } = lost.body.data;
    expect(outcome(await h.post("/agents", agent, ask))).toEqual([409, "idempotency_in_progress"]);
    expect(outcome(await h.patch(`/agents/${id}`, { name: "Early" }))).toEqual([409, "agent_not_active"]);
    expect(await eventsOf(id)).toEqual([]);
    await lookNow();
    const found = await until(async () => {
      const { data } = (await h.get(`/agents/${id}`)).body;
      return data.status === "active" && data;
    });
    expect(found).toMatchObject({ ...agent, version: 1, statusReason: null });
    const again = await h.post("/agents", agent, ask);
    expect(again).toMatchObject({
      status: 201,
      body: { data: { id, status: "active" }, meta: { requestId: lost.body.meta.requestId } },
    });
    expect(await eventsOf(id)).toEqual(["agent.created"]);
    const [{ n }] = (await h.owner`select count(*)::int as n from audit_log where subject_id = ${id}`) as unknown as [
      { n: number },
    ];
    expect(n).toBe(1);
  });
});

describe("concurrent changes", () => {
  test("never mix and never deadlock: one succeeds, the others get 409", async () => {
    const { id } = await make();
    for (let round = 0; round < 8; round++) {
      const greetings = ["One", "Two", "Three"].map((word) => `${word} ${round}`);
      const answers = await Promise.all(greetings.map((greeting) => h.patch(`/agents/${id}`, { greeting })));
      const done = answers.filter(({ status }) => status === 200);
      for (const busy of answers.filter((answer) => !done.includes(answer))) {
        expect([...outcome(busy), busy.headers.get("retry-after")]).toEqual([409, "agent_busy", "1"]);
      }
      expect(done.length).toBeGreaterThan(0);
      const newest = done.map(({ body }) => body.data).toSorted((a, b) => b.version - a.version)[0];
      expect((await h.get(`/agents/${id}`)).body.data).toEqual(newest);
      expect((await upstreamOf(id)).callTemplate.firstSpeakerSettings).toEqual({ agent: { text: newest.greeting } });
    }
    const [live, ...older] = (await versionsOf(id)).toReversed();
    expect([live!.status, ...new Set(older.map(({ status }) => status))]).toEqual(["live", "retired"]);
  });
});

const outcome = ({ status, body }: TestResponse) => [status, (body.error?.data ?? body.error)?.code];

async function versionsOf(id: string) {
  return h.owner<{ version: number; status: string; name: string; config: Record<string, unknown> }[]>`
    select version, status, name, config from agent_versions where agent_id = ${id} order by version`;
}

async function eventsOf(id: string): Promise<string[]> {
  const rows = await h.owner`select type from events where subject_id = ${id} order by sequence`;
  return rows.map(({ type }) => type);
}

/** The provider's agents with our id. */
async function upstreamOf(id: string) {
  const response = await fetch(`${h.simulator.url}/api/agents?search=${id}`, {
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
  });
  // biome-ignore lint/suspicious/noExplicitAny: the provider's own format, to be inspected
  const { results } = (await response.json()) as { results: any[] };
  expect(results.length).toBeLessThan(2);
  return results[0];
}

/** Runs the recovery job now instead of after 30 seconds. */
const lookNow = () =>
  h.owner`update graphile_worker._private_jobs set run_at = now()
    where task_id = (select id from graphile_worker._private_tasks where identifier = 'intents.resolve')`;
