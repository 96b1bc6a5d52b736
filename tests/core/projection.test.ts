import { describe, expect, test } from "vitest";
import { z } from "zod";
import { operationsOf } from "../../edge/rest/operations.ts";
import { projectionOf } from "../../routers/core/projection.ts";
import { appRouter } from "../../routers/index.ts";
import { startTestApp } from "../support/app.ts";

const Inner = z.object({ id: z.string(), note: z.string().nullable() });

describe("an output that is copied by its schema", () => {
  test("has the fields of its schema and no others, at every depth", () => {
    const project = projectionOf(
      z.object({
        one: Inner,
        many: z.array(Inner),
        maybe: Inner.nullable(),
        named: z.record(z.string(), Inner),
        free: z.unknown(),
        kind: z.discriminatedUnion("type", [
          z.object({ type: z.literal("a"), a: z.int() }),
          z.object({ type: z.enum(["b", "c"]), b: Inner.optional() }),
        ]),
      }),
    );
    const inner = { id: "1", note: null, secret: "s" };
    const clean = { id: "1", note: null };
    const given = { one: inner, many: [inner], maybe: null, named: { x: inner }, free: { any: 1 }, secret: "s" };
    const expected = { one: clean, many: [clean], maybe: null, named: { x: clean }, free: { any: 1 } };
    const plain = (value: unknown) => JSON.parse(JSON.stringify(value));
    expect(plain(project({ ...given, kind: { type: "a", a: 1, b: 2 } }))).toEqual({
      ...expected,
      kind: { type: "a", a: 1 },
    });
    expect(plain(project({ ...given, kind: { type: "c", b: inner } }))).toEqual({
      ...expected,
      kind: { type: "c", b: clean },
    });
    expect(() => project({ ...given, kind: { type: "d" } })).toThrow();
  });

  test("has the defaults of absent fields, and what a schema changes is changed", () => {
    const project = projectionOf(
      z.object({
        list: z.array(z.string()).default([]),
        name: z.string().trim(),
        either: z.union([z.string(), Inner]),
        word: z.string().transform((text) => text.length),
      }),
    );
    expect(project({ name: " x ", either: { id: "1", note: null, secret: 1 }, word: "four" })).toEqual({
      ...{ list: [], name: "x", either: { id: "1", note: null }, word: 4 },
    });
  });

  test("is compiled for every operation", () => {
    const operations = operationsOf(appRouter).filter(({ output, meta }) => output && !meta.produces);
    expect(operations.length).toBeGreaterThan(100);
    for (const { procedure, output } of operations) expect(() => projectionOf(output!), procedure).not.toThrow();
  });
});

test("the responses of a server that does not validate them are valid", async () => {
  const h = await startTestApp({ env: { OUTPUT_VALIDATION: "shape" } });
  const made = await h.post("/agents", { name: "A", systemPrompt: "Be brief." });
  expect(made.status).toBe(201);
  const { id } = made.body.data;
  const paths = [`/agents/${id}`, "/agents", "/calls", "/webhooks", "/auth/api-keys", "/voices", "/billing/balance"];
  for (const path of paths) {
    const { status, body } = await h.get(path);
    expect(status, path).toBe(200);
    const operation = operationsOf(appRouter).find(
      ({ rest }) => rest.method === "GET" && rest.path === path.replace(id, "{id}"),
    )!;
    const data = operation.item
      ? { items: body.data, nextCursor: body.meta.nextCursor, hasMore: body.meta.hasMore }
      : body.data;
    expect((operation.output as z.ZodType).parse(data), path).toEqual(data);
  }
});
