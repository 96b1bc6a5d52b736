import { monitorEventLoopDelay } from "node:perf_hooks";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { extractOutput, type OutputSources } from "../../routers/calls/artifacts/output.ts";
import { startTestApp, until } from "../support/app.ts";
import { agentThat, artifactRow, called, calledWith, place, recorded } from "../support/artifacts.ts";
import { hurry, queueSystemJob, storyOf, waitingJobs } from "../support/calls.ts";

const nothing: OutputSources = {
  ...{ summary: null, shortSummary: null, outcome: null, endReason: null, durationSeconds: null },
  ...{ messages: [], finalState: null, variables: {} },
};
const tool = (toolName: string, given: unknown) => ({ role: "tool_call", toolName, text: JSON.stringify(given) });
const object = (properties: Record<string, object | true>, more: object = {}) => ({
  type: "object",
  properties,
  ...more,
});

describe("an output", () => {
  test("uses the source of each property", () => {
    const schema = object({
      a: { "x-source": "summary" },
      b: { "x-source": "shortSummary" },
      c: { "x-source": "outcome" },
      d: { "x-source": "endReason" },
      e: { "x-source": "durationSeconds" },
      f: { "x-source": "variable:name" },
      g: { "x-source": "status:order.items.0" },
      h: { "x-source": "status:order.id" },
      i: { "x-source": "tool:book.when" },
      j: { "x-source": "tool:cancel.when" },
      k: { "x-source": "tool:book.a.b" },
    });
    const sources: OutputSources = {
      ...{ summary: "long", shortSummary: "short", outcome: "completed", endReason: "hangup", durationSeconds: 0 },
      messages: [
        tool("book", { when: "mon", "a.b": 1 }),
        tool("cancel", { when: "tue" }),
        tool("book", { when: "wed" }),
      ],
      finalState: { order: { id: 7, items: ["x"] } },
      variables: { name: "Ada" },
    };
    expect(extractOutput(schema, sources)).toEqual({
      output: {
        ...{ a: "long", b: "short", c: "completed", d: "hangup", e: 0, f: "Ada", h: 7 },
        ...{ i: "wed", j: "tue", k: 1 },
      },
      problems: [],
    });
  });

  test("without a source uses the last tool call's argument of that name, else the final state's field, else nothing", () => {
    const schema = object({ when: true, mood: {}, other: {} });
    const messages = [
      tool("x", { when: 1, mood: null }),
      tool("y", { when: 2 }),
      { ...tool("z", { when: 3 }), role: "tool_result" },
    ];
    const { output } = extractOutput(schema, { ...nothing, messages, finalState: { when: 9, mood: "good", extra: 1 } });
    expect(output).toEqual({ when: 2, mood: null });
    expect(extractOutput(schema, { ...nothing, finalState: { mood: "good" } }).output).toEqual({ mood: "good" });
    expect(extractOutput(schema, nothing)).toEqual({ output: {}, problems: [] });
  });

  test("converts numbers and booleans from text where the schema wants them, and nothing else", () => {
    const schema = object({
      n: { type: "number" },
      i: { type: "integer" },
      b: { type: "boolean" },
      s: { type: ["string", "number"] },
      deep: object({ list: { type: "array", items: { type: "number" } } }),
      bad: { type: "number" },
      hex: { type: "number" },
      one: { type: "boolean" },
      t: { type: "string" },
    });
    const given = {
      n: " -2.50 ",
      i: "3",
      b: "True",
      s: "4",
      deep: { list: ["1", 2] },
      bad: "two",
      hex: "0x10",
      one: "1",
      t: 5,
    };
    const { output, problems } = extractOutput(schema, { ...nothing, messages: [tool("x", given)] });
    expect(output).toEqual({ n: -2.5, i: 3, b: true, s: "4", deep: { list: [1, 2] } });
    expect(problems.map(({ path }) => path)).toEqual(["bad", "hex", "one", "t"]);
  });

  test("keeps valid fields, and reports missing and invalid fields by path", () => {
    const schema = object(
      {
        when: { type: "string", format: "date" },
        "a.b": { type: "number" },
        guest: object({ name: { type: "string" }, seats: { type: "integer" } }, { required: ["name"] }),
        mood: { enum: ["good"] },
      },
      { required: ["when", "phone"] },
    );
    const given = { when: "2026-02-30", "a.b": "x", guest: { seats: 2 }, mood: "good" };
    const { output, problems } = extractOutput(schema, { ...nothing, messages: [tool("x", given)] });
    expect(output).toEqual({ mood: "good" });
    expect(problems.map(({ path }) => path).toSorted()).toEqual(["a.b", "guest.name", "phone", "when"]);
    expect(problems.find(({ path }) => path === "phone")!.message).toBe("The field is missing.");
  });

  test("ignores arguments that are not a JSON object", () => {
    const messages = ["", "{", "[1]", "null", '"x"', "3"].map((text) => ({ ...tool("x", {}), text }));
    expect(extractOutput(object({ length: {}, x: {}, 0: {} }), { ...nothing, messages })).toEqual({
      output: {},
      problems: [],
    });
  });

  test("ignores inherited properties", () => {
    const names = ["constructor", "toString", "__proto__", "hasOwnProperty"];
    const properties = JSON.parse(`{${names.map((name) => `"${name}": {}`).join()}}`);
    expect(extractOutput(object(properties), { ...nothing, messages: [tool("x", {})], finalState: {} }).output).toEqual(
      {},
    );
    const { output } = extractOutput(object(properties), {
      ...nothing,
      finalState: JSON.parse('{"__proto__": {"x": 1}}'),
    });
    expect(Object.keys(output)).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(output)).toBe(Object.prototype);
  });

  test("with a pattern that never terminates times out, and other schemas still work", () => {
    const schema = object({ x: { type: "string", pattern: "^(a+)+$" } });
    const stuck = extractOutput(schema, { ...nothing, finalState: { x: `${"a".repeat(50)}!` } });
    expect(stuck).toEqual({ output: {}, problems: [{ path: "", message: expect.stringContaining("too long") }] });
    expect(extractOutput(schema, { ...nothing, finalState: { x: "aa" } })).toEqual({
      output: { x: "aa" },
      problems: [],
    });
    const broken = extractOutput(object({ x: { pattern: "((" } }), nothing);
    expect(broken.problems).toHaveLength(1);
  });

  test("of a schema that timed out has a shorter timeout, and quick checks still succeed", () => {
    const schema = object({ x: { type: "string", pattern: "^(b+)+$" } });
    const stuck = { ...nothing, finalState: { x: `${"b".repeat(50)}!` } };
    const startedAt = performance.now();
    for (let n = 0; n < 20; n++) expect(extractOutput(schema, stuck).problems).toHaveLength(1);
    expect(performance.now() - startedAt).toBeLessThan(1_500);
    expect(extractOutput(schema, { ...nothing, finalState: { x: "bb" } }).output).toEqual({ x: "bb" });
  });

  test("is checked by its schema, also after the schema left the cache", () => {
    const schemaOf = (n: number) => object({ x: { const: n } });
    for (let n = 0; n < 450; n++) {
      const { output } = extractOutput(schemaOf(n % 250), { ...nothing, finalState: { x: n % 250 } });
      expect(output).toEqual({ x: n % 250 });
    }
    expect(extractOutput(schemaOf(1), { ...nothing, finalState: { x: 2 } }).problems).toHaveLength(1);
  });

  test("never throws and has only valid properties, whatever the model sends", () => {
    const schema = object({
      a: { type: "integer" },
      b: { type: "string", maxLength: 3 },
      c: object({ d: { type: "boolean" } }),
    });
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.string(),
            fc.json(),
            fc
              .record({ a: fc.jsonValue(), b: fc.jsonValue(), c: fc.jsonValue() })
              .map((given) => JSON.stringify(given)),
          ),
        ),
        (texts) => {
          const messages = texts.map((text) => ({ role: "tool_call", toolName: "x", text }));
          const { output } = extractOutput(schema, { ...nothing, messages });
          expect(Object.keys(output).filter((name) => !["a", "b", "c"].includes(name))).toEqual([]);
          if ("a" in output) expect(Number.isInteger(output.a)).toBe(true);
          if ("b" in output) expect(typeof output.b === "string" && [...output.b].length <= 3).toBe(true);
        },
      ),
      { seed: 20_261_125 },
    );
  });
});

const h = await startTestApp({ workers: true, speed: 100, credits: 10_000 });
afterEach(() => h.simulator.faults({}));

const booking = object(
  {
    date: { type: "string" },
    guests: { type: "integer" },
    mood: { type: "string" },
    name: { type: "string", "x-source": "variable:name" },
    short: { type: "string", "x-source": "shortSummary" },
    how: { type: "string", "x-source": "outcome" },
  },
  { required: ["date", "guests"] },
);
const declared = (name: string) => [{ name, type: "string", required: false }];
const agentId = await agentThat(h, { outputSchema: booking, variables: declared("name") });
const completed = async (id: string) =>
  (await h.owner`select data from events where subject_id = ${id} and type in ('call.completed', 'call.failed')`)[0]!
    .data;

describe("a call of an agent with an output schema", () => {
  test("has the same output in the call and in its last event", async () => {
    const { id } = await calledWith(
      h,
      agentId,
      [
        { name: "book", arguments: { date: "monday", guests: "2" }, state: { mood: "bad" } },
        { name: "book", arguments: { date: "tuesday" }, state: { mood: "good" } },
      ],
      { variables: { name: "Ada" } },
    );
    const output = {
      date: "tuesday",
      guests: 2,
      mood: "good",
      name: "Ada",
      how: "completed",
      short: expect.any(String),
    };
    const { body } = await h.get(`/calls/${id}`);
    expect(body.data).toMatchObject({ output, outputStatus: "ready", outputProblems: [], transcriptStatus: "ready" });
    expect((await completed(id)).output).toEqual(body.data.output);
    expect((await artifactRow(h, id)).final_state).toEqual({ mood: "good" });
    const { messages } = (await h.get(`/calls/${id}/transcript`)).body.data;
    expect(messages.filter(({ role }: { role: string }) => role === "tool_call")).toHaveLength(2);
  });

  test("lists the problems and keeps the valid fields", async () => {
    const { id } = await calledWith(h, agentId, [{ name: "book", arguments: { date: 5, guests: "3" } }]);
    const { body } = await h.get(`/calls/${id}`);
    expect(body.data).toMatchObject({ outputStatus: "invalid", output: { guests: 3, how: "completed" } });
    expect(body.data.outputProblems).toEqual([{ path: "date", message: "Must be of the type string." }]);
    expect(body.data.output).not.toHaveProperty("date");
  });

  test("replaces characters that the database cannot store", async () => {
    const { id } = await calledWith(h, agentId, [
      {
        name: "bo\u0000ok",
        arguments: { date: "a\u0000b\ud800", guests: 1 },
        state: { "k\u0000": ["\ud800", 1e300] },
      },
    ]);
    const row = await artifactRow(h, id);
    expect(row).toMatchObject({ output: { date: "a\ufffdb\ufffd", guests: 1 }, transcript_status: "ready" });
    expect(row.final_state).toEqual({ "k\ufffd": ["\ufffd", 1e300] });
  });

  test("without a schema has no output", async () => {
    const { id } = await called(h, await agentThat(h, {}));
    expect((await h.get(`/calls/${id}`)).body.data).toMatchObject({
      output: null,
      outputStatus: "none",
      outputProblems: [],
    });
    expect((await completed(id)).output).toBeNull();
  });
});

describe("a transcript", () => {
  test("is found by its words, each stored once, and by no other word", async () => {
    const plain = await agentThat(h, {});
    const { id } = await called(h, plain);
    const { text } = (await h.get(`/calls/${id}/transcript`)).body.data;
    const words: string[] = text
      .replace(/^(agent|user): /gm, "")
      .toLowerCase()
      .match(/[\p{L}\p{N}]{2,}/gu);
    const rows = await h.owner`select word from call_words where call_id = ${id}`;
    expect(rows.map(({ word }) => word).toSorted()).toEqual([...new Set(words)].toSorted());
    const search = async (wanted: string) =>
      (await h.get(`/calls?agentId=${plain}&search=${encodeURIComponent(wanted)}`)).body.data.map(
        (call: { id: string }) => call.id,
      );
    expect(await search(words.slice(0, 3).join(" "))).toEqual([id]);
    expect(await search("absent")).toEqual([]);
  });

  test("that arrives late is completed once: the outcome stays, search and output are added", async () => {
    await h.simulator.faults({ reads: { errors: [{ status: 404, times: 1_000_000 }] } });
    const id = await place(h, agentId, {}, "+14155550015");
    await until(async () => (await artifactRow(h, id)).status === "active");
    const { provider_call_id: upstream } = await artifactRow(h, id);
    await h.simulator.control(`calls/${upstream}/tool`, { name: "book", arguments: { date: "friday", guests: 4 } });
    await h.simulator.control(`calls/${upstream}/end`);
    await until(async () => {
      await hurry(h, "calls.finalise");
      return (await artifactRow(h, id)).outcome_final;
    }, 25);
    expect(await artifactRow(h, id)).toMatchObject({ transcript_status: "missing", output_status: "none" });
    const story = await storyOf(h, id);
    expect(story).not.toContain("call.transcript.ready");
    expect((await h.get(`/calls/${id}/transcript`)).body.data).toMatchObject({ status: "missing", messages: [] });

    await h.simulator.faults({});
    await h.owner`update calls set ended_at = now() - interval '20 minutes' where id = ${id}`;
    for (let n = 0; n < 3; n++) await queueSystemJob(h, "artifacts.sweep");
    await until(async () => (await artifactRow(h, id)).transcript_status === "ready");
    expect(await artifactRow(h, id)).toMatchObject({ outcome: "completed", output: { date: "friday", guests: 4 } });
    await until(async () => (await waitingJobs(h, "artifacts.sweep")).length === 0);
    const after = await storyOf(h, id);
    expect(after.filter((type) => type === "call.transcript.ready")).toHaveLength(1);
    expect(after.filter((type) => type === "call.completed" || type === "call.failed")).toHaveLength(1);
    expect((await h.get(`/calls/${id}/transcript`)).body.data.messages.length).toBeGreaterThan(1);
    expect((await h.owner`select from call_words where call_id = ${id}`).length).toBeGreaterThan(3);
  }, 40_000);
});

describe("a rerun", () => {
  const rerunOf = (agent: string, body: object = {}, options = {}) =>
    h.post(`/agents/${agent}/output/rerun`, body, options);
  const ended = (id: string) =>
    until(async () => {
      const { body } = await h.get(`/calls/output-reruns/${id}`);
      return body.data.status === "running" ? null : body.data;
    });
  /** Makes a new version of the agent's schema live through the API. */
  const change = async (agent: string, outputSchema: object | null) => {
    const { status, body } = await h.patch(`/agents/${agent}`, { outputSchema });
    expect([status, body.error]).toEqual([200, undefined]);
  };

  test("fills the past calls of one agent with its live schema, and reports its progress", async () => {
    const own = await agentThat(h, { outputSchema: booking, systemPrompt: "Be brief." });
    const other = await calledWith(h, agentId, [{ name: "book", arguments: { date: "x", guests: 1 } }]);
    const one = await calledWith(h, own, [{ name: "book", arguments: { date: "monday", guests: 2 } }]);
    const two = await calledWith(h, own, [{ name: "rate", arguments: { stars: "5" } }]);
    const unread = await called(h, own, {}, "+14155550001");
    await h.owner`update calls set transcript_status = 'missing', output = '{"kept": true}' where id = ${unread.id}`;
    await recorded(h, one.id);
    const events = (await h.owner`select from events where subject_id = ${one.id}`).length;
    await change(own, object({ date: { type: "string" }, stars: { type: "integer" } }));
    const { status, body } = await rerunOf(own);
    expect(status).toBe(202);
    expect(body.data).toMatchObject({ agentId: own, agentVersion: 2, status: "running", done: 0, total: null });
    expect(await ended(body.data.id)).toMatchObject({ status: "succeeded", done: 2, total: 2 });
    expect(await artifactRow(h, one.id)).toMatchObject({
      output: { date: "monday" },
      output_status: "ready",
      output_problems: null,
    });
    expect(await artifactRow(h, two.id)).toMatchObject({ output: { stars: 5 } });
    expect((await artifactRow(h, other.id)).output, "another agent's").toMatchObject({ guests: 1 });
    expect((await artifactRow(h, unread.id)).output, "no transcript").toEqual({ kept: true });
    expect((await h.owner`select from events where subject_id = ${one.id}`).length, "no events").toBe(events);
    expect((await h.get(`/calls/output-reruns/${body.data.id}`, { key: h.bob.key })).body.error.code).toBe(
      "workflow_not_found",
    );
    expect((await rerunOf(own, {}, { key: h.bob.key })).body.error.code).toBe("agent_not_found");
  }, 30_000);

  test("processes many calls in batches, once each, within its time range, also with concurrent requests", async () => {
    const own = await agentThat(h, { outputSchema: object({ n: { type: "string", "x-source": "variable:n" } }) });
    const { id } = await called(h, own);
    const copies = await copiesOf(id, 130, (n) => ({
      variables: { n: `v${n}` },
      created_at: new Date(Date.UTC(2026, 0, 1 + n)),
    }));
    const responses = await h.owner.begin(async (tx) => {
      await tx`select from calls where id = ${copies[0]!} for update`; // the run cannot finish before all requests are sent
      return Promise.all([1, 2, 3].map(() => rerunOf(own, { createdBefore: "2026-05-01T02:00:00+02:00" })));
    });
    expect(responses.map(({ status }) => status).toSorted()).toEqual([202, 409, 409]);
    expect(responses.find(({ status }) => status === 409)!.body.error.code).toBe("output_rerun_running");
    const run = await ended(responses.find(({ status }) => status === 202)!.body.data.id);
    expect(run).toMatchObject({
      status: "succeeded",
      done: 120,
      total: 120,
      createdBefore: "2026-05-01T00:00:00.000Z",
    });
    const filled =
      await h.owner`select variables, output from calls where agent_id = ${own} and output_status = 'ready' and provider_call_id is null`;
    expect(filled).toHaveLength(120);
    for (const { variables, output } of filled) expect(output).toEqual(variables);
  }, 30_000);

  test("with a pattern that never terminates does not block the process, and finishes", async () => {
    const own = await agentThat(h, {
      outputSchema: object({ v: { type: "string", pattern: "^(c+)+$", "x-source": "variable:v" } }),
      variables: declared("v"),
    });
    const { id } = await called(h, own, { variables: { v: `${"c".repeat(40)}!` } });
    const copies = await copiesOf(id, 8, () => ({}));
    const stalls = monitorEventLoopDelay({ resolution: 10 });
    await change(own, object({ v: { type: "string", pattern: "^(c+)+$|^$", "x-source": "variable:v" } }));
    stalls.enable();
    const run = await ended((await rerunOf(own)).body.data.id);
    stalls.disable();
    expect(run).toMatchObject({ status: "succeeded", done: 9, total: 9 });
    expect(stalls.max / 1e6).toBeLessThan(1_000);
    for (const copy of copies) {
      expect(await artifactRow(h, copy)).toMatchObject({
        output: {},
        output_status: "invalid",
        output_problems: [{ path: "", message: "The output schema takes too long to check. Simplify its patterns." }],
      });
    }
  }, 60_000);

  test("keeps changes and erasures of a call that happen during the run", async () => {
    const own = await agentThat(h, { outputSchema: object({ s: { type: "string", "x-source": "summary" } }) });
    const { id } = await called(h, own);
    const [changed, erased, other] = await copiesOf(id, 3, () => ({ summary: "before" }));
    const { body } = await h.owner.begin(async (tx) => {
      await tx`select from calls where id = any(${[changed!, erased!]}) for update`;
      const response = await rerunOf(own);
      await until(async () => {
        const waiting = await h.owner`select from pg_stat_activity where datname = current_database()
          and wait_event_type = 'Lock' and query like '%from "calls"%for update'`;
        return waiting.length > 0;
      });
      await tx`update calls set summary = 'after' where id = ${changed!}`;
      await tx`update calls set summary = null, output = null, output_status = 'none', transcript_status = 'erased'
        where id = ${erased!}`;
      return response;
    });
    expect(await ended(body.data.id)).toMatchObject({ status: "succeeded", done: 4 });
    expect((await artifactRow(h, changed!)).output).toEqual({ s: "after" });
    expect(await artifactRow(h, erased!)).toMatchObject({ output: null, output_status: "none" });
    expect((await artifactRow(h, other!)).output).toEqual({ s: "before" });
  }, 30_000);

  /** Billed copies of this call with the given differences. */
  async function copiesOf(id: string, count: number, more: (n: number) => object): Promise<string[]> {
    const [row] = await h.owner`select * from calls where id = ${id}`;
    const copies = Array.from({ length: count }, (_, n) => ({
      ...row,
      id: `${id.slice(0, -4)}${String(n).padStart(4, "0")}`,
      provider_call_id: null,
      output: null,
      output_status: "none",
      check_at: null,
      ...more(n),
    }));
    await h.owner`insert into calls ${h.owner(copies)}`;
    return copies.map((copy) => copy.id);
  }

  test("is refused for an agent without a schema", async () => {
    const plain = await agentThat(h, {});
    expect((await rerunOf(plain)).body.error).toMatchObject({ code: "output_schema_missing" });
    const bad = await rerunOf(plain, { createdAfter: "yesterday" });
    expect(bad.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "createdAfter" }] });
  });
});
