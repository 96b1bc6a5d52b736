import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { describe, expect, test } from "vitest";
import { eventExamples } from "../../db/event-examples.ts";
import { catalogue, emit, eventTypes } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { exampleEvent } from "../../edge/openapi/webhooks.ts";
import { busTimer } from "../../jobs/bus.ts";
import { appRouter } from "../../routers/index.ts";
import { hook } from "../contract/endpoints/core.ts";
import { startTestApp, until } from "../support/app.ts";

const h = await startTestApp({ workers: true });
const { ada, bob } = h;

function say(name: string, { id = newId("agent"), who = ada } = {}) {
  return h.deps.db.asClient({ clientId: who.clientId }, (tx) =>
    emit(tx, "agent.created", id, { id, name, status: "active", version: 1 }),
  );
}

describe("an event", () => {
  test("is shown with its deliveries, and is nobody else's", async () => {
    const endpoint = { ...hook, url: "http://127.0.0.1:1/hooks", eventTypes: ["agent.created"] };
    const { id: endpointId } = (await h.post("/webhooks", endpoint)).body.data;
    await say("told");
    const [listed] = (await h.get("/events?type=agent.created&limit=1")).body.data;
    const shown = await until(async () => {
      const { data } = (await h.get(`/events/${listed.id}`)).body;
      return data.deliveries[0]?.attemptCount >= 1 && data;
    });
    const { deliveries, ...event } = shown;
    expect(event).toEqual(listed);
    expect(deliveries).toEqual([
      expect.objectContaining({ endpointId, status: "pending", lastStatus: null, lastError: expect.any(String) }),
    ]);
    expect((await h.get(`/webhooks/deliveries/${deliveries[0].id}`)).body.data).toMatchObject({ eventId: event.id });

    expect((await h.get(`/events/${event.id}`, { key: bob.key })).body.error.code).toBe("event_not_found");
    expect((await h.get(`/events/${newId("event")}`)).body.error.code).toBe("event_not_found");
    await h.remove(`/webhooks/${endpointId}`);
  });

  test("is found by its type and the kind of types, its subject and the kind of subjects, and the time", async () => {
    const id = newId("agent");
    await say("early", { id });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await say("late", { id });
    await h.post("/webhooks", hook); // statuses nothing, or something else
    const found = async (query: string) => {
      const answer = await h.get(`/events?subjectId=${id}&${query}`);
      expect(answer.status).toBe(200);
      return answer.body.data.map(({ data }: { data: { name: string } }) => data.name);
    };
    const [late] = (await h.get(`/events?subjectId=${id}`)).body.data;
    expect(await found("types=agent.*")).toEqual(["late", "early"]);
    expect(await found("types=call.*&types=agent.created")).toEqual(["late", "early"]);
    expect(await found("types=call.*&types=agent.deleted")).toEqual([]);
    // The tail shows nothing beside a transaction that began before and is still open, anywhere in the server.
    const tailed = (query: string) => expect.poll(() => found(`${query}&order=asc`), { timeout: 60_000 });
    await tailed("subjectType=agent").toEqual(["early", "late"]);
    expect(await found("subjectType=call")).toEqual([]);
    expect(await found(`since=${late.createdAt}`)).toEqual(["late"]);
    expect(await found(`until=${late.createdAt}`)).toEqual(["early"]);
    await tailed(`until=${late.createdAt}`).toEqual(["early"]);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    expect(await found(`since=2026-01-01T00:00:00%2B02:00&until=${tomorrow}`)).toEqual(["late", "early"]);
    for (const bad of ["types=call.exploded", "subjectType=planet", "since=yesterday"]) {
      expect((await h.get(`/events?${bad}`)).status).toBe(400);
    }
    const said = async (path: string) => (await h.get(`${path}?since=yesterday`)).body.error.details;
    expect(await said("/events")).toEqual(await said("/webhooks/deliveries"));
  }, 180_000);
});

test("no bus is told of anything unless one is named", async () => {
  expect(h.deps.providers.bus).toBeNull();
  await say("untold");
  await until(async () => (await h.owner`select from worker_heartbeats`).length > 0);
  await busTimer().run({ ...h.deps, signal: new AbortController().signal });
  expect(await h.owner`select from bus_positions`).toEqual([]);
});

describe("the documentation of events", () => {
  const document = openApiDocument(appRouter, { baseUrl: "https://api.patchbay.test/api/v1", version: "1" });

  test("has every type, and nothing else, with a schema that its example fits", () => {
    expect(Object.keys(document.webhooks ?? {})).toEqual(eventTypes);
    expect(Object.keys(eventExamples).toSorted()).toEqual(eventTypes.toSorted());
    const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }));
    ajv.addSchema({ $id: "doc", ...document }, "doc");
    for (const type of eventTypes) {
      expect(() => catalogue[type].data.strict().parse(eventExamples[type])).not.toThrow();
      const { description, requestBody } = (document.webhooks![type] as { post: Told }).post;
      const { content } = requestBody;
      const { schema, example } = content["application/json"];
      const check = ajv.compile({ $ref: `doc${schema.$ref}` });
      expect([type, check(example), check.errors]).toEqual([type, true, null]);
      expect(check({ ...exampleEvent(type), type: "other" })).toBe(false);
      expect(check({ ...exampleEvent(type), data: {} })).toBe(false);
      const { data: _, ...thin } = exampleEvent(type);
      expect([type, check(thin), check.errors]).toEqual([type, true, null]);
      expect(description).toContain("`thin`");
    }
  });

  test("lists every type in docs/events.md, with what it says", () => {
    const text = readFileSync("docs/events.md", "utf8");
    const rows = eventTypes.map((type) => {
      const { subject, description: says } = catalogue[type];
      return `| \`${type}\` | \`${subject}\` | ${says} |`;
    });
    const table = ["| type | subject | |", "|---|---|---|", ...rows].join("\n");
    expect(text, `docs/events.md must hold:\n\n${table}\n`).toContain(table);
    expect(text.split("\n").filter((line) => /^\| `[a-z_]+\./.test(line))).toHaveLength(eventTypes.length);
  });
});

type Told = { description: string; requestBody: { content: Content } };
type Content = { "application/json": { schema: { $ref: string }; example: unknown } };
