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

function emitCreated(name: string, { id = newId("agent"), who = ada } = {}) {
  return h.deps.db.asClient({ clientId: who.clientId }, (tx) =>
    emit(tx, "agent.created", id, { id, name, status: "active", version: 1 }),
  );
}

describe("an event", () => {
  test("is returned with its deliveries, and only to its client", async () => {
    const endpoint = { ...hook, url: "http://127.0.0.1:1/hooks", eventTypes: ["agent.created"] };
    const { id: endpointId } = (await h.post("/webhooks", endpoint)).body.data;
    await emitCreated("delivered");
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

  test("is filtered by type, type pattern, subject, subject type and time", async () => {
    const id = newId("agent");
    await emitCreated("early", { id });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await emitCreated("late", { id });
    await h.post("/webhooks", hook); // emits no agent event
    const found = async (query: string) => {
      const response = await h.get(`/events?subjectId=${id}&${query}`);
      expect(response.status).toBe(200);
      return response.body.data.map(({ data }: { data: { name: string } }) => data.name);
    };
    const [late] = (await h.get(`/events?subjectId=${id}`)).body.data;
    expect(await found("types=agent.*")).toEqual(["late", "early"]);
    expect(await found("types=call.*&types=agent.created")).toEqual(["late", "early"]);
    expect(await found("types=call.*&types=agent.deleted")).toEqual([]);
    // The tail stops at the oldest open transaction of the whole server.
    const tailed = (query: string) => expect.poll(() => found(`${query}&order=asc`), { timeout: 60_000 });
    await tailed("subjectType=agent").toEqual(["early", "late"]);
    expect(await found("subjectType=call")).toEqual([]);
    expect(await found(`createdAfter=${late.createdAt}`)).toEqual(["late"]);
    expect(await found(`createdBefore=${late.createdAt}`)).toEqual(["early"]);
    await tailed(`createdBefore=${late.createdAt}`).toEqual(["early"]);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    expect(await found(`createdAfter=2026-01-01T00:00:00%2B02:00&createdBefore=${tomorrow}`)).toEqual([
      "late",
      "early",
    ]);
    for (const bad of ["types=call.exploded", "subjectType=planet", "createdAfter=yesterday"]) {
      expect((await h.get(`/events?${bad}`)).status).toBe(400);
    }
    const errorDetails = async (path: string) => (await h.get(`${path}?createdAfter=yesterday`)).body.error.details;
    expect(await errorDetails("/events")).toEqual(await errorDetails("/webhooks/deliveries"));
  }, 180_000);
});

test("no event is sent to a bus unless one is configured", async () => {
  expect(h.deps.providers.bus).toBeNull();
  await emitCreated("unsent");
  await until(async () => (await h.owner`select from worker_heartbeats`).length > 0);
  await busTimer().run({ ...h.deps, signal: new AbortController().signal });
  expect(await h.owner`select from bus_positions`).toEqual([]);
});

describe("the documentation of events", () => {
  const document = openApiDocument(appRouter, { baseUrl: "https://api.patchbay.test/api/v1", version: "1" });

  test("has exactly the event types, each with a schema that its example matches", () => {
    expect(Object.keys(document.webhooks ?? {})).toEqual(eventTypes);
    expect(Object.keys(eventExamples).toSorted()).toEqual(eventTypes.toSorted());
    const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }));
    ajv.addSchema({ $id: "doc", ...document }, "doc");
    for (const type of eventTypes) {
      expect(() => catalogue[type].data.strict().parse(eventExamples[type])).not.toThrow();
      const { description, requestBody } = (document.webhooks![type] as { post: Operation }).post;
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

  test("lists every type with its description in docs/events.md", () => {
    const text = readFileSync("docs/events.md", "utf8");
    const rows = eventTypes.map((type) => {
      const { subject, description: says } = catalogue[type];
      return `| \`${type}\` | \`${subject}\` | ${says} |`;
    });
    const table = ["| type | subject | |", "|---|---|---|", ...rows].join("\n");
    expect(text, `docs/events.md must contain:\n\n${table}\n`).toContain(table);
    expect(text.split("\n").filter((line) => /^\| `[a-z_]+\./.test(line))).toHaveLength(eventTypes.length);
  });
});

type Operation = { description: string; requestBody: { content: Content } };
type Content = { "application/json": { schema: { $ref: string }; example: unknown } };
