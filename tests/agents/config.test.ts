import { afterEach, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { ApiError } from "../../routers/core/errors.ts";
import { partsFor } from "../contract/endpoints/agents.ts";
import { agent, startTestApp, type TestResponse, until } from "../support/app.ts";
import { queueSystemJob } from "../support/calls.ts";

const h = await startTestApp({ workers: true });
type Parts = Awaited<ReturnType<typeof partsFor>>;

const parts = () => partsFor(h, h.ada.clientId);
const using = ({ voice, base, tool }: Parts) => ({
  voiceId: voice,
  knowledgeBaseIds: [base],
  tools: [{ toolId: tool }],
});
const make = async (more: object = {}) => {
  const made = await h.post("/agents", { ...agent, ...more });
  expect(made.body.error).toBeUndefined();
  return made.body.data;
};

afterEach(() => h.simulator.faults({}));

describe("an agent with every field", () => {
  test("speaks the languages of its list, and begins with the first unless there is a hint", async () => {
    const { id } = await make({ systemPrompt: "Be brief.", languages: ["en-GB", "de"] });
    const { callTemplate } = await upstreamOf(id);
    expect(callTemplate.languageHint).toBe("en-GB");
    expect(callTemplate.systemPrompt).toContain("Languages that you speak: British English, German.");
    await h.patch(`/agents/${id}`, { languageHint: "de" });
    expect((await upstreamOf(id)).callTemplate.languageHint).toBe("de");
    for (const languages of [["en", "EN"], ["no language"]]) {
      const { body } = await h.post("/agents", { ...agent, languages });
      expect(body.error).toMatchObject({
        code: "input_invalid",
        details: [{ path: `languages.${languages.length - 1}` }],
      });
    }
  });

  test("is sent to the provider with voice, tools, knowledge, messages and variables", async () => {
    const mine = await parts();
    const second = await parts();
    const { id } = await make({
      ...using(mine),
      knowledgeBaseIds: [mine.base, second.base],
      systemPrompt: "Call {{name}}.",
      greeting: "Good morning, {{name}}!",
      variables: [
        { name: "name" },
        { name: "day", required: true, default: "today" },
        { name: "other", required: false },
      ],
      // biome-ignore lint/suspicious/noThenProperty: the field's name in the API
      inactivityMessages: [{ afterSeconds: 15, message: "Hello?", then: "hang_up_soft" }],
      timeExceededMessage: "Time is up, {{name}}.",
      voicemail: { behaviour: "hang_up" },
      transferTargets: [
        { name: "sales", description: "Prices.", to: "+14155550100" },
        { name: "help", description: "All else.", to: "sip:help@pbx.example.com", warm: true },
      ],
    });
    const { callTemplate } = await upstreamOf(id);
    expect(callTemplate).toMatchObject({
      voice: `up-${mine.voice}`,
      timeExceededMessage: "Time is up, {{name}}.",
      inactivityMessages: [{ duration: "15s", message: "Hello?", endBehavior: "END_BEHAVIOR_HANG_UP_SOFT" }],
      contextSchema: { properties: { name: {}, day: {}, other: {} }, required: ["name"] },
      firstSpeakerSettings: { agent: {} },
    });
    // The provider fills in the variables of a prompt, but not those of a greeting.
    expect(callTemplate.firstSpeakerSettings.agent).toEqual({});
    expect(callTemplate.systemPrompt).toBe(
      'Call {{name}}.\n\nOpen the call with exactly these words: "Good morning, {{name}}!"\n' +
        "If a voicemail or an answering machine has picked up, stay silent and use the tool hangUp immediately.",
    );
    expect(callTemplate.selectedTools).toEqual([
      { toolId: `up-${mine.tool}` },
      ...[mine, second].map(({ base }, n) => ({
        toolName: "queryCorpus",
        nameOverride: `queryCorpus_${n + 1}`,
        descriptionOverride: 'Looks up what is known in the knowledge base "Prices".',
        parameterOverrides: { corpus_id: `up-${base}` },
      })),
      { toolName: "hangUp", descriptionOverride: expect.stringContaining("answering machine") },
      {
        toolName: "coldTransfer",
        nameOverride: "transfer_to_sales",
        descriptionOverride: "Transfers the call to sales. Prices.",
        parameterOverrides: { target: "+14155550100" },
      },
      {
        toolName: "warmTransfer",
        nameOverride: "transfer_to_help",
        descriptionOverride: "Transfers the call to help. All else.",
        parameterOverrides: { target: "sip:help@pbx.example.com" },
      },
    ]);
  });

  test("loses at the provider, too, what a change removes", async () => {
    const mine = await parts();
    // biome-ignore lint/suspicious/noThenProperty: the field's name in the API
    const inactivityMessages = [{ afterSeconds: 15, message: "Hello?", then: "nothing" }];
    const { id } = await make({ ...using(mine), inactivityMessages, timeExceededMessage: "Bye.", hangUpEnabled: true });
    const none = { voiceId: null, knowledgeBaseIds: [], tools: [], inactivityMessages: [], timeExceededMessage: null };
    expect((await h.patch(`/agents/${id}`, { ...none, hangUpEnabled: false })).status).toBe(200);
    const { callTemplate } = await upstreamOf(id);
    expect(callTemplate.selectedTools).toEqual([]);
    expect(callTemplate.inactivityMessages).toEqual([]);
    expect([callTemplate.voice, callTemplate.timeExceededMessage]).toEqual(["", ""]);
    expect(await usesOf(id)).toEqual([]);
  });

  test("sends a stored credential with a tool: sealed here, plain text only at the provider", async () => {
    const mine = await parts();
    const secret = "s3cr3t-0123456789";
    const { credential } = await credentialFor("custom-crm", secret);
    await authenticate(mine.tool, { type: "bearer", credential: "custom-crm" });
    const { id } = await make({ tools: [{ toolId: mine.tool }] });
    const response = await fetch(`${h.simulator.url}/api/agents?search=${id}`, {
      headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
    });
    expect(JSON.parse(await response.text()).results[0].callTemplate.selectedTools).toEqual([
      { toolId: `up-${mine.tool}`, authTokens: { auth: secret } },
    ]);
    expect(await usesOf(id)).toEqual([`credential ${credential}`, `tool ${mine.tool}`]);
    for (const table of ["agents", "agent_versions", "intents", "events", "audit_log"]) {
      const [row] =
        await h.owner`select count(*)::int as n from ${h.owner(table)} t where t::text like ${`%${secret}%`}`;
      expect([table, row!.n]).toEqual([table, 0]);
    }
    await h.owner`delete from credentials where id = ${credential}`;
    const refused = await h.patch(`/agents/${id}`, { greeting: "New" });
    expect([...outcome(refused), pathsOf(refused)]).toEqual([404, "credential_not_found", ["tools.0.toolId"]]);
  });
});

describe("the references of an agent", () => {
  type Case = [string, (mine: Parts) => unknown, object | ((mine: Parts) => object), number, string, string];
  const cases: Case[] = [
    ["a voice that is not there", () => null, { voiceId: newId("voice") }, 404, "voice_not_found", "voiceId"],
    [
      "a voice in training",
      ({ voice }) => h.owner`update voices set status = 'training' where id = ${voice}`,
      using,
      409,
      "voice_not_active",
      "voiceId",
    ],
    [
      "a deleted voice",
      ({ voice }) => h.owner`update voices set status = 'deleted' where id = ${voice}`,
      using,
      404,
      "voice_not_found",
      "voiceId",
    ],
    [
      "a voice of another account",
      ({ voice }) => h.owner`update voices set provider_account_id = 'pacc_x' where id = ${voice}`,
      using,
      400,
      "input_invalid",
      "voiceId",
    ],
    [
      "an empty knowledge base",
      ({ base }) => h.owner`update knowledge_bases set status = 'empty', ready_files = 0 where id = ${base}`,
      using,
      409,
      "knowledge_base_not_ready",
      "knowledgeBaseIds.0",
    ],
    [
      "the second knowledge base",
      () => null,
      (mine) => ({ knowledgeBaseIds: [mine.base, newId("knowledgeBase")] }),
      404,
      "knowledge_base_not_found",
      "knowledgeBaseIds.1",
    ],
    [
      "a knowledge base of another account",
      ({ base }) => h.owner`update knowledge_bases set provider_account_id = 'pacc_x' where id = ${base}`,
      using,
      400,
      "input_invalid",
      "knowledgeBaseIds.0",
    ],
    [
      "the second tool",
      () => null,
      (mine) => ({ tools: [{ toolId: mine.tool }, { toolId: newId("tool") }] }),
      404,
      "tool_not_found",
      "tools.1.toolId",
    ],
    [
      "a tool that failed",
      ({ tool }) => h.owner`update tools set status = 'failed' where id = ${tool}`,
      using,
      409,
      "tool_not_active",
      "tools.0.toolId",
    ],
    [
      "a tool of another account",
      ({ tool }) => h.owner`update tools set provider_account_id = 'pacc_x' where id = ${tool}`,
      using,
      400,
      "input_invalid",
      "tools.0.toolId",
    ],
    [
      "a tool with the name of an added one",
      ({ tool }) => h.owner`update tools set name = 'transfer_to_sales' where id = ${tool}`,
      (mine) => ({ ...using(mine), transferTargets: [{ name: "sales", description: "x", to: "+14155550100" }] }),
      400,
      "input_invalid",
      "tools.0.toolId",
    ],
  ];

  test.each(cases)("are refused by their field: %s", async (_, spoil, given, status, code, path) => {
    const mine = await parts();
    await spoil(mine);
    const wanted = typeof given === "function" ? given(mine) : given;
    const { id } = await make();
    for (const answer of [await h.post("/agents", { ...agent, ...wanted }), await h.patch(`/agents/${id}`, wanted)]) {
      expect([...outcome(answer), pathsOf(answer)]).toEqual([status, code, [path]]);
    }
    expect(await versionsOf(id)).toEqual(["1 live"]);
    expect(await usesOf(id)).toEqual([]);
  });

  test.each<[string, object, string[]]>([
    ["two voices", { voice: "Mark", voiceId: newId("voice") }, ["voice"]],
    ["a variable that is not declared", { systemPrompt: "{{x}} {{y}}", variables: [{ name: "y" }] }, ["systemPrompt"]],
    ["what is no variable", { greeting: "{{#x}}" }, ["greeting"]],
    ["a tool twice", { tools: [1, 2].map(() => ({ toolId: "tool_01m82knxfbfrssk0x3en012rbf" })) }, ["tools.1.toolId"]],
    ["a variable twice", { variables: [{ name: "a" }, { name: "a" }] }, ["variables.1.name"]],
    ["a message that is never spoken", { voicemail: { behaviour: "hang_up", message: "x" } }, ["voicemail.message"]],
    [
      "a number that cannot be",
      { transferTargets: [{ name: "a", description: "b", to: "+1" }] },
      ["transferTargets.0.to"],
    ],
    [
      "a pattern that is none",
      { outputSchema: { type: "object", properties: { a: { type: "string", pattern: "(" } } } },
      ["outputSchema.properties.a.pattern"],
    ],
    [
      "a pattern of names that is none",
      { outputSchema: { type: "object", patternProperties: { "[": {} } } },
      ["outputSchema.patternProperties.["],
    ],
    [
      "a schema that no value fits",
      { outputSchema: { type: "object", properties: { a: { enum: [] } } } },
      ["outputSchema"],
    ],
    [
      "a schema with too many parts",
      { outputSchema: { type: "object", anyOf: Array.from({ length: 300 }, (_, n) => ({ minProperties: n })) } },
      ["outputSchema"],
    ],
    [
      "a type that is none",
      { outputSchema: { type: "object", properties: { a: { type: "txt" } } } },
      ["outputSchema.properties.a.type"],
    ],
  ])("are refused before any request to the provider: %s", async (_, given, paths) => {
    const before = (await h.simulator.requests()).requests.length;
    const answer = await h.post("/agents", { ...agent, ...given });
    expect(outcome(answer)).toEqual([400, "input_invalid"]);
    expect([...new Set(pathsOf(answer))]).toEqual(paths);
    expect((await h.simulator.requests()).requests.length).toBe(before);
  });

  test("are recorded while a change is pending, and as they are once it is settled", async () => {
    const [one, two] = [await parts(), await parts()];
    const { id } = await make({ voiceId: one.voice });
    await whileHeld(async (release) => {
      const changing = h.patch(`/agents/${id}`, { voiceId: two.voice });
      await until(async () => (await usesOf(id)).length === 2);
      release();
      expect((await changing).status).toBe(200);
    });
    expect(await usesOf(id)).toEqual([`voice ${two.voice}`]);
    await h.simulator.faults({ changes: { errors: [{ status: 400 }] }, applyTo: "agents" });
    expect((await h.patch(`/agents/${id}`, { voiceId: one.voice })).status).toBe(422);
    expect(await usesOf(id)).toEqual([`voice ${two.voice}`]);
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
    const refused = await h.post("/agents", { ...agent, voiceId: one.voice });
    expect(await usesOf(pathMessage(refused))).toEqual([]);
  });
});

describe("a resource that is deleted while an agent adds it", () => {
  test("is refused to the agent if the deletion came first", async () => {
    const mine = await parts();
    const { id } = await make();
    const deleting = await beginDeleting(mine.voice);
    const taking = h.patch(`/agents/${id}`, { voiceId: mine.voice });
    await someoneWaits();
    expect(await deleting.finish()).toBe("deleted");
    expect(outcome(await taking)).toEqual([404, "voice_not_found"]);
  });

  test("is not deleted if the agent came first, although the provider's result is still unknown", async () => {
    const mine = await parts();
    const { id } = await make();
    await whileHeld(async (release) => {
      const taking = h.patch(`/agents/${id}`, { voiceId: mine.voice });
      await until(async () => (await usesOf(id)).length === 1);
      const deleting = await beginDeleting(mine.voice);
      expect(await deleting.finish()).toBe("in use");
      release();
      expect((await taking).status).toBe(200);
    });
  });

  /** As a service deletes: it locks its row first, and reads agent_uses in a later statement. */
  async function beginDeleting(voiceId: string) {
    const own = await h.owner.reserve();
    await own`begin`;
    await own`select id from voices where id = ${voiceId} for update`;
    return {
      async finish() {
        const used = await own`select agent_id from agent_uses where kind = 'voice' and target_id = ${voiceId}`;
        if (used.length === 0) await own`update voices set status = 'deleted' where id = ${voiceId}`;
        await own`commit`;
        own.release();
        return used.length === 0 ? "deleted" : "in use";
      },
    };
  }

  const someoneWaits = () =>
    until(async () => {
      const [row] = await h.owner`select count(*)::int as n from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      return row!.n > 0;
    });
});

describe("a change", () => {
  test("without a difference creates no version, sends no request, and returns the agent", async () => {
    const mine = await parts();
    const { id, ...before } = await make(using(mine));
    const asked = (await h.simulator.requests()).requests.length;
    const same = { name: agent.name, ...using(mine), temperature: null, metadata: {} };
    const ask = { idempotencyKey: `same-${id}` };
    for (const answer of [await h.patch(`/agents/${id}`, same, ask), await h.patch(`/agents/${id}`, {})]) {
      expect(answer).toMatchObject({ status: 200, body: { data: { id, ...before } } });
    }
    expect((await h.patch(`/agents/${id}`, same, ask)).headers.get("idempotency-replayed")).toBe("true");
    expect((await h.simulator.requests()).requests.length).toBe(asked);
    expect(await versionsOf(id)).toEqual(["1 live"]);
    expect(await eventsOf(id)).toEqual(["agent.created"]);
    const [open] = await h.owner`select count(*)::int as n from intents where subject_id = ${id} and status = 'open'`;
    expect(open!.n).toBe(0);
  });

  test("of the metadata alone creates no version; a change that the provider refuses leaves them as they were", async () => {
    const { id } = await make({ metadata: { team: "north", site: "a" } });
    const changed = await h.patch(`/agents/${id}`, { metadata: { team: "south" } });
    expect(changed.body.data).toMatchObject({ metadata: { team: "south" }, version: 1 });
    await h.simulator.faults({ changes: { errors: [{ status: 400 }] }, applyTo: "agents" });
    expect((await h.patch(`/agents/${id}`, { metadata: { team: "west" }, greeting: "Hi" })).status).toBe(422);
    expect((await h.get(`/agents/${id}`)).body.data.metadata).toEqual({ team: "south" });
    await h.patch(`/agents/${id}`, { metadata: { team: "west" }, greeting: "Hi" });
    expect((await h.get(`/agents/${id}`)).body.data).toMatchObject({
      metadata: { team: "west" },
      greeting: "Hi",
      version: 3,
    });
  });

  test("to one kind of voice replaces the other", async () => {
    const mine = await parts();
    const { id } = await make({ voice: "Mark" });
    expect((await h.patch(`/agents/${id}`, { voiceId: mine.voice })).body.data).toMatchObject({
      voice: null,
      voiceId: mine.voice,
    });
    expect((await upstreamOf(id)).callTemplate.voice).toBe(`up-${mine.voice}`);
    expect((await h.patch(`/agents/${id}`, { voice: "Mark" })).body.data).toMatchObject({
      voice: "Mark",
      voiceId: null,
    });
    expect(outcome(await h.patch(`/agents/${id}`, { voice: "Mark", voiceId: mine.voice }))).toEqual([
      400,
      "input_invalid",
    ]);
  });
});

describe("a voice name that looks like our ids", () => {
  const isRefused = (answer: TestResponse) => {
    expect([...outcome(answer), pathsOf(answer)]).toEqual([400, "input_invalid", ["voice"]]);
    expect(answer.body.error.message).toContain("`voiceId`");
  };

  test("is refused in any spelling, on create, update, restore and duplicate", async () => {
    const { voice } = await parts();
    const { id } = await make();
    for (const given of [voice, voice.toUpperCase(), ` ${voice}`]) {
      for (const ask of [{ key: h.bob.key }, {}]) isRefused(await h.post("/agents", { ...agent, voice: given }, ask));
      isRefused(await h.patch(`/agents/${id}`, { voice: given }));
    }
    await h.patch(`/agents/${id}`, { greeting: "Hi" });
    await h.owner`update agent_versions set config = config || ${h.owner.json({ voice })} where agent_id = ${id}`;
    isRefused(await h.post(`/agents/${id}/versions/1/restore`, {}));
    isRefused(await h.post(`/agents/${id}/duplicate`, {}));
    isRefused(await h.patch(`/agents/${id}`, { greeting: "Ho" }));
    expect(outcome(await h.patch(`/agents/${id}`, { voice: null }))).toEqual([200, undefined]);
  });

  test("is no longer sent to the provider for an agent that already has it", async () => {
    const { voice } = await parts();
    const { id } = await make({ voice: "Mark" });
    await h.owner`update agent_versions set config = config || ${h.owner.json({ voice })} where agent_id = ${id}`;
    await h.owner`update agents set compared_at = now() - interval '25 hours' where id = ${id}`;
    await queueSystemJob(h, "agents.sweep");
    await until(async () => !(await upstreamOf(id)).callTemplate.voice);
    await h.patch(`/agents/${id}`, { voice: "Mark" });
    const pinned = await h.post("/calls", { agentId: id, agentVersion: 1, medium: { type: "web" } });
    expect(outcome(pinned)).toEqual([201, undefined]);
    const { requests } = await h.simulator.requests();
    const asked = requests.filter(({ path }: { path: string }) => path === "/api/calls");
    expect(asked.map(({ body }: { body: { voice?: string } }) => body.voice)).toEqual([undefined]);
  });
});

describe("the versions of an agent", () => {
  test("are listed newest first with the changed fields, page by page, and can be read in full", async () => {
    const { id } = await make();
    await h.patch(`/agents/${id}`, { greeting: "Hi", temperature: 0.5 });
    await h.simulator.faults({ changes: { errors: [{ status: 400 }] }, applyTo: "agents" });
    await h.patch(`/agents/${id}`, { greeting: "No" });
    await h.patch(`/agents/${id}`, { name: "Night" });
    const first = await h.get(`/agents/${id}/versions?limit=3`);
    const row = ({ version, status, changed, name }: Record<string, unknown>) => [version, status, changed, name];
    expect(first.body.data.map(row)).toEqual([
      [4, "live", ["name"], "Night"],
      [3, "failed", ["greeting"], agent.name],
      [2, "retired", ["temperature", "greeting"], agent.name],
    ]);
    expect(first.body.data[0]).toMatchObject({ agentId: id, createdBy: expect.stringMatching(/^key_/) });
    const rest = await h.get(`/agents/${id}/versions?limit=3&cursor=${first.body.meta.nextCursor}`);
    expect(rest.body.data.map(row)).toEqual([[1, "retired", [], agent.name]]);
    expect(rest.body.meta.hasMore).toBe(false);
    const second = (await h.get(`/agents/${id}/versions/2`)).body.data;
    expect(second).toMatchObject({ version: 2, config: { greeting: "Hi", temperature: 0.5, tools: [] } });
    expect(outcome(await h.get(`/agents/${id}/versions/5`))).toEqual([404, "agent_version_not_found"]);
    expect(outcome(await h.get(`/agents/${id}/versions`, { key: h.bob.key }))).toEqual([404, "agent_not_found"]);
  });

  test("can be restored, by a change like any other", async () => {
    const mine = await parts();
    const { id, ...first } = await make({ voiceId: mine.voice });
    await h.patch(`/agents/${id}`, { name: "Night", voiceId: null, greeting: "Late." });
    const restored = await h.post(`/agents/${id}/versions/1/restore`, {});
    expect(restored).toMatchObject({
      status: 200,
      body: { data: { ...first, version: 3, updatedAt: expect.any(String) } },
    });
    expect((await upstreamOf(id)).callTemplate.voice).toBe(`up-${mine.voice}`);
    expect(await usesOf(id)).toEqual([`voice ${mine.voice}`]);
    expect((await h.post(`/agents/${id}/versions/1/restore`, {})).body.data.version).toBe(3);
    await h.simulator.faults({ changes: { errors: [{ status: 400 }] }, applyTo: "agents" });
    await h.patch(`/agents/${id}`, { greeting: "No" });
    expect(outcome(await h.post(`/agents/${id}/versions/4/restore`, {}))).toEqual([409, "agent_version_not_live"]);
    expect(outcome(await h.post(`/agents/${id}/versions/9/restore`, {}))).toEqual([404, "agent_version_not_found"]);
    await h.patch(`/agents/${id}`, { voiceId: null });
    await h.owner`update voices set status = 'deleted' where id = ${mine.voice}`;
    expect(outcome(await h.post(`/agents/${id}/versions/1/restore`, {}))).toEqual([404, "voice_not_found"]);
  });
});

describe("a copy of an agent", () => {
  test("is a separate agent with the live config of the first", async () => {
    const mine = await parts();
    const source = await make({ ...using(mine), metadata: { team: "north" } });
    await h.patch(`/agents/${source.id}`, { greeting: "Hello" });
    const copied = await h.post(`/agents/${source.id}/duplicate`, {});
    expect(copied.status).toBe(201);
    const { id, ...copy } = copied.body.data;
    expect(id).not.toBe(source.id);
    expect(copy).toMatchObject({
      name: `${agent.name} (copy)`,
      greeting: "Hello",
      version: 1,
      metadata: { team: "north" },
      voiceId: mine.voice,
    });
    expect((await upstreamOf(id)).name).toBe(id);
    expect(await eventsOf(id)).toEqual(["agent.created"]);
    await h.patch(`/agents/${id}`, { greeting: null });
    expect((await h.get(`/agents/${source.id}`)).body.data.greeting).toBe("Hello");
    const named = await h.post(`/agents/${source.id}/duplicate`, { name: "Second" });
    expect(named.body.data.name).toBe("Second");
    expect(outcome(await h.post(`/agents/${newId("agent")}/duplicate`, {}))).toEqual([404, "agent_not_found"]);
  });
});

describe("a deleted agent", () => {
  test("no longer exists, here or at the provider; its calls can still be read", async () => {
    const mine = await parts();
    const { id } = await make(using(mine));
    const call = (await h.post("/calls", { agentId: id, medium: { type: "web" } })).body.data;
    expect((await h.remove(`/agents/${id}`)).status).toBe(204);
    for (const answer of [
      await h.get(`/agents/${id}`),
      await h.get(`/agents/${id}/versions`),
      await h.patch(`/agents/${id}`, { name: "x" }),
      await h.remove(`/agents/${id}`),
      await h.post(`/agents/${id}/duplicate`, {}),
      await h.post("/calls", { agentId: id, medium: { type: "web" } }),
    ]) {
      expect(outcome(answer)).toEqual([404, "agent_not_found"]);
    }
    const listed = (await h.get("/agents?limit=100")).body.data.map((row: { id: string }) => row.id);
    expect(listed).not.toContain(id);
    expect((await h.get(`/calls/${call.id}`)).body.data).toMatchObject({ id: call.id, agentId: id });
    expect(await usesOf(id)).toEqual([]);
    expect(await eventsOf(id)).toEqual(["agent.created", "agent.deleted"]);
    await until(async () => !(await upstreamOf(id)));
  });

  test("cannot be deleted while it is being changed", async () => {
    const { id } = await make();
    await whileHeld(async (release) => {
      const changing = h.patch(`/agents/${id}`, { greeting: "Hi" });
      await until(async () => (await versionsOf(id)).length === 2);
      const refused = await h.remove(`/agents/${id}`);
      expect([...outcome(refused), refused.headers.get("retry-after")]).toEqual([409, "agent_busy", "1"]);
      release();
      expect((await changing).status).toBe(200);
    });
    expect((await h.remove(`/agents/${id}`)).status).toBe(204);
  });

  test("that was never created is deleted without a request to the provider", async () => {
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
    const id = pathMessage(await h.post("/agents", agent));
    const removals = () => h.owner`select j.id from graphile_worker._private_jobs j
      join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier = 'upstream.remove'`;
    const removed = async () => (await h.simulator.status()).requests["DELETE /api/agents/{agent_id}"];
    await until(async () => (await removals()).length === 0); // those of the agents before
    const before = await removed();
    expect((await h.remove(`/agents/${id}`)).status).toBe(204);
    expect(await removals()).toEqual([]);
    expect(await removed()).toBe(before);
  });
});

describe("the list of agents", () => {
  test("is filtered by name, by use, by metadata and by time of creation, combined", async () => {
    const [one, two] = [await parts(), await parts()];
    await make({ metadata: { site: "x" } });
    const a = await make({ ...using(one), name: "Zoë's 100% desk", metadata: { team: "n", site: "x" } });
    const b = await make({ ...using(two), name: "zoë at night", metadata: { team: "n" } });
    const ids = async (query: string) => {
      const { status, body } = await h.get(`/agents?limit=100&${query}`);
      expect(status).toBe(200);
      return body.data.map((row: { id: string }) => row.id);
    };
    expect(await ids(`search=${encodeURIComponent("ZOË")}`)).toEqual([b.id, a.id]);
    expect(await ids(`search=${encodeURIComponent("0%")}`)).toEqual([a.id]);
    expect(await ids("search=_")).toEqual([]);
    expect(await ids(`voiceId=${one.voice}`)).toEqual([a.id]);
    expect(await ids(`toolId=${two.tool}`)).toEqual([b.id]);
    expect(await ids(`knowledgeBaseId=${one.base}`)).toEqual([a.id]);
    expect(await ids("metadata=team:n")).toEqual([b.id, a.id]);
    expect(await ids("metadata=team:n&metadata=site:x")).toEqual([a.id]);
    expect(await ids(`metadata=team:n&voiceId=${two.voice}`)).toEqual([b.id]);
    expect(await ids(`metadata=team:n&createdAfter=${b.createdAt}`)).toEqual([b.id]);
    expect(await ids(`metadata=team:n&createdBefore=${b.createdAt}`)).toEqual([a.id]);
    expect(outcome(await h.get(`/agents?voiceId=${newId("voice")}`))).toEqual([404, "voice_not_found"]);
  });
});

describe("a call during a change", () => {
  test("waits for a moment and uses the new version", async () => {
    const { id } = await make();
    const { asClient } = h.deps.db;
    await whileHeld(async (release) => {
      const changing = h.patch(`/agents/${id}`, { greeting: "New" });
      await until(async () => (await versionsOf(id)).length === 2);
      h.deps.db.asClient = (entry, work, mode) =>
        asClient(entry, work, mode).catch((error) => {
          if (error instanceof ApiError && error.errorCode === "agent_busy") release(); // from now on the call waits
          throw error;
        });
      const placed = await h.post("/calls", { agentId: id, medium: { type: "web" } });
      expect(placed).toMatchObject({ status: 201, body: { data: { agentVersion: 2 } } });
      expect((await changing).status).toBe(200);
    }).finally(() => {
      h.deps.db.asClient = asClient;
    });
  });

  test("is refused if the change takes longer, and costs nothing", async () => {
    const { id } = await make();
    await whileHeld(async (release) => {
      const changing = h.patch(`/agents/${id}`, { greeting: "New" });
      await until(async () => (await versionsOf(id)).length === 2);
      const refused = await h.post("/calls", { agentId: id, medium: { type: "web" } });
      expect([...outcome(refused), refused.headers.get("retry-after")]).toEqual([409, "agent_busy", "1"]);
      expect(await h.owner`select id from calls where agent_id = ${id}`).toHaveLength(0);
      release();
      expect((await changing).status).toBe(200);
    });
  });
});

const outcome = ({ status, body }: TestResponse) => [status, (body.error?.data ?? body.error)?.code];
const pathsOf = ({ body }: TestResponse): string[] => body.error.details.map(({ path }: { path: string }) => path);
const pathMessage = ({ body }: TestResponse): string =>
  body.error.details.find(({ path }: { path: string }) => path === "id").id;

/** Holds changes back from the provider until they are released. */
async function whileHeld(work: (release: () => void) => Promise<void>) {
  const { ultravox } = h.deps.providers;
  const { updateAgent } = ultravox;
  const held = Promise.withResolvers<void>();
  ultravox.updateAgent = async (...asked) => {
    await held.promise;
    return updateAgent(...asked);
  };
  try {
    await work(held.resolve);
  } finally {
    held.resolve();
    ultravox.updateAgent = updateAgent;
  }
}

async function versionsOf(id: string): Promise<string[]> {
  const rows = await h.owner`select version, status from agent_versions where agent_id = ${id} order by version`;
  return rows.map(({ version, status }) => `${version} ${status}`);
}

async function eventsOf(id: string): Promise<string[]> {
  const rows = await h.owner`select type from events where subject_id = ${id} order by sequence`;
  return rows.map(({ type }) => type);
}

async function usesOf(id: string): Promise<string[]> {
  const rows = await h.owner`select kind, target_id from agent_uses where agent_id = ${id} order by 1, 2`;
  return rows.map(({ kind, target_id }) => `${kind} ${target_id}`);
}

async function upstreamOf(id: string) {
  const response = await fetch(`${h.simulator.url}/api/agents?search=${id}`, {
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
  });
  // biome-ignore lint/suspicious/noExplicitAny: the provider's own format, to be inspected
  const { results } = (await response.json()) as { results: any[] };
  return results[0];
}

/** A tool's secret, as PUT /auth/providers/custom-<name> stores it. */
async function credentialFor(provider: string, value: string) {
  const { clientId } = h.ada;
  const credential = newId("credential");
  const ring = await h.deps.providers.vault.keys(clientId, "provider_credential");
  await h.owner`insert into credentials (client_id, id, provider, prefix, sealed)
    values (${clientId}, ${credential}, ${provider}, ${value.slice(0, 3)}, ${ring.seal(JSON.stringify({ value }), credential)})`;
  return { credential };
}

async function authenticate(tool: string, auth: Record<string, string>) {
  const definition = {
    ...{ type: "http", url: "https://example.com", method: "GET", auth, timeoutSeconds: 20, reaction: "speaks" },
    ...{ parameters: [], staticParameters: [], automaticParameters: [], staticResponse: null },
  };
  await h.owner`update tools set kind = 'http', config = ${h.owner.json({ definition })} where id = ${tool}`;
}
