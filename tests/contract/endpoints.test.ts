import { connect } from "node:net";
import { createTRPCUntypedClient, httpBatchStreamLink, TRPCClientError } from "@trpc/client";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { newId } from "../../db/ids.ts";
import type { SeededClient } from "../../dev/seed.ts";
import { bytesOf } from "../../edge/client.ts";
import { openApiDocument } from "../../edge/openapi/document.ts";
import type { Operation } from "../../edge/openapi/source.ts";
import { isInternal, operationsOf, type RestOperation } from "../../edge/rest/operations.ts";
import type { Streamed } from "../../routers/core/reply.ts";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";
import { type Scope, scopes } from "../../routers/core/scopes.ts";
import { appRouter, internalRouter } from "../../routers/index.ts";
import { agent, serviceToken, startTestApp, type TestResponse } from "../support/app.ts";
import { hook, makeKey } from "./endpoints/core.ts";
import type { Input, ModuleInputs, ResourceIds } from "./endpoints/resource.ts";
import { resources } from "./endpoints/resources.ts";

const h = await startTestApp({ credits: 100_000, env: { RATE_LIMIT_MULTIPLIER: "100" } });

let ada: ResourceIds;
let bob: ResourceIds;
let operator: string;
/** A valid token of a user that does not exist here. */
let guest: string;
/** A key of Ada's with only this scope (by procedure, where it needs more), and one with every other scope. */
const only = new Map<string, string>();
const allBut = new Map<Scope, string>();
const elsewhere: Record<string, readonly string[]> = Object.assign(
  {},
  ...resources.map(({ elsewhere }) => elsewhere ?? {}),
);
const needs: Record<string, readonly Scope[]> = Object.assign({}, ...resources.map(({ needs }) => needs ?? {}));
const inputs = Object.assign({}, ...resources.map(({ inputs }) => inputs)) as ModuleInputs["inputs"];

const operations = [...operationsOf(appRouter), ...operationsOf(internalRouter)];
const each = operations.map((endpoint) => [endpoint.procedure, endpoint] as const);

beforeAll(async () => {
  ada = await createResources(h.ada);
  bob = await createResources(h.bob);
  operator = await h.operator();
  guest = await h.identity.token({ sub: "auth0|guest", clients: [] });
  for (const endpoint of operations) {
    const more = needs[endpoint.procedure];
    if (more) only.set(endpoint.procedure, (await makeKey(h, h.ada, [endpoint.meta.scope as Scope, ...more])).key);
  }
  for (const scope of scopes) {
    only.set(scope, (await makeKey(h, h.ada, [scope])).key);
    const others = scopes.filter((other) => other !== scope);
    allBut.set(scope, (await makeKey(h, h.ada, others)).key);
  }
}, 60_000);

/** The credential that this procedure needs, with no other scope. */
function keyFor({ procedure, type, meta: { scope, access } }: RestOperation): string {
  if (access === "operator") return operator;
  if (access === "service") return serviceToken;
  if (access === "self" && type === "mutation") return guest;
  return only.get(procedure) ?? only.get(scope ?? "") ?? h.ada.key;
}

const isTenants = ({ meta }: RestOperation) => meta.access === "tenant" || meta.access === "self";

describe("the table of procedures", () => {
  test("has every procedure; every procedure has both transports and declares its scope", () => {
    // tests/events/stream.test.ts checks the one subscription in the same way.
    const procedures = [appRouter, internalRouter]
      .flatMap(({ _def }) => Object.keys(_def.procedures))
      .filter((name) => name !== "events.stream");
    expect(operations.map(({ procedure }) => procedure)).toEqual(procedures);
    expect(Object.keys(inputs).toSorted()).toEqual(procedures.toSorted());
    const open = operations.filter(({ meta }) => meta.scope === null).map(({ procedure }) => procedure);
    expect(open).toEqual(["auth.me", "auth.clients", "clients.invitations.accept"]);
  });

  test.each(each)("names every field of %s", async (_, endpoint) => {
    const left = elsewhere[endpoint.procedure] ?? [];
    const known = Object.keys(shapeOf(endpoint))
      .filter((name) => !left.includes(name))
      .toSorted();
    expect(Object.keys(await inputs[endpoint.procedure]!(adas())).toSorted()).toEqual(known);
  });
});

describe("every procedure", () => {
  test.each(each)("%s works on both transports, with only its own scope", async (_, endpoint) => {
    const key = keyFor(endpoint);
    const rest = await viaRest(endpoint, await good(endpoint), key);
    expect(rest).toMatchObject({ status: endpoint.meta.status });
    const trpc = await viaTrpc(endpoint, await good(endpoint), key);
    if (!isInternal(endpoint)) expect(trpc).toMatchObject({ status: 200, body: { result: {} } });
    for (const reply of [rest, trpc]) expect(reply.headers.get("x-request-id")).toMatch(/^req_/);
  });

  test.each(each.filter(([, endpoint]) => isInternal(endpoint)))(
    "%s does not exist on /trpc, for any caller",
    async (_, endpoint) => {
      for (const key of [serviceToken, operator, h.ada.key]) {
        const { procedure, type } = endpoint;
        const requests = type === "mutation" ? h.mutate : h.query;
        expect(failure(await requests(procedure, await good(endpoint), { key }))).toMatchObject({
          status: 404,
          code: "route_not_found",
        });
      }
    },
  );

  test.each(each)(
    "%s refuses a key that has every other scope, and names the one that is missing",
    async (_, endpoint) => {
      const { scope, access } = endpoint.meta;
      if (!scope) return;
      const key = isTenants(endpoint) ? allBut.get(scope as Scope)! : h.ada.key;
      for (const reply of await onBothTransports(endpoint, () => good(endpoint), key)) {
        const code = access === "operator" ? "platform_required" : "scope_missing";
        expect(failure(reply)).toMatchObject({ status: 403, code });
        if (access !== "operator") expect(failure(reply).message).toContain(scope);
      }
    },
  );

  test.each(each)("%s refuses a request without a key, and reveals no problem of its input", async (_, endpoint) => {
    for (const input of [await good(endpoint), { surprise: 1 }]) {
      for (const reply of await onBothTransports(endpoint, () => input, null)) {
        expect(failure(reply)).toMatchObject({ status: 401, code: "unauthenticated" });
      }
    }
  });

  test.each(each.filter(([, endpoint]) => endpoint.takesBody))(
    "%s does not read the body of an unauthenticated request",
    async (_, endpoint) => {
      const path = endpoint.rest.path.replace(/\{\w+\}/g, "x");
      for (const body of ["{", JSON.stringify({ constructor: 1 }), `{"name":"${"x".repeat(1_100_000)}"}`]) {
        for (const reply of [
          await h.send(endpoint.rest.method, path, body, { key: null }),
          await h.mutate(endpoint.procedure, body, { key: null }),
        ]) {
          expect(failure(reply)).toMatchObject({ status: 401, code: "unauthenticated" });
        }
      }
    },
  );

  test.each(each)("%s does not find another client's ids, and does not change their rows", async (_, endpoint) => {
    const mine = await good(endpoint);
    for (const field of Object.keys(mine).filter((name) => /(^id|Ids?)$/.test(name))) {
      if (!isTenants(endpoint) && field !== "id") continue; // a filter over all clients returns an empty list
      const before = await checksums(h.bob.clientId);
      // Operators and services see the ids of every client.
      const foreign = isTenants(endpoint) ? [strangers(mine[field]), unknown(mine[field])] : [unknown(mine[field])];
      for (const theirs of foreign) {
        const given = Array.isArray(mine[field]) ? [theirs] : theirs;
        for (const reply of await onBothTransports(endpoint, () => ({ ...mine, [field]: given }))) {
          expect(failure(reply)).toMatchObject({ status: 404, code: expect.stringMatching(/_not_found$/) });
        }
      }
      expect(await checksums(h.bob.clientId)).toEqual(before);
    }
  });

  test.each(each.filter(([, endpoint]) => endpoint.takesBody))(
    "%s does nothing twice under one idempotency key",
    async (_, endpoint) => {
      const input = await good(endpoint);
      const idempotencyKey = `replay-${endpoint.procedure}`;
      const first = await viaRest(endpoint, input, keyFor(endpoint), { idempotencyKey });
      expect(first).toMatchObject({ status: endpoint.meta.status });
      for (const again of [
        await viaRest(endpoint, input, keyFor(endpoint), { idempotencyKey }),
        await viaTrpc(endpoint, input, keyFor(endpoint), { idempotencyKey }),
      ]) {
        expect(again.headers.get("idempotency-replayed")).toBe("true");
        if (again.body?.result) expect(unsigned(again.body.result.data)).toEqual(unsigned(first.body.data));
        else expect(unsigned(again)).toMatchObject(unsigned({ status: first.status, body: first.body }));
      }
      const other = await viaRest(
        endpoint,
        { ...(await good(endpoint)), ...different(endpoint, input) },
        keyFor(endpoint),
        {
          idempotencyKey,
        },
      );
      if (Object.keys(different(endpoint, input)).length > 0)
        expect(failure(other)).toMatchObject({ status: 422, code: "idempotency_key_reused" });
    },
  );

  test.each(each)("%s refuses an unknown field and names it, at any depth", async (_, endpoint) => {
    for (const [path, input] of withSurprise(await good(endpoint), shapeOf(endpoint))) {
      const responses = endpoint.input
        ? await onBothTransports(endpoint, () => input)
        : [await viaRest(endpoint, input)];
      for (const reply of responses) expect(named(reply)).toEqual([path]);
    }
  });

  test.each(each)("%s names a field that is missing", async (_, endpoint) => {
    const input = await good(endpoint);
    const required = Object.entries(shapeOf(endpoint)).filter(([, schema]) => !isOptional(schema));
    for (const [name] of required) {
      const { [name]: _left, ...rest } = input;
      expect(named(await viaTrpc(endpoint, rest))).toEqual([name]);
      if (!endpoint.params.includes(name)) expect(named(await viaRest(endpoint, rest))).toEqual([name]);
    }
  });

  test.each(each)(
    "%s coerces no value, on either transport, before and after a query string is parsed",
    async (_, endpoint) => {
      for (const _round of ["before", "after"]) {
        for (const [path, input] of withWrongTypes(await good(endpoint))) {
          if (!isInternal(endpoint)) expect([path, named(await viaTrpc(endpoint, input))]).toEqual([path, [path]]);
          if (!endpoint.takesBody || endpoint.params.includes(path)) continue;
          expect([path, named(await viaRest(endpoint, input))]).toEqual([path, [path]]);
        }
        const list = endpoint.item ? endpoint : operations.find(({ procedure }) => procedure === "agents.list")!;
        expect(await viaRest(list, await good(list))).toMatchObject({ status: 200 });
      }
    },
  );

  test.each(each)("%s refuses text with a NUL, which the database cannot store", async (_, endpoint) => {
    const input = await good(endpoint);
    for (const [name, value] of Object.entries(input)) {
      if (typeof value !== "string") continue;
      for (const reply of await onBothTransports(endpoint, () => ({ ...input, [name]: `a\u0000b` }))) {
        expect([name, failure(reply).status]).toEqual([name, 400]);
      }
    }
  });

  test("a value or a name that the database cannot store is refused at any depth, with its path", async () => {
    for (const text of ["\u0000", "\ud83d"]) {
      const valued = { ...agent, outputSchema: { type: "object", properties: { a: { description: text } } } };
      const keyed = { ...agent, outputSchema: { type: "object", properties: { [`a${text}`]: {} } } };
      for (const [given, path] of [
        [valued, "outputSchema.properties.a.description"],
        [keyed, "outputSchema.properties.a\ufffd"],
      ] as const) {
        for (const reply of [await h.post("/agents", given), await h.mutate("agents.create", given)]) {
          expect(named(reply)).toEqual([path]);
          expect(failure(reply).message).toMatch(/lone surrogate .* Remove it\.$/);
        }
      }
    }
  });

  test.each(each)("%s never returns 500 for an invalid input", { timeout: 20_000 }, async (_, endpoint) => {
    const failures: string[] = [];
    let input = await good(endpoint);
    for (const [path, set] of placesIn(endpoint.input, input)) {
      const given = set(input);
      const isInPath = endpoint.params.includes(path.split(".")[0]!);
      const responses = isInPath ? [] : [await viaRest(endpoint, given)];
      if (!isInternal(endpoint) && (isInPath || !endpoint.takesBody)) responses.push(await viaTrpc(endpoint, given));
      for (const { status } of responses) {
        if (status >= 500 || status === 429) failures.push(`${path} of ${JSON.stringify(given)}: ${status}`);
        if (status < 300 && endpoint.type === "mutation") input = await good(endpoint);
      }
    }
    expect(failures).toEqual([]); // and none was refused by the rate limit instead
  });
});

describe("the documentation", () => {
  const document = openApiDocument(appRouter, { baseUrl: "https://api.patchbay.test/api/v1", version: "1" });
  const shown = each.filter(([, endpoint]) => !isInternal(endpoint));

  test.each(shown)("of %s shows an example that is accepted", async (_, endpoint) => {
    const operation = document.paths[endpoint.rest.path]![endpoint.rest.method.toLowerCase()]!;
    const made = await good(endpoint);
    const example = endpoint.takesBody
      ? operation.requestBody?.content["application/json"]?.example
      : queryOf(operation);
    const own = Object.fromEntries(endpoint.params.map((name) => [name, made[name]]));
    const left = elsewhere[endpoint.procedure] ?? [];
    const given = Object.entries(withOwnIds(example ?? {}, made) as Input).filter(([name]) => !left.includes(name));
    const reply = await viaRest(endpoint, { ...own, ...Object.fromEntries(given) });
    expect(reply).toMatchObject({ status: endpoint.meta.status });
  });

  function queryOf({ parameters }: Operation): Input {
    const named = parameters.flatMap((each) => ("$ref" in each || each.in !== "query" ? [] : [each]));
    const values = named.map(({ name, schema }) => [name, schema.examples?.[0]] as const);
    return Object.fromEntries(
      values.filter(([name, value]) => name !== "cursor" && value !== undefined && value !== null),
    );
  }

  /** The ids of the examples do not exist: those of the valid input replace them, or other ids of Ada's. */
  function withOwnIds(value: unknown, made: Input): unknown {
    if (Array.isArray(value)) return value.map((item) => withOwnIds(item, made));
    if (isPlain(value)) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, withOwnIds(v, made)]));
    if (typeof value !== "string" || !/^[a-z]+_[0-9a-z]{26}$/.test(value)) return value;
    const known = [...JSON.stringify(made).matchAll(/"([a-z]+_[0-9a-z]{26})"/g)].map(([, id]) => id!);
    return [...known, ...Object.values(ada)].find((id) => prefix(id) === prefix(value)) ?? value;
  }
});

describe("a failure caused by the caller", () => {
  const json = { "content-type": "application/json" };
  const cases: [string, number, string, () => Promise<TestResponse>][] = [
    ["an unknown path under /api/v1", 404, "route_not_found", () => h.get("/nothing")],
    ["an unknown path elsewhere", 404, "route_not_found", () => bare("GET", "/nothing")],
    ["an unknown path with a broken escape", 404, "route_not_found", () => bare("GET", "/docs/%ff")],
    ["an unknown procedure", 404, "route_not_found", () => h.query("agents.nothing", {})],
    ["a wrong method", 405, "method_not_allowed", () => h.send("PUT", "/agents")],
    ["a query called as a mutation", 405, "method_not_allowed", () => h.mutate("agents.list", {})],
    ["bad JSON", 400, "json_invalid", () => h.post("/agents", "{")],
    ["bad JSON on /trpc", 400, "json_invalid", () => h.mutate("agents.create", "{")],
    ["an input on /trpc that is not JSON", 400, "json_invalid", () => h.get("/trpc/agents.list?input=%7B")],
    ["no input on /trpc where one is needed", 400, "input_invalid", () => h.send("GET", "/trpc/agents.get")],
    ["a list as the body", 400, "json_invalid", () => h.post("/agents", "[]")],
    ["too large a body", 413, "payload_too_large", () => h.post("/agents", { name: "x".repeat(1_100_000) })],
    [
      "too large a body on /trpc",
      413,
      "payload_too_large",
      () => h.mutate("agents.create", { name: "x".repeat(1_100_000) }),
    ],
    [
      "another media type",
      415,
      "media_type_unsupported",
      () => h.post("/agents", "<a/>", { headers: { "content-type": "text/xml" } }),
    ],
    [
      "another media type on /trpc",
      415,
      "media_type_unsupported",
      () => h.mutate("agents.create", "<a/>", { headers: { "content-type": "text/xml" } }),
    ],
    ["a malformed key", 400, "header_invalid", () => h.post("/agents", agent, { idempotencyKey: "a b" })],
    [
      "a malformed key on /trpc",
      400,
      "header_invalid",
      () => h.mutate("agents.create", agent, { idempotencyKey: "a b" }),
    ],
    ["limit 0", 400, "input_invalid", () => h.get("/agents?limit=0")],
    ["limit 101", 400, "input_invalid", () => h.get("/agents?limit=101")],
    ["a limit that is text", 400, "input_invalid", () => h.get("/agents?limit=abc")],
    ["limit 0 on /trpc", 400, "input_invalid", () => h.query("agents.list", { limit: 0 })],
    ["limit 101 on /trpc", 400, "input_invalid", () => h.query("agents.list", { limit: 101 })],
    ["a bad cursor", 400, "cursor_invalid", () => h.get("/agents?cursor=x")],
    ["a bad cursor on /trpc", 400, "cursor_invalid", () => h.query("agents.list", { cursor: "x.y" })],
    ["a malformed id", 400, "input_invalid", () => h.get("/agents/agent_1")],
    ["a malformed client", 403, "client_forbidden", () => h.get("/agents", { headers: { "x-client-id": "x" } })],
  ];

  test.each(cases)("such as %s has its status, its code and the envelope", async (_, status, code, ask) => {
    const reply = await ask();
    expect(failure(reply)).toMatchObject({ status, code });
    if (status === 405 && reply.body.error.docUrl) expect(reply.headers.get("allow")).toBe("POST, GET, HEAD, OPTIONS");
    if (status === 400 && /limit/.test(reply.body.error.message)) expect(named(reply)).toEqual(["limit"]);
  });

  test("has WWW-Authenticate on both transports, and keeps the caller's request id", async () => {
    const ask = { key: null, headers: { ...json, "x-request-id": "mine-1" } };
    for (const reply of [await h.get("/agents", ask), await h.query("agents.list", {}, ask)]) {
      expect(reply.headers.get("www-authenticate")).toBe("Bearer");
      expect(failure(reply)).toMatchObject({ status: 401, requestId: "mine-1" });
    }
  });
});

describe("a list", () => {
  const lists: [string, string, () => Promise<unknown>][] = [
    ["agents", "agents.list", () => insertAgent(h.ada)],
    ["auth/api-keys", "apiKeys.list", addRevokedKey],
    ["webhooks", "webhooks.list", () => h.post("/webhooks", hook)],
  ];

  /** Revoked keys are listed too, and do not count toward the client's limit. */
  async function addRevokedKey() {
    const { id } = await makeKey(h, h.ada, ["calls:read"]);
    await h.owner`update api_keys set revoked_at = now() where id = ${id}`;
  }

  test.each(lists)(
    "of %s returns newest first, without a gap or a repeat while rows are added",
    async (path, procedure, add) => {
      for (let n = 0; n < 5; n++) await add();
      const before = (await h.get(`/${path}?limit=100`)).body;
      expect(before.meta).toMatchObject({ hasMore: false, nextCursor: null });
      const ids: string[] = before.data.map(({ id }: { id: string }) => id);
      expect(ids).toEqual(ids.toSorted().reverse());
      const seen: string[] = [];
      let cursor: string | null = null;
      for (let requests = 0; requests < 100; requests++) {
        const { data, meta } = await pageAfter(requests % 2 ? procedure : path, cursor, 2);
        seen.push(...data.map(({ id }: { id: string }) => id));
        expect(meta.hasMore).toBe(meta.nextCursor !== null);
        expect(meta.hasMore).toBe(seen.length < ids.length);
        if (!meta.hasMore) break;
        cursor = meta.nextCursor;
        await add();
      }
      expect(seen).toEqual(ids);
    },
  );

  test("returns a cursor that is valid only for this client, this list and these filters, unchanged", async () => {
    for (let n = 0; n < 3; n++) {
      await insertAgent(h.ada);
      await insertAgent(h.bob);
      await h.post("/webhooks", hook);
    }
    const { nextCursor } = (await h.get("/agents?limit=1&status=active")).body.meta;
    const good = await h.get(`/agents?limit=2&status=active&cursor=${nextCursor}`);
    expect(good).toMatchObject({ status: 200 });
    const [position, signature] = nextCursor.split(".");
    const other = Buffer.from(newId("agent")).toString("base64url");
    const bad = [
      await h.get(`/agents?status=active&cursor=${nextCursor}`, { key: h.bob.key }),
      await h.query("agents.list", { status: "active", cursor: nextCursor }, { key: h.bob.key }),
      await h.get(`/webhooks?cursor=${nextCursor}`),
      await h.get(`/agents?cursor=${nextCursor}`),
      await h.get(`/agents?status=failed&cursor=${nextCursor}`),
      await h.get(`/agents?status=active&cursor=${other}.${signature}`),
      await h.get(`/agents?status=active&cursor=${position}.${signature.slice(1)}A`),
      await h.get(`/agents?status=active&cursor=${position}`),
      await h.get(`/agents?status=active&cursor=${nextCursor}.x`),
      await h.get("/agents?status=active&cursor="),
    ];
    for (const reply of bad) expect(failure(reply)).toMatchObject({ status: 400, code: "cursor_invalid" });
  });

  async function pageAfter(where: string, cursor: string | null, limit: number) {
    if (!where.includes(".")) return (await h.get(`/${where}?limit=${limit}${cursor ? `&cursor=${cursor}` : ""}`)).body;
    const { items, ...meta } = (await h.query(where, { limit, ...(cursor ? { cursor } : {}) })).body.result.data;
    return { data: items, meta };
  }
});

async function createResources(who: SeededClient): Promise<ResourceIds> {
  const own: ResourceIds = {};
  for (const resource of resources) Object.assign(own, await resource.createResources?.({ h, who, own }));
  return own;
}

const adas = () => ({ h, who: h.ada, own: ada });

/** A field of the input with another valid value, if one is easily found. */
function different(endpoint: RestOperation, input: Input): Input {
  const name = Object.keys(input).find((field) => field === "name" || field === "description");
  return name && !endpoint.params.includes(name) ? { [name]: `${input[name]} too` } : {};
}

/** Links are signed again in every response: they differ only in signature and expiry. */
function unsigned<T>(value: T): T {
  const text = JSON.stringify(value);
  const anew = text.includes("?X-Amz-") ? text.replace(/"expiresAt":"[^"]*"/g, '"expiresAt":"anew"') : text;
  return JSON.parse(anew.replace(/\?X-Amz-[^"]*/g, "?signed")) as T;
}

/** Inserts an agent without the provider: lists need many. */
async function insertAgent({ clientId }: SeededClient) {
  const id = newId("agent");
  await h.owner`insert into agents (client_id, id, name, status, version, provider_account_id)
    values (${clientId}, ${id}, 'Listed', 'active', 1, 'pacc_platform')`;
  await h.owner`insert into agent_versions (client_id, agent_id, version, name, config, status, created_by)
    select client_id, ${id}, 1, 'Listed', config, 'live', created_by from agent_versions
    where client_id = ${clientId} and version = 1 limit 1`;
}

/** Ada's input for a procedure. Values that differ per call are filled in here: a cursor of that list, scopes of the key. */
async function good(endpoint: RestOperation): Promise<Input> {
  const { cursor, ...input } = await inputs[endpoint.procedure]!(adas());
  return input;
}

/** As a query string: a list and a record become repeated pairs. */
function inQuery(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(String);
  return isPlain(value) ? Object.entries(value).map(([key, inner]) => `${key}:${inner}`) : [String(value)];
}

async function viaRest(
  endpoint: RestOperation,
  input: Input,
  key: string | null = keyFor(endpoint),
  ask: { idempotencyKey?: string } = {},
): Promise<TestResponse> {
  const { rest, params, takesBody } = endpoint;
  const path = rest.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(input[name])));
  const left = Object.entries(input).filter(([name]) => !params.includes(name));
  if (takesBody) return h.send(rest.method, path, Object.fromEntries(left), { key, ...ask });
  const query = new URLSearchParams(
    left.flatMap(([name, value]) => inQuery(value).map((text): [string, string] => [name, text])),
  );
  return h.send(rest.method, query.size ? `${path}?${query}` : path, undefined, { key });
}

function viaTrpc(
  endpoint: RestOperation,
  input: Input,
  key: string | null = keyFor(endpoint),
  ask: { idempotencyKey?: string } = {},
) {
  const { procedure, type, input: schema } = endpoint;
  if (isInternal(endpoint)) return viaRest(endpoint, input, key, ask); // it has only this transport
  if (type === "mutation") return h.mutate(procedure, input, { key, ...ask });
  if (endpoint.meta.produces) return viaStream(procedure, input, key);
  return schema ? h.query(procedure, input, { key }) : h.send("GET", `/trpc/${procedure}`, undefined, { key });
}

/** A stream on /trpc, read to its end, in the form of any other response. */
async function viaStream(procedure: string, input: Input, key: string | null): Promise<TestResponse> {
  let headers = new Headers();
  const link = httpBatchStreamLink({
    url: `${h.url}/trpc`,
    headers: key ? { authorization: `Bearer ${key}` } : {},
    fetch: async (url, init) => {
      const response = await fetch(url, init as RequestInit);
      headers = response.headers;
      return response;
    },
  });
  try {
    const given = await createTRPCUntypedClient({ links: [link] }).query(procedure, input);
    for await (const _ of bytesOf(given as Streamed));
    return { status: 200, headers, body: { result: {} } };
  } catch (error) {
    if (!(error instanceof TRPCClientError)) throw error;
    return { status: error.data.httpStatus, headers, body: { error: error.shape } };
  }
}

async function onBothTransports(
  endpoint: RestOperation,
  input: () => Input | Promise<Input>,
  key: string | null = keyFor(endpoint),
) {
  return [await viaRest(endpoint, await input(), key), await viaTrpc(endpoint, await input(), key)];
}

function bare(method: string, path: string): Promise<TestResponse> {
  return fetch(h.url + path, { method }).then(async (response) => {
    return { status: response.status, headers: response.headers, body: await response.json() };
  });
}

/** A failure in the form that both transports share. */
function failure({ status, headers, body }: TestResponse) {
  const { error } = body;
  expect(headers.get("x-request-id")).toBeTruthy();
  expect(Object.keys(body)).toEqual(["error"]);
  const { code, requestId, docUrl, details } = error.data ?? error;
  if (error.data) expect(error.data.httpStatus).toBe(status);
  else
    expect(Object.keys(error).filter((name) => name !== "details")).toEqual(["code", "message", "requestId", "docUrl"]);
  expect({ requestId, docUrl }).toEqual({
    requestId: headers.get("x-request-id"),
    docUrl: expect.stringMatching(`^http.+/docs/errors#${code}$`),
  });
  expect(error.message.length).toBeGreaterThan(5);
  expect(headers.get("content-type")).toMatch(/^application\/json/);
  return { status, code, message: error.message as string, details, requestId };
}

/** The fields that the details of a refused input name. */
function named(reply: TestResponse): string[] {
  const { status, code, details } = failure(reply);
  expect({ status, code }).toEqual({ status: 400, code: "input_invalid" });
  return [...new Set<string>(details.map(({ path }: { path: string }) => path))];
}

type Schema = Parameters<typeof definition>[0];

const shapeOf = (endpoint: RestOperation): Record<string, Schema> => endpoint.input?._zod.def.shape ?? {};
const isOptional = (schema: Schema) => ["optional", "default", "prefault"].includes(definition(schema).type);

function strangers(mine: unknown): string {
  const kind = Object.entries(ada).find(([, id]) => prefix(id) === prefix(String(mine)));
  if (!kind) throw new Error(`Bob has nothing like ${mine}.`);
  return bob[kind[0]]!;
}

const prefix = (id: string) => id.split("_", 1)[0];
const unknown = (mine: unknown) => `${prefix(String(mine))}_${newId("call").split("_")[1]}`;

/** The input with an additional field, in every object of our schema, with the path of that field. */
function* withSurprise(input: Input, shape: Record<string, Schema>): Generator<[string, Input]> {
  yield ["surprise", { ...input, surprise: "1" }];
  for (const [name, value] of Object.entries(input)) {
    const schema = shape[name];
    if (!schema || !isPlain(value) || definition(unwrapped(schema)).type === "record") continue;
    yield [`${name}.surprise`, { ...input, [name]: { ...value, surprise: "1" } }];
  }
}

/** The input with one leaf of another type that a lenient parser would convert, with the path of the leaf. */
function* withWrongTypes(input: Input, path: string[] = []): Generator<[string, Input]> {
  for (const [name, value] of Object.entries(input)) {
    const at = [...path, name].join(".");
    for (const wrong of wrongFor(value)) yield [at, { ...input, [name]: wrong }];
    if (Array.isArray(value)) yield [`${at}.0`, { ...input, [name]: [5] }];
    if (!isPlain(value)) continue;
    for (const [inner, changed] of withWrongTypes(value, [...path, name])) yield [inner, { ...input, [name]: changed }];
  }
}

function wrongFor(value: unknown): unknown[] {
  if (typeof value === "number") return [String(value), true];
  if (typeof value === "boolean") return ["true", "false", null, 1];
  if (typeof value === "string") return [5, true];
  return ["x", 5];
}

type Place = [path: string, set: (input: Input) => Input];

/** Every place of a schema, with a value that the database cannot store. */
function* placesIn(schema: Schema | null | undefined, value: unknown, path: string[] = []): Generator<Place> {
  if (!schema) return;
  const def = definition(unwrapped(schema));
  const here = function* (...bad: unknown[]): Generator<Place> {
    for (const each of bad) yield [path.join("."), (input) => withAt(input, path, each) as Input];
  };
  switch (def.type) {
    case "string":
      if ("format" in def && def.format === "datetime") yield* here(...moments);
      else yield* here("a\0b", "half \ud83d");
      return;
    case "number":
      return yield* here(...numbers);
    case "object":
      for (const [name, inner] of Object.entries(def.shape)) {
        yield* placesIn(inner, isPlain(value) ? value[name] : undefined, [...path, name]);
      }
      return;
    case "record":
      yield* here(...oddNames.map((name) => ({ [name]: "x" })));
      for (const [name, inner] of Object.entries(isPlain(value) ? value : {})) {
        yield* placesIn(def.valueType, inner, [...path, name]);
      }
      return;
    case "array":
      return yield* placesIn(def.element, Array.isArray(value) ? value[0] : undefined, [...path, "0"]);
    case "union":
      for (const option of def.options) {
        const isMine = z.safeParse(option, value).success || definition(unwrapped(option)).type !== "object";
        if (isMine) yield* placesIn(option, value, path);
      }
      return;
    case "unknown":
    case "any":
      return yield* here("a\0b", "half \ud83d", ...oddNames.map((name) => ({ [name]: 1 })));
  }
}

const oddNames = ["a\0b", "half\ud83d"];
const numbers = [2 ** 53 - 1, 1 - 2 ** 53, 2 ** 31, -(2 ** 31) - 1, 1e308];
const moments = [
  ...["0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"],
  ...["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-14:00"],
];

/** The value with one inner value replaced. */
function withAt(value: unknown, [name, ...deeper]: string[], given: unknown): unknown {
  if (name === undefined) return given;
  if (Array.isArray(value)) return [withAt(value[0], deeper, given), ...value.slice(1)];
  const fields = isPlain(value) ? value : {};
  if (name === "0" && !isPlain(value)) return [withAt(undefined, deeper, given)];
  return { ...fields, [name]: withAt(fields[name], deeper, given) };
}

const isPlain = (value: unknown): value is Input =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A fingerprint of all rows of a client, table by table. */
async function checksums(clientId: string): Promise<Record<string, string>> {
  const tables = await h.owner<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'client_id'
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
    where c.relkind in ('r', 'p') and not c.relispartition order by 1`;
  expect(tables.length).toBeGreaterThan(15);
  const sums: Record<string, string> = {};
  for (const { name } of tables) {
    const [row] = await h.owner`select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) as sum
      from ${h.owner(name)} t where client_id = ${clientId}`;
    sums[name] = row!.sum;
  }
  return sums;
}

test("bytes that are not HTTP get an error in the envelope", async () => {
  for (const [request, status, code] of [
    [`GET /api/v1/agents HTTP/1.1\r\nHost: x\r\nX-Long: ${"a".repeat(20_000)}\r\n\r\n`, 431, "headers_too_large"],
    ["NONSENSE\r\n\r\n", 400, "request_malformed"],
  ] as const) {
    const text = await rawly(request);
    const [head, body] = text.split("\r\n\r\n");
    expect(head).toContain(`HTTP/1.1 ${status} `);
    const { error } = JSON.parse(body ?? "");
    expect(error).toMatchObject({ code, docUrl: expect.stringMatching(`^http.+/docs/errors#${code}$`) });
    expect(head).toContain(`X-Request-Id: ${error.requestId}`);
  }
});

/** Sends bytes to the port and returns the response until the connection closes. */
function rawly(request: string): Promise<string> {
  const { hostname, port } = new URL(h.url);
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(Number(port), hostname, () => socket.write(request));
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("close", () => resolve(text)).on("error", reject);
    socket.setTimeout(50_000, () => socket.destroy(new Error("nothing came")));
  });
}
