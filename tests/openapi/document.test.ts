import { initTRPC } from "@trpc/server";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { openApiDocument, openApiJson } from "../../edge/openapi/document.ts";
import { type ErrorCode, errorCodes } from "../../routers/core/errors.ts";
import { type Meta, rest } from "../../routers/core/rest-metadata.ts";
import { findingsIn } from "./document-rules.ts";
import { lintWithRedocly } from "./redocly.ts";

const t = initTRPC.meta<Meta>().create();
const nothing = (): never => {
  throw new Error("The document is created without a call of a procedure.");
};

const AgentId = z
  .string()
  .regex(/^agent_[a-z0-9]{4}$/)
  .meta({ examples: ["agent_01k9"] });
const Voice = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stock"), name: z.string() }),
  z.object({ kind: z.literal("clone"), speed: z.int().min(1).nullable() }),
]);
const Agent = z
  .object({
    id: AgentId,
    name: z.string().meta({ examples: ["Reception"] }),
    voice: Voice,
    nickname: z.enum(["ada", "bob"]).nullable(),
    createdAt: z.date(),
    changedAt: z.date().nullable(),
    lastCall: z.object({ at: z.iso.datetime(), seconds: z.int() }).nullable(),
    labels: z.record(z.string(), z.string()),
  })
  .meta({ id: "Agent", description: "Someone who answers the phone." });
const page = z.object({ items: z.array(Agent), nextCursor: z.string().nullable(), hasMore: z.boolean() });
const provider: ErrorCode[] = ["agent_busy", "provider_rejected", "provider_unavailable"];

const router = t.router({
  agents: t.router({
    list: t.procedure
      .meta(rest("GET", "/agents", "agents:read", "List agents"))
      .input(
        z.strictObject({
          limit: z.int().min(1).max(100).default(20).describe("How many at most."),
          cursor: z.string().optional().describe("Where the last page ended."),
          since: z.date().optional(),
          kinds: z.array(z.enum(["stock", "clone"])).optional(),
          size: z.union([z.literal("max"), z.int()]).optional(),
          metadata: z.record(z.string(), z.string()).optional().describe("Only agents with these pairs."),
        }),
      )
      .output(page)
      .query(nothing),
    get: t.procedure
      .meta(rest("GET", "/agents/{id}", "agents:read", "Get an agent", { errors: ["agent_not_found"] }))
      .input(z.strictObject({ id: AgentId }))
      .output(Agent)
      .query(nothing),
    create: t.procedure
      .meta(
        rest("POST", "/agents", "agents:write", "Create an agent", {
          errors: provider,
          description: "At the provider too.",
          accepted: { description: "The outcome is not known yet.", example: { nickname: "bob" } },
        }),
      )
      .input(
        z.strictObject({
          name: z.string().min(6),
          voice: Voice,
          from: z.date().optional(),
          tone: z.string().optional().meta({ example: "calm", redact: "personal" }),
        }),
      )
      .output(Agent)
      .mutation(nothing),
    update: t.procedure
      .meta(rest("PATCH", "/agents/{id}", "agents:write", "Change an agent", { errors: ["agent_not_found"] }))
      .input(
        z
          .strictObject({ id: AgentId, name: z.string().optional() })
          .refine(() => true)
          .meta({ examples: [{ id: "agent_01k9", name: "Front desk" }] }),
      )
      .output(Agent)
      .mutation(nothing),
    remove: t.procedure
      .meta(rest("DELETE", "/agents/{id}", "agents:write", "Delete an agent", { errors: ["agent_not_found"] }))
      .input(z.strictObject({ id: AgentId }))
      .output(z.void())
      .mutation(nothing),
    test: t.procedure
      .meta(rest("POST", "/agents/{id}/test", "agents:write", "Try an agent", { status: 202 }))
      .input(z.strictObject({ id: AgentId }))
      .output(z.void())
      .mutation(nothing),
  }),
  auth: t.router({
    me: t.procedure
      .meta(rest("GET", "/auth/me", null, "Who am I"))
      .output(z.object({ id: z.string() }))
      .query(nothing),
  }),
  oddments: t.procedure
    .meta(rest("GET", "/oddments", "events:read", "Odd"))
    .output(z.object({ id: z.string() }))
    .query(nothing),
});

const options = { baseUrl: "http://localhost:3000/api/v1", version: "1.2.3" };
const document = openApiDocument(router, options);
const { schemas } = document.components;
const operation = (method: string, path: string) => document.paths[path]![method]!;
const answer = (method: string, path: string, status: number) => {
  const response = operation(method, path).responses[status]!;
  return "content" in response ? response.content?.["application/json"] : undefined;
};
/** Follows one reference. */
const resolved = (part: object): Record<string, unknown> =>
  "$ref" in part && typeof part.$ref === "string"
    ? (part.$ref
        .slice(2)
        .split("/")
        .reduce((at: unknown, key) => (at as Record<string, unknown>)[key], document) as Record<string, unknown>)
    : { ...part };
const parameterNames = (method: string, path: string) =>
  operation(method, path).parameters.map((each) => resolved(each).name);

describe("the document", () => {
  test("names every operation after its procedure, with its required scope", () => {
    const made = operation("post", "/agents");
    expect(made.operationId).toBe("agentsCreate");
    expect(made["x-required-scope"]).toBe("agents:write");
    expect(made.description).toContain("`agents:write`");
    expect(made.security).toEqual([{ apiKey: [] }, { accessToken: [] }]);
    expect(operation("get", "/auth/me")["x-required-scope"]).toBeNull();
    expect(operation("get", "/auth/me").security).toHaveLength(2);
    expect(document.tags?.map(({ name }) => name)).toEqual(["auth", "agents", "oddments"]);
  });

  test("has the real statuses", () => {
    const successes = (method: string, path: string) =>
      Object.keys(operation(method, path).responses).filter((status) => status < "300");
    expect(successes("get", "/agents")).toEqual(["200"]);
    expect(successes("post", "/agents")).toEqual(["201", "202"]);
    expect(successes("delete", "/agents/{id}")).toEqual(["204"]);
    expect(successes("post", "/agents/{id}/test")).toEqual(["202"]);
    expect(answer("delete", "/agents/{id}", 204)).toBeUndefined();
  });

  test("wraps every response in the envelope, with a list's cursor in meta", () => {
    expect(answer("post", "/agents", 201)?.schema).toEqual({ $ref: "#/components/schemas/AgentsCreateResponse" });
    expect(schemas.AgentsCreateResponse).toMatchObject({
      required: ["data", "meta"],
      properties: { data: { $ref: "#/components/schemas/Agent" }, meta: { $ref: "#/components/schemas/ResponseMeta" } },
    });
    expect(schemas.AgentsListResponse?.properties).toEqual({
      data: { type: "array", items: { $ref: "#/components/schemas/Agent" } },
      meta: { $ref: "#/components/schemas/PageMeta" },
    });
    expect(schemas.PageMeta?.required).toEqual(["requestId", "nextCursor", "hasMore"]);
  });

  test("has strict bodies, also for refined schemas, without the path parameters", () => {
    expect(schemas.AgentsCreateRequest).toMatchObject({ additionalProperties: false, required: ["name", "voice"] });
    expect(schemas.AgentsUpdateRequest).toMatchObject({
      additionalProperties: false,
      examples: [{ name: "Front desk" }],
    });
    expect(Object.keys(schemas.AgentsUpdateRequest!.properties!)).toEqual(["name"]);
    expect(operation("patch", "/agents/{id}").requestBody?.required).toBe(false);
    expect(operation("post", "/agents").requestBody?.required).toBe(true);
    expect(operation("post", "/agents/{id}/test").requestBody).toBeUndefined();
  });

  test("writes dates as date-time everywhere", () => {
    const { properties } = schemas.Agent!;
    expect(properties?.createdAt).toEqual({ type: "string", format: "date-time" });
    expect(properties?.changedAt).toEqual({ type: ["string", "null"], format: "date-time" });
    expect(properties?.lastCall?.properties?.at).toEqual({ type: "string", format: "date-time" });
    expect(schemas.AgentsCreateRequest?.properties?.from).toEqual({ type: "string", format: "date-time" });
    expect(
      operation("get", "/agents").parameters.find((each) => "name" in each && each.name === "since"),
    ).toMatchObject({
      schema: { type: "string", format: "date-time" },
    });
  });

  test("does not contain our own schema metadata", () => {
    expect(schemas.AgentsCreateRequest?.properties?.tone).toEqual({ type: "string", examples: ["calm"] });
  });

  test("writes null as a type", () => {
    expect(schemas.Agent?.properties?.nickname).toEqual({ type: ["string", "null"], enum: ["ada", "bob", null] });
    expect(schemas.Agent?.properties?.lastCall?.type).toEqual(["object", "null"]);
  });

  test("lists query parameters with descriptions, and a metadata filter as repeated pairs", () => {
    const query = Object.fromEntries(
      operation("get", "/agents").parameters.flatMap((each) =>
        "in" in each && each.in === "query" ? [[each.name, each]] : [],
      ),
    );
    expect(Object.keys(query)).toEqual(["limit", "cursor", "since", "kinds", "size", "metadata"]);
    expect(JSON.stringify(query.cursor)).toContain("Where the last page ended.");
    expect(query.limit?.schema).toMatchObject({ type: "integer", minimum: 1, maximum: 100, default: 20 });
    expect(query.metadata).toMatchObject({ schema: { type: "array", items: { type: "string" } } });
    expect(JSON.stringify(query.metadata)).toContain("Only agents with these pairs.");
    expect(query.kinds?.schema).toEqual({ type: "array", items: { type: "string", enum: ["stock", "clone"] } });
  });

  test("lists request and response headers", () => {
    expect(parameterNames("post", "/agents")).toEqual([
      "X-Request-Id",
      "X-Client-Id",
      "Idempotency-Key",
      "X-Idempotency-Key",
    ]);
    expect(parameterNames("get", "/agents/{id}")).toEqual(["id", "X-Request-Id", "X-Client-Id"]);
    expect(parameterNames("get", "/auth/me")).toEqual(["X-Request-Id"]);
    expect(Object.keys(resolved(operation("post", "/agents").responses[201]!).headers as object)).toEqual([
      "X-Request-Id",
      "RateLimit",
      "RateLimit-Policy",
      "Idempotency-Replayed",
    ]);
    expect(resolved(operation("post", "/agents").responses[429]!).headers).toHaveProperty("Retry-After");
  });

  test("lists every error of an operation with an example of each code", () => {
    const statuses = Object.keys(operation("post", "/agents").responses).filter((status) => status >= "400");
    expect(statuses).toEqual(["400", "401", "403", "409", "413", "415", "422", "429", "500", "503"]);
    expect(Object.keys(operation("get", "/agents/{id}").responses)).toEqual([
      "200",
      "400",
      "401",
      "403",
      "404",
      "429",
      "500",
      "503",
    ]);
    const { content } = resolved(operation("get", "/agents/{id}").responses[404]!) as {
      content: Record<string, unknown>;
    };
    expect(content["application/json"]).toMatchObject({
      schema: {
        required: ["error"],
        properties: {
          error: {
            allOf: [{ $ref: "#/components/schemas/Failure" }, { properties: { code: { enum: ["agent_not_found"] } } }],
          },
        },
      },
      examples: {
        agent_not_found: { value: { error: { code: "agent_not_found", message: errorCodes.agent_not_found.meaning } } },
      },
    });
  });

  test("has a valid example for every body", () => {
    const ajv = new Ajv2020({ strict: false });
    formats.default(ajv);
    ajv.addSchema({ $id: "doc", components: { schemas } });
    const media = Object.values(document.paths).flatMap((methods) =>
      Object.values(methods).flatMap(({ requestBody, responses }) => [
        requestBody?.content["application/json"],
        ...Object.values(responses).map((response) =>
          "content" in response ? response.content?.["application/json"] : undefined,
        ),
      ]),
    );
    const bodies = media.filter((each) => each !== undefined);
    expect(bodies.length).toBeGreaterThan(8);
    for (const { schema, example } of bodies) {
      const fits = ajv.compile({ $ref: `doc${schema.$ref}` });
      expect(fits(example), JSON.stringify([schema, example, fits.errors])).toBe(true);
    }
    expect(answer("get", "/agents", 200)?.example).toMatchObject({ data: [{ id: "agent_01k9", name: "Reception" }] });
    expect(operation("post", "/agents").requestBody?.content["application/json"]?.example).toMatchObject({
      tone: "calm",
    });
  });

  test("is the same each time, and is cached when served", () => {
    const served = openApiJson(router, options);
    expect(JSON.parse(served)).toEqual(JSON.parse(JSON.stringify(document)));
    expect(openApiJson(router, options)).toBe(served);
    expect(openApiJson(router, { ...options, version: "2" })).not.toBe(served);
  });
});

describe("the linters", () => {
  test("redocly reports nothing", { timeout: 180_000 }, async () => {
    const { code, output } = await lintWithRedocly(openApiJson(router, options));
    expect(code, output).toBe(0);
    expect(output).not.toMatch(/warning/i);
  });

  test("our own rules report nothing", () => {
    expect(findingsIn(document)).toEqual([]);
  });

  test("our own rules report what is wrong", () => {
    const broken = structuredClone(document);
    const list = broken.paths["/agents"]!.get!;
    Object.assign(list, { operationId: "agentsCreate", tags: ["nothing"] });
    list.parameters.push({ name: "size", in: "query", schema: { type: "integer" }, example: "big" } as never);
    Object.assign(broken.components.schemas, { Unused: { type: "string", examples: [1] } });
    broken.tags![0]!.description = "";
    expect(findingsIn(broken)).toEqual([
      'post /agents: the operationId "agentsCreate" is used twice',
      'the tag "auth" has no description',
      'get /agents: the tag "nothing" is not declared',
      expect.stringMatching(/^\/paths\/~1agents\/get\/parameters\/\d+: "big" data must be integer$/),
      "/components/schemas/Unused: 1 data must be string",
      "the component schemas/Unused is not used",
    ]);
  });
});
