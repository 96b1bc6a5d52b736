import { connect } from "node:net";
import { beforeAll, describe, expect, test } from "vitest";
import { newId } from "../db/ids.ts";
import { definition, doorsOf, type RestDoor, unwrapped } from "../edge/doors.ts";
import { createApiKey } from "../routers/api-keys/service.ts";
import { appRouter } from "../routers/index.ts";
import { type Scope, scopes } from "../routers/scopes.ts";
import type { SeededClient } from "../server/dev/seed.ts";
import { type Answer, agent, house, phone } from "./house.ts";

const h = await house({ credits: 100_000 });

/** What one client has, for inputs that name it. */
type Things = { agent: string; call: string; endpoint: string; apiKey: string; delivery: string };
type Input = Record<string, unknown>;

let ada: Things;
let bob: Things;
/** A key of Ada's that has this scope alone, and one that has every other. */
const only = new Map<Scope, string>();
const allBut = new Map<Scope, string>();

const hook = { url: "https://example.com/hook", description: "CRM", eventTypes: ["call.*"] };
const config = {
  ...agent,
  model: "fixie-ai/ultravox",
  voice: "Mark",
  languageHint: "en",
  temperature: 0.3,
  firstSpeaker: "agent",
  greeting: "Good morning!",
  recordingEnabled: true,
  joinTimeoutSeconds: 30,
};
const page = { limit: 5, cursor: "" };

/** One good input per procedure, with every field that there is; `cursor: ""` stands for a page that was asked for before. */
const inputs: Record<string, (own: Things) => Input | Promise<Input>> = {
  "agents.create": () => config,
  "agents.get": ({ agent }) => ({ id: agent }),
  "agents.list": () => ({ ...page, state: "active" }),
  "agents.update": ({ agent }) => ({ id: agent, ...config }),
  "apiKeys.create": () => ({ kind: "platform", name: "CI", scopes: [], expiresAt: "2099-01-01T00:00:00.000Z" }),
  "apiKeys.list": () => page,
  "apiKeys.revoke": async () => ({ id: (await makeKey(h.ada, ["calls:read"])).id }),
  "auth.me": () => ({}),
  "auth.clients": () => ({}),
  "billing.balance": () => ({}),
  "billing.ledger": ({ call }) => ({ ...page, subjectId: call }),
  "calls.create": ({ agent }) => ({
    agentId: agent,
    medium: { ...phone("+14155550100"), carrier: "sip" },
    variables: { name: "Ada" },
    metadata: { order: "1" },
    maxDurationSeconds: 60,
  }),
  "calls.get": ({ call }) => ({ id: call }),
  "calls.list": ({ agent }) => ({ ...page, status: "ended", outcome: "completed", agentId: agent }),
  "calls.transcript": ({ call }) => ({ id: call }),
  "events.list": ({ agent }) => ({ ...page, order: "desc", type: "agent.created", subjectId: agent }),
  "webhooks.create": () => hook,
  "webhooks.list": () => page,
  "webhooks.get": ({ endpoint }) => ({ id: endpoint }),
  "webhooks.update": ({ endpoint }) => ({ id: endpoint, ...hook, status: "enabled" }),
  "webhooks.remove": async () => ({ id: (await h.post("/webhooks", hook)).body.data.id }),
  "webhooks.eventTypes": () => ({}),
  "webhooks.deliveries.list": ({ endpoint }) => ({ ...page, id: endpoint, state: "dead" }),
  "webhooks.deliveries.get": ({ delivery }) => ({ id: delivery }),
};

const doors = doorsOf(appRouter);
const each = doors.map((door) => [door.procedure, door] as const);

beforeAll(async () => {
  ada = await furnish(h.ada);
  bob = await furnish(h.bob);
  for (const scope of scopes) {
    only.set(scope, (await makeKey(h.ada, [scope])).key);
    allBut.set(
      scope,
      (
        await makeKey(
          h.ada,
          scopes.filter((other) => other !== scope),
        )
      ).key,
    );
  }
});

describe("the table of inputs", () => {
  test("has every procedure, every procedure has both doors, and each says which scope it takes", () => {
    const procedures = Object.keys(appRouter._def.procedures);
    expect(doors.map(({ procedure }) => procedure)).toEqual(procedures);
    expect(Object.keys(inputs).toSorted()).toEqual(procedures.toSorted());
    const open = doors.filter(({ meta }) => meta.scope === null).map(({ procedure }) => procedure);
    expect(open).toEqual(["auth.me", "auth.clients"]);
  });

  test.each(each)("names every field of %s", async (_, door) => {
    const known = Object.keys(shapeOf(door)).toSorted();
    expect(Object.keys(await inputs[door.procedure]!(ada)).toSorted()).toEqual(known);
  });
});

describe("every procedure", () => {
  test.each(each)("%s works on both doors, with its own scope and no other", async (_, door) => {
    const key = door.meta.scope ? only.get(door.meta.scope)! : h.ada.key;
    const rest = await viaRest(door, await good(door), key);
    expect(rest).toMatchObject({ status: door.meta.status });
    const trpc = await viaTrpc(door, await good(door), key);
    expect(trpc).toMatchObject({ status: 200, body: { result: {} } });
    for (const answer of [rest, trpc]) expect(answer.headers.get("x-request-id")).toMatch(/^req_/);
  });

  test.each(each)("%s refuses a key that has every other scope, and names the one that is missing", async (_, door) => {
    const { scope } = door.meta;
    if (!scope) return;
    for (const answer of await onBothDoors(door, () => good(door), allBut.get(scope)!)) {
      expect(failure(answer)).toMatchObject({ status: 403, code: "scope_missing" });
      expect(failure(answer).message).toContain(scope);
    }
  });

  test.each(each)("%s refuses who shows no key, and does not say what is wrong with his input", async (_, door) => {
    for (const input of [await good(door), { surprise: 1 }]) {
      for (const answer of await onBothDoors(door, () => input, null)) {
        expect(failure(answer)).toMatchObject({ status: 401, code: "unauthenticated" });
      }
    }
  });

  test.each(each.filter(([, door]) => door.takesBody))("%s does not read what a stranger sends", async (_, door) => {
    const path = door.rest.path.replace(/\{\w+\}/g, "x");
    for (const body of ["{", JSON.stringify({ constructor: 1 }), `{"name":"${"x".repeat(1_100_000)}"}`]) {
      for (const answer of [
        await h.send(door.rest.method, path, body, { key: null }),
        await h.mutate(door.procedure, body, { key: null }),
      ]) {
        expect(failure(answer)).toMatchObject({ status: 401, code: "unauthenticated" });
      }
    }
  });

  test.each(each)("%s knows nothing of a stranger's ids, and leaves his rows alone", async (_, door) => {
    const mine = await good(door);
    for (const field of Object.keys(mine).filter((name) => /(^id|Ids?)$/.test(name))) {
      const before = await checksums(h.bob.clientId);
      for (const theirs of [strangers(mine[field]), unknown(mine[field])]) {
        for (const answer of await onBothDoors(door, () => ({ ...mine, [field]: theirs }), h.ada.key)) {
          expect(failure(answer)).toMatchObject({ status: 404, code: expect.stringMatching(/_not_found$/) });
        }
      }
      expect(await checksums(h.bob.clientId)).toEqual(before);
    }
  });

  test.each(each)("%s refuses an unknown field by its name, at any depth", async (_, door) => {
    for (const [path, input] of withSurprise(await good(door), shapeOf(door))) {
      const answers = door.input ? await onBothDoors(door, () => input) : [await viaRest(door, input)];
      for (const answer of answers) expect(named(answer)).toEqual([path]);
    }
  });

  test.each(each)("%s names a field that is missing", async (_, door) => {
    const input = await good(door);
    const required = Object.entries(shapeOf(door)).filter(([, schema]) => !isOptional(schema));
    for (const [name] of required) {
      const { [name]: _left, ...rest } = input;
      expect(named(await viaTrpc(door, rest))).toEqual([name]);
      if (!door.params.includes(name)) expect(named(await viaRest(door, rest))).toEqual([name]);
    }
  });

  test("coerces no value, on either door, before and after query strings were read", async () => {
    for (const _round of ["before", "after"]) {
      for (const door of doors) {
        for (const [path, input] of withWrongTypes(await good(door))) {
          expect([door.procedure, path, named(await viaTrpc(door, input))]).toEqual([door.procedure, path, [path]]);
          if (!door.takesBody || door.params.includes(path)) continue;
          expect([door.procedure, path, named(await viaRest(door, input))]).toEqual([door.procedure, path, [path]]);
        }
      }
      for (const door of doors.filter(({ item }) => item)) {
        expect(await viaRest(door, await good(door))).toMatchObject({ status: 200 });
      }
    }
  });

  test("refuses text with a NUL, which the database cannot keep, instead of failing on it", async () => {
    for (const door of doors) {
      const input = await good(door);
      for (const [name, value] of Object.entries(input)) {
        if (typeof value !== "string") continue;
        for (const answer of await onBothDoors(door, () => ({ ...input, [name]: `a\u0000b` }))) {
          expect([door.procedure, failure(answer).status]).toEqual([door.procedure, 400]);
        }
      }
    }
    const nested = { agentId: ada.agent, medium: { type: "web" }, variables: { name: "\u0000" } };
    for (const answer of [await h.post("/calls", nested), await h.mutate("calls.create", nested)]) {
      expect(named(answer)).toEqual(["variables.name"]);
    }
  });
});

describe("a failure that the caller caused", () => {
  const json = { "content-type": "application/json" };
  const cases: [string, number, string, () => Promise<Answer>][] = [
    ["an unknown path under /api/v1", 404, "route_not_found", () => h.get("/nothing")],
    ["an unknown path elsewhere", 404, "route_not_found", () => bare("GET", "/nothing")],
    ["an unknown path with a broken escape", 404, "route_not_found", () => bare("GET", "/docs/%ff")],
    ["an unknown procedure", 404, "route_not_found", () => h.query("agents.nothing", {})],
    ["a wrong method", 405, "method_not_allowed", () => h.send("PUT", "/agents")],
    ["a query asked as a mutation", 405, "method_not_allowed", () => h.mutate("agents.list", {})],
    ["bad JSON", 400, "invalid_json", () => h.post("/agents", "{")],
    ["bad JSON on /trpc", 400, "invalid_json", () => h.mutate("agents.create", "{")],
    ["an input on /trpc that is no JSON", 400, "invalid_json", () => h.get("/trpc/agents.list?input=%7B")],
    ["no input on /trpc where one is needed", 400, "invalid_input", () => h.send("GET", "/trpc/agents.get")],
    ["a list as the body", 400, "invalid_json", () => h.post("/agents", "[]")],
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
    ["a malformed key", 400, "invalid_header", () => h.post("/agents", agent, { idempotencyKey: "a b" })],
    [
      "a malformed key on /trpc",
      400,
      "invalid_header",
      () => h.mutate("agents.create", agent, { idempotencyKey: "a b" }),
    ],
    ["limit 0", 400, "invalid_input", () => h.get("/agents?limit=0")],
    ["limit 101", 400, "invalid_input", () => h.get("/agents?limit=101")],
    ["a limit that is a word", 400, "invalid_input", () => h.get("/agents?limit=abc")],
    ["limit 0 on /trpc", 400, "invalid_input", () => h.query("agents.list", { limit: 0 })],
    ["limit 101 on /trpc", 400, "invalid_input", () => h.query("agents.list", { limit: 101 })],
    ["a bad cursor", 400, "cursor_invalid", () => h.get("/agents?cursor=x")],
    ["a bad cursor on /trpc", 400, "cursor_invalid", () => h.query("agents.list", { cursor: "x.y" })],
    ["a malformed id", 400, "invalid_input", () => h.get("/agents/agent_1")],
    ["a malformed client", 403, "client_forbidden", () => h.get("/agents", { headers: { "x-client-id": "x" } })],
  ];

  test.each(cases)("such as %s has its status, its code and the envelope", async (_, status, code, ask) => {
    const answer = await ask();
    expect(failure(answer)).toMatchObject({ status, code });
    if (status === 405 && answer.body.error.docUrl)
      expect(answer.headers.get("allow")).toBe("POST, GET, HEAD, OPTIONS");
    if (status === 400 && /limit/.test(answer.body.error.message)) expect(named(answer)).toEqual(["limit"]);
  });

  test("says on both doors how to show who one is, and keeps the caller's own request id", async () => {
    const ask = { key: null, headers: { ...json, "x-request-id": "mine-1" } };
    for (const answer of [await h.get("/agents", ask), await h.query("agents.list", {}, ask)]) {
      expect(answer.headers.get("www-authenticate")).toBe("Bearer");
      expect(failure(answer)).toMatchObject({ status: 401, requestId: "mine-1" });
    }
  });
});

describe("a list", () => {
  const lists: [string, string, () => Promise<unknown>][] = [
    ["agents", "agents.list", () => insertAgent(h.ada)],
    ["auth/api-keys", "apiKeys.list", () => makeKey(h.ada, ["calls:read"])],
    ["webhooks", "webhooks.list", () => h.post("/webhooks", hook)],
  ];

  test.each(lists)(
    "of %s is walked newest first without a gap or a repeat while rows are added",
    async (path, procedure, add) => {
      for (let n = 0; n < 5; n++) await add();
      const before = (await h.get(`/${path}?limit=100`)).body;
      expect(before.meta).toMatchObject({ hasMore: false, nextCursor: null });
      const ids: string[] = before.data.map(({ id }: { id: string }) => id);
      expect(ids).toEqual(ids.toSorted().reverse());
      const seen: string[] = [];
      let cursor: string | null = null;
      for (let asked = 0; asked < 100; asked++) {
        const { data, meta } = await pageAfter(asked % 2 ? procedure : path, cursor, 2);
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

  test("answers a cursor that is good there alone: for this client, this list, these filters, as it was written", async () => {
    for (let n = 0; n < 3; n++) {
      await insertAgent(h.ada);
      await insertAgent(h.bob);
      await h.post("/webhooks", hook);
    }
    const { nextCursor } = (await h.get("/agents?limit=1&state=active")).body.meta;
    const good = await h.get(`/agents?limit=2&state=active&cursor=${nextCursor}`);
    expect(good).toMatchObject({ status: 200 });
    const [position, signature] = nextCursor.split(".");
    const other = Buffer.from(newId("agent")).toString("base64url");
    const bad = [
      await h.get(`/agents?state=active&cursor=${nextCursor}`, { key: h.bob.key }),
      await h.query("agents.list", { state: "active", cursor: nextCursor }, { key: h.bob.key }),
      await h.get(`/webhooks?cursor=${nextCursor}`),
      await h.get(`/agents?cursor=${nextCursor}`),
      await h.get(`/agents?state=failed&cursor=${nextCursor}`),
      await h.get(`/agents?state=active&cursor=${other}.${signature}`),
      await h.get(`/agents?state=active&cursor=${position}.${signature.slice(1)}A`),
      await h.get(`/agents?state=active&cursor=${position}`),
      await h.get(`/agents?state=active&cursor=${nextCursor}.x`),
      await h.get("/agents?state=active&cursor="),
    ];
    for (const answer of bad) expect(failure(answer)).toMatchObject({ status: 400, code: "cursor_invalid" });
  });

  async function pageAfter(where: string, cursor: string | null, limit: number) {
    if (!where.includes(".")) return (await h.get(`/${where}?limit=${limit}${cursor ? `&cursor=${cursor}` : ""}`)).body;
    const { items, ...meta } = (await h.query(where, { limit, ...(cursor ? { cursor } : {}) })).body.result.data;
    return { data: items, meta };
  }
});

async function furnish(who: SeededClient): Promise<Things> {
  const ask = { key: who.key };
  const made = await h.post("/agents", config, ask);
  const agent = made.body.data.id;
  const placed = await h.post("/calls", { agentId: agent, medium: { type: "web" } }, ask);
  const call = placed.body.data.id;
  await h.owner`update calls set status = 'ended', outcome = 'completed', outcome_final = true where id = ${call}`;
  const endpoint = (await h.post("/webhooks", hook, ask)).body.data.id;
  const apiKey = (await makeKey(who, ["calls:read"])).id;
  const delivery = newId("delivery");
  await h.owner`insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, state)
    values (${who.clientId}, ${delivery}, ${endpoint}, ${newId("event")}, 'call.ended', now(), 'dead')`;
  return { agent, call, endpoint, apiKey, delivery };
}

async function makeKey({ clientId, userId }: SeededClient, of: readonly Scope[]) {
  const wanted = { name: "Narrow", scopes: [...of] };
  return h.deps.db.asClient({ clientId }, (tx) =>
    createApiKey(tx, wanted, { id: userId, scopes: ["*"] }, h.deps.auth.hashKey),
  );
}

/** An agent without the provider: lists need many. */
async function insertAgent({ clientId }: SeededClient) {
  const id = newId("agent");
  await h.owner`insert into agents (client_id, id, name, state, version, provider_account_id)
    values (${clientId}, ${id}, 'Listed', 'active', 1, 'pacc_platform')`;
  await h.owner`insert into agent_versions (client_id, agent_id, version, name, config, state, created_by)
    select client_id, ${id}, 1, 'Listed', config, 'live', created_by from agent_versions
    where client_id = ${clientId} and version = 1 limit 1`;
}

/** Ada's input for a door. What may differ per call is filled in here: a cursor of that list, scopes that the key has. */
async function good(door: RestDoor): Promise<Input> {
  const { cursor, ...input } = await inputs[door.procedure]!(ada);
  if (door.procedure === "apiKeys.create") return { ...input, scopes: ["api_keys:write"] };
  return input;
}

async function viaRest(
  { rest, params, takesBody }: RestDoor,
  input: Input,
  key: string | null = h.ada.key,
): Promise<Answer> {
  const path = rest.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(input[name])));
  const left = Object.entries(input).filter(([name]) => !params.includes(name));
  if (takesBody) return h.send(rest.method, path, Object.fromEntries(left), { key });
  const query = new URLSearchParams(Object.fromEntries(left.map(([name, value]) => [name, String(value)])));
  return h.send(rest.method, query.size ? `${path}?${query}` : path, undefined, { key });
}

function viaTrpc({ procedure, type, input: schema }: RestDoor, input: Input, key: string | null = h.ada.key) {
  if (type === "mutation") return h.mutate(procedure, input, { key });
  return schema ? h.query(procedure, input, { key }) : h.send("GET", `/trpc/${procedure}`, undefined, { key });
}

async function onBothDoors(door: RestDoor, input: () => Input | Promise<Input>, key: string | null = h.ada.key) {
  return [await viaRest(door, await input(), key), await viaTrpc(door, await input(), key)];
}

function bare(method: string, path: string): Promise<Answer> {
  return fetch(h.url + path, { method }).then(async (response) => {
    return { status: response.status, headers: response.headers, body: await response.json() };
  });
}

/** A failure as both doors must tell it, whichever it was. */
function failure({ status, headers, body }: Answer) {
  const { error } = body;
  expect(headers.get("x-request-id")).toBeTruthy();
  expect(Object.keys(body)).toEqual(["error"]);
  const { code, requestId, docUrl, details } = error.data ?? error;
  if (error.data) expect(error.data.httpStatus).toBe(status);
  else
    expect(Object.keys(error).filter((name) => name !== "details")).toEqual(["code", "message", "requestId", "docUrl"]);
  const isEarly = error.data && status === 415; // refused by tRPC before there is a context that knows the id
  const id = isEarly ? undefined : headers.get("x-request-id");
  expect({ requestId, docUrl }).toEqual({ requestId: id, docUrl: `/docs/errors#${code}` });
  expect(error.message.length).toBeGreaterThan(5);
  expect(headers.get("content-type")).toMatch(/^application\/json/);
  return { status, code, message: error.message as string, details, requestId };
}

/** The fields that a refusal of the input names. */
function named(answer: Answer): string[] {
  const { status, code, details } = failure(answer);
  expect({ status, code }).toEqual({ status: 400, code: "invalid_input" });
  return [...new Set<string>(details.map(({ path }: { path: string }) => path))];
}

type Schema = Parameters<typeof definition>[0];

const shapeOf = (door: RestDoor): Record<string, Schema> => door.input?._zod.def.shape ?? {};
const isOptional = (schema: Schema) => ["optional", "default", "prefault"].includes(definition(schema).type);

function strangers(mine: unknown): string {
  const kind = Object.entries(ada).find(([, id]) => prefix(id) === prefix(String(mine)));
  if (!kind) throw new Error(`Bob has nothing like ${mine}.`);
  return bob[kind[0] as keyof Things];
}

const prefix = (id: string) => id.split("_", 1)[0];
const unknown = (mine: unknown) => `${prefix(String(mine))}_${newId("call").split("_")[1]}`;

/** The input with a field too many, at every place where an object of ours stands, and the path of that field. */
function* withSurprise(input: Input, shape: Record<string, Schema>): Generator<[string, Input]> {
  yield ["surprise", { ...input, surprise: "1" }];
  for (const [name, value] of Object.entries(input)) {
    const schema = shape[name];
    if (!schema || !isPlain(value) || definition(unwrapped(schema)).type === "record") continue;
    yield [`${name}.surprise`, { ...input, [name]: { ...value, surprise: "1" } }];
  }
}

/** The input with one leaf of another type that a lenient reader would convert, and the path of the leaf. */
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

test("what cannot be read as HTTP is answered in the envelope all the same", async () => {
  for (const [request, status, code] of [
    [`GET /api/v1/agents HTTP/1.1\r\nHost: x\r\nX-Long: ${"a".repeat(20_000)}\r\n\r\n`, 431, "headers_too_large"],
    ["NONSENSE\r\n\r\n", 400, "request_malformed"],
  ] as const) {
    const text = await rawly(request);
    const [head, body] = text.split("\r\n\r\n");
    expect(head).toContain(`HTTP/1.1 ${status} `);
    const { error } = JSON.parse(body ?? "");
    expect(error).toMatchObject({ code, docUrl: `/docs/errors#${code}` });
    expect(head).toContain(`X-Request-Id: ${error.requestId}`);
  }
});

/** Bytes to the port, and what comes back until it closes. */
function rawly(request: string): Promise<string> {
  const { hostname, port } = new URL(h.url);
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(Number(port), hostname, () => socket.write(request));
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("close", () => resolve(text)).on("error", reject);
    socket.setTimeout(10_000, () => socket.destroy(new Error("nothing came")));
  });
}
