import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { afterEach, describe, expect, test } from "vitest";
import { agent, phone, startTestApp, type TestResponse } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";

type Media = { schema: object; example?: { data: Record<string, unknown> } };
type Response = { description: string; headers?: Record<string, object>; content?: Record<string, Media> };
type Operation = {
  description: string;
  security: Record<string, string[]>[];
  parameters: { $ref?: string; name?: string; in?: string; schema?: { examples?: unknown[] } }[];
  responses: Record<string, Response | { $ref: string }>;
};

const h = await startTestApp();
type Document = {
  paths: Record<string, Record<string, Operation>>;
  components: { responses: Record<string, Response>; schemas: object };
};
const document = (await (await fetch(`${h.url}/openapi.json`)).json()) as Document;
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
);
const ajv = new Ajv2020({ strict: false });
formats.default(ajv);
ajv.addSchema({ $id: "doc", components: document.components });
afterEach(() => h.simulator.faults({}));

const ours = [
  "X-Request-Id",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
  "WWW-Authenticate",
  "Idempotency-Replayed",
];

function operationAt(method: string, path: string): Operation {
  const operation = document.paths[path]?.[method.toLowerCase()];
  if (!operation) throw new Error(`The document has no ${method} ${path}.`);
  return operation;
}

function responseOf(operation: Operation, status: number | string): Response | undefined {
  const found = operation.responses[status];
  return found && "$ref" in found ? document.components.responses[found.$ref.split("/").at(-1)!] : found;
}

/** What a response has that the document does not declare for this operation. */
function untold(method: string, path: string, { status, headers, body }: TestResponse): string[] {
  const response = responseOf(operationAt(method, path), status);
  if (!response) return [`${method} ${path} answers ${status}: ${JSON.stringify(body)}`];
  const received = Object.keys(response.headers ?? {});
  const problems = ours
    .filter((name) => headers.has(name) && !received.includes(name))
    .map((name) => `${status}: ${name}`);
  const media = response.content?.["application/json"];
  if (!media) return problems;
  const fits = ajv.compile(JSON.parse(JSON.stringify(media.schema).replaceAll('"#/', '"doc#/')));
  return fits(body) ? problems : [...problems, `${status}: ${JSON.stringify([fits.errors, body])}`];
}

/** Calls an operation. Its path is filled with the document's examples. */
function knock(method: string, path: string, operation: Operation, key: string): Promise<TestResponse> {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const parameter = operation.parameters.find((each) => each.name === name && each.in === "path");
    return String(parameter?.schema?.examples?.[0]);
  });
  return h.send(method, filled, method === "GET" || method === "DELETE" ? undefined : {}, { key });
}

describe("the document declares who may call", () => {
  test("an operator's endpoint refuses API keys and members of clients, with the documented 403", async () => {
    const endpoints = operations.filter(({ path }) => path.startsWith("/admin/"));
    expect(endpoints.length).toBeGreaterThan(20);
    const owner = await h.token(h.ada);
    for (const { method, path, operation } of endpoints) {
      expect(operation.security, path).toEqual([{ accessToken: [] }]);
      expect(operation.description, path).toContain("Only for operators of this installation");
      for (const key of [h.ada.key, owner]) {
        const reply = await knock(method, path, operation, key);
        expect(reply, path).toMatchObject({ status: 403, body: { error: { code: "platform_required" } } });
        expect(untold(method, path, reply)).toEqual([]);
      }
    }
  });

  test("an operator's token without the scope gets the documented 403", async () => {
    const key = await h.identity.token({ sub: "auth0|operator", clients: [], scope: "platform:write" });
    const reply = await h.get("/admin/clients", { key });
    expect(reply).toMatchObject({ status: 403, body: { error: { code: "scope_missing" } } });
    expect(untold("GET", "/admin/clients", reply)).toEqual([]);
  });

  test("an invitation can be accepted with a user's token, not with a key", async () => {
    const path = "/invitations/{token}/accept";
    const operation = operationAt("POST", path);
    expect(operation.security).toEqual([{ accessToken: [] }]);
    expect(operation.description).not.toContain("Any");
    const reply = await knock("POST", path, operation, h.ada.key);
    expect(reply).toMatchObject({ status: 403, body: { error: { code: "client_forbidden" } } });
    expect(untold("POST", path, reply)).toEqual([]);
  });

  test("an operation that lists API keys accepts them", async () => {
    const open = operations.filter(({ operation }) => operation.security.some((each) => "apiKey" in each));
    const refused: string[] = [];
    for (const { method, path, operation } of open.filter((each) => each.method === "GET")) {
      const reply = await knock(method, path, operation, h.ada.key);
      if (reply.status === 403) refused.push(path);
      if (reply.headers.get("content-type")?.startsWith("application/json"))
        expect(untold(method, path, reply)).toEqual([]);
    }
    expect(refused).toEqual([]);
  });
});

describe("the document declares the response while the outcome is unknown", () => {
  const created = async (path: string, body: object) => (await h.post(path, body)).body.data;
  const client = (name: string) => ({ name, description: "Shows a map.", definition: { type: "client" } });
  const lostCreate = { create: { resetAfterAccepting: 1 } };
  const lostChange = { changes: { errors: [{ status: 500, times: 50 }] } };
  const agentOfTwo = async () => {
    const id = await makeAgent(h);
    await h.patch(`/agents/${id}`, { name: "Second" });
    return id;
  };

  const ways: Record<string, () => Promise<TestResponse>> = {
    "POST /agents": () => lose("agents", lostCreate, () => h.post("/agents", agent)),
    "POST /agents/{id}/duplicate": async () => {
      const id = await makeAgent(h);
      return lose("agents", lostCreate, () => h.post(`/agents/${id}/duplicate`));
    },
    "PATCH /agents/{id}": async () => {
      const id = await makeAgent(h);
      return lose("agents", lostChange, () => h.patch(`/agents/${id}`, { name: "Later" }));
    },
    "POST /agents/{id}/versions/{version}/restore": async () => {
      const id = await agentOfTwo();
      return lose("agents", lostChange, () => h.post(`/agents/${id}/versions/1/restore`));
    },
    "POST /tools": () => lose("tools", lostCreate, () => h.post("/tools", client("lost"))),
    "PATCH /tools/{id}": async () => {
      const { id } = await created("/tools", client("changed"));
      return lose("tools", lostChange, () => h.patch(`/tools/${id}`, { description: "Later." }));
    },
    "POST /kb": () => lose("corpora", lostCreate, () => h.post("/kb", { name: "Prices" })),
    "POST /telephony/registrations": () =>
      lose("telephony", lostCreate, () =>
        h.post("/telephony/registrations", { username: "desk", password: "secret", proxy: "sip.example.com" }),
      ),
    "POST /calls": async () => {
      const agentId = await makeAgent(h);
      return lose("calls", lostCreate, () => h.post("/calls", { agentId, medium: phone("+14155550100") }));
    },
  };

  async function lose(applyTo: string, plan: object, ask: () => Promise<TestResponse>) {
    await h.simulator.faults({ applyTo, ...plan });
    return ask();
  }

  test.for(Object.keys(ways))("%s: 202, with the status of the example", async (endpoint) => {
    const [method, path] = endpoint.split(" ") as [string, string];
    const reply = await ways[endpoint]!();
    expect(reply.status, JSON.stringify(reply.body)).toBe(202);
    expect(untold(method, path, reply)).toEqual([]);
    const { status, version } = reply.body.data;
    const received = responseOf(operationAt(method, path), 202)?.content?.["application/json"]?.example?.data;
    expect(received?.status).toBe(status);
    if (version === 0) expect(received?.version).toBe(0);
    expect((await h.get("/agents")).status, "and nothing else is held up by it").toBe(200);
  });

  test("no other operation declares a 202 beside another success", () => {
    const both = operations.filter(({ operation }) => {
      const successes = Object.keys(operation.responses).filter((status) => status < "300");
      return successes.length > 1;
    });
    expect(both.map(({ method, path }) => `${method} ${path}`).toSorted()).toEqual(Object.keys(ways).toSorted());
  });

  test("an operation that always returns 202 has an example of unfinished work", async () => {
    const shown = (method: string, path: string) =>
      responseOf(operationAt(method, path), 202)?.content?.["application/json"]?.example?.data;
    expect(shown("POST", "/voices")).toMatchObject({ status: "pending" });
    expect(shown("POST", "/kb/{id}/files/ingest")).toMatchObject({ files: [{ status: "pending" }] });
    expect(shown("POST", "/kb/{id}/urls")).toMatchObject({ files: [{ status: "pending", kind: "url" }] });
    expect(shown("POST", "/kb/{id}/files/{fileId}/retry")).toMatchObject({ status: "pending" });
    expect(shown("POST", "/admin/ingress/{id}/reprocess")).toMatchObject({ status: "received" });

    const { id } = await created("/kb", { name: "Pages" });
    const pages = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/prices"] });
    expect(pages).toMatchObject({ status: 202, body: { data: { files: [{ status: "pending", kind: "url" }] } } });
    expect(untold("POST", "/kb/{id}/urls", pages)).toEqual([]);
    const voice = await h.post("/voices", {
      name: "Eve",
      source: { type: "external", provider: "lmnt", voiceId: "leah" },
    });
    expect(voice).toMatchObject({ status: 202, body: { data: { status: "pending" } } });
    expect(untold("POST", "/voices", voice)).toEqual([]);
  });
});

describe("the document declares the headers of an error", () => {
  const unknown = "agent_01m82knxfbfrssk0x3en012rbf";

  test("a counted request has rate limit headers, whatever its result", async () => {
    const counted: [string, string, TestResponse][] = [
      ["GET", "/agents", await h.get("/agents?limit=1000")],
      ["GET", "/agents/{id}", await h.get(`/agents/${unknown}`)],
      ["POST", "/agents", await h.post("/agents", { name: "" })],
      ["PATCH", "/agents/{id}", await h.patch(`/agents/${unknown}`, { name: "New" })],
      ["POST", "/calls/{id}/hangup", await h.post("/calls/call_01m82knxfbfrssk0x3en012rbf/hangup")],
    ];
    const made = (await h.post("/agents", agent, { idempotencyKey: "told" })).status;
    const reused = await h.post("/agents", { ...agent, name: "Other" }, { idempotencyKey: "told" });
    expect([made, reused.status]).toEqual([201, 422]);
    counted.push(["POST", "/agents", reused]);
    for (const [method, path, reply] of counted) {
      expect(reply.headers.get("ratelimit"), path).toMatch(/^"(read|write)";r=/);
      expect(untold(method, path, reply)).toEqual([]);
    }
  });

  test("a replayed error has Idempotency-Replayed", async () => {
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
    const ask = { idempotencyKey: "refused" };
    const [first, again] = [await h.post("/agents", agent, ask), await h.post("/agents", agent, ask)];
    expect([first.status, again.status, again.headers.get("idempotency-replayed")]).toEqual([422, 422, "true"]);
    expect(untold("POST", "/agents", again)).toEqual([]);
  });

  test("a request refused before it is counted has no rate limit headers; a 401 has WWW-Authenticate", async () => {
    const uncounted: [string, string, TestResponse][] = [
      ["GET", "/agents", await h.get("/agents", { key: null })],
      ["GET", "/agents", await h.get("/agents", { headers: { "x-client-id": h.bob.clientId } })],
    ];
    expect(uncounted.map(([, , { status }]) => status)).toEqual([401, 403]);
    for (const [method, path, reply] of uncounted) {
      expect(reply.headers.has("ratelimit")).toBe(false);
      expect(untold(method, path, reply)).toEqual([]);
    }
    expect(uncounted[0]![2].headers.get("www-authenticate")).toBe("Bearer");
    const unreadable = await h.post("/agents", "x", { headers: { "content-type": "text/plain" } });
    expect([unreadable.status, unreadable.headers.has("ratelimit")]).toEqual([415, true]);
    expect(untold("POST", "/agents", unreadable)).toEqual([]);
    expect((await h.get("/nowhere")).headers.has("ratelimit")).toBe(false);
  });
});

test("the examples are consistent: the agent of one has the call of the other", async () => {
  const example = (path: string) =>
    (operationAt("POST", path) as unknown as { requestBody: { content: Record<string, { example: object }> } })
      .requestBody.content["application/json"]!.example;
  const made = await h.post("/agents", example("/agents"));
  expect(made.status, JSON.stringify(made.body)).toBe(201);
  const call = await h.post("/calls", { ...example("/calls"), agentId: made.body.data.id });
  expect(call.status, JSON.stringify(call.body)).toBe(201);
});
