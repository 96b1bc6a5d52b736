import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { agent, startTestApp, type TestApp, type TestResponse, until } from "../support/app.ts";
import { letSafetyJobsRun } from "../support/calls.ts";

const h = await startTestApp({ workers: true });
const platformKey = h.env.ULTRAVOX_API_KEY;

let count = 0;
const fresh = (stem = "tool") => `${stem}_${++count}`;
const http = {
  type: "http",
  url: "https://api.example.com/orders/{orderId}",
  method: "GET",
  parameters: [{ name: "orderId", in: "path", schema: { type: "string" } }],
};
const body = (more: object = {}) => ({ name: fresh(), description: "Finds an order.", definition: http, ...more });
const make = async (more: object = {}) => {
  const made = await h.post("/tools", body(more));
  expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 });
  return made.body.data;
};

type Upstream = { toolId: string; name: string; definition: Record<string, unknown> };
async function atProvider(method: string, path: string, content?: unknown) {
  const response = await fetch(h.simulator.url + path, {
    method,
    headers: { "x-api-key": platformKey, "content-type": "application/json" },
    ...(content === undefined ? {} : { body: JSON.stringify(content) }),
  });
  return (await response.json()) as { results: Upstream[] };
}
const upstreamOf = async (id: string): Promise<Upstream[]> =>
  (await atProvider("GET", `/api/tools?search=${id}&pageSize=100`)).results;
const asked = async (method: string) => {
  const { requests } = (await h.simulator.status()) as { requests: Record<string, number> };
  return Object.entries(requests).reduce(
    (sum, [path, n]) => (path.startsWith(`${method} /api/tools`) ? sum + n : sum),
    0,
  );
};
const storyOf = async (id: string) =>
  (await h.owner`select type from events where subject_id = ${id} order by sequence`).map(({ type }) => type);
const refusal = ({ status, body: { error } }: TestResponse) => ({
  status,
  code: error.code,
  paths: error.details?.map(({ path }: { path: string }) => path),
});

async function keepSecret(name: string, value: string, at: TestApp = h) {
  const id = newId("credential");
  const ring = await at.deps.providers.vault.keys(at.ada.clientId, "provider_credential");
  await at.owner`insert into credentials (client_id, id, provider, prefix, sealed)
    values (${at.ada.clientId}, ${id}, ${name}, 'x', ${ring.seal(JSON.stringify({ value }), id)})
    on conflict (client_id, provider) do update set id = excluded.id, sealed = excluded.sealed`;
}

afterEach(() => h.simulator.faults({}));

describe("a tool", () => {
  test("is created with defaults for omitted fields, is active immediately, and is found on both transports", async () => {
    const given = body({ metadata: { team: "desk" } });
    const made = await h.post("/tools", given);
    expect(made).toMatchObject({ status: 201 });
    const { data } = made.body;
    expect(data).toMatchObject({
      ...given,
      definition: {},
      kind: "http",
      status: "active",
      statusReason: null,
      version: 1,
    });
    expect(data.definition).toEqual({
      ...http,
      parameters: [{ ...http.parameters[0], description: "", required: true }],
      staticParameters: [],
      automaticParameters: [],
      auth: null,
      timeoutSeconds: 20,
      reaction: "speaks",
      staticResponse: null,
    });
    expect((await h.get(`/tools/${data.id}`)).body.data).toEqual(data);
    expect((await h.query("tools.get", { id: data.id })).body.result.data).toEqual(data);
    expect((await h.get("/tools?limit=1")).body.data).toEqual([data]);
    expect(await storyOf(data.id)).toEqual(["tool.created"]);
  });

  test("exists at the provider under our id, in the provider's format, and without its secret", async () => {
    await keepSecret("custom-crm", "a-very-secret-value");
    const { id, name } = await make({
      definition: {
        ...http,
        method: "POST",
        parameters: [
          { name: "orderId", in: "path", description: "As on the receipt.", schema: { type: "string", minLength: 3 } },
          { name: "tags", in: "body", schema: { type: "array", items: { type: "string" } }, required: false },
        ],
        staticParameters: [{ name: "source", in: "query", value: "voice" }],
        automaticParameters: [
          { name: "x-call", in: "header", value: "call_id" },
          { name: "history", in: "body", value: "conversation_history" },
          { name: "status", in: "body", value: "call_state" },
          { name: "stage", in: "body", value: "call_stage_id" },
          { name: "rate", in: "body", value: "output_sample_rate" },
          { name: "about", in: "body", value: "call_metadata" },
        ],
        auth: { type: "bearer", credential: "custom-crm" },
        timeoutSeconds: 7,
        reaction: "speaks_once",
        staticResponse: "One moment.",
      },
    });
    const automatic = (key: string, location: string, known: string) => ({
      name: key,
      location: `PARAMETER_LOCATION_${location}`,
      knownValue: `KNOWN_PARAM_${known}`,
    });
    const [upstream, ...more] = await upstreamOf(id);
    expect(more).toEqual([]);
    expect(upstream?.definition).toEqual({
      modelToolName: name,
      description: "Finds an order.",
      dynamicParameters: [
        {
          name: "orderId",
          location: "PARAMETER_LOCATION_PATH",
          schema: { type: "string", minLength: 3, description: "As on the receipt." },
          required: true,
        },
        {
          name: "tags",
          location: "PARAMETER_LOCATION_BODY",
          schema: { type: "array", items: { type: "string" } },
          required: false,
        },
      ],
      staticParameters: [{ name: "source", location: "PARAMETER_LOCATION_QUERY", value: "voice" }],
      automaticParameters: [
        automatic("x-call", "HEADER", "CALL_ID"),
        automatic("history", "BODY", "CONVERSATION_HISTORY"),
        automatic("status", "BODY", "CALL_STATE"),
        automatic("stage", "BODY", "CALL_STAGE_ID"),
        automatic("rate", "BODY", "OUTPUT_SAMPLE_RATE"),
        automatic("about", "BODY", "CALL_METADATA"),
      ],
      requirements: {
        httpSecurityOptions: { options: [{ requirements: { auth: { httpAuth: { scheme: "Bearer" } } } }] },
      },
      timeout: "7s",
      http: { baseUrlPattern: http.url, httpMethod: "POST" },
      defaultReaction: "AGENT_REACTION_SPEAKS_ONCE",
      staticResponse: { responseText: "One moment." },
    });
    expect(JSON.stringify(await h.simulator.requests())).not.toContain("a-very-secret-value");
    expect(JSON.stringify((await h.get(`/tools/${id}`)).body)).not.toContain("a-very-secret-value");
  });

  test.each([
    [{ type: "header", name: "X-Key" }, { headerApiKey: { name: "X-Key" } }],
    [{ type: "query", name: "key" }, { queryApiKey: { name: "key" } }],
    [{ type: "basic" }, { httpAuth: { scheme: "Basic" } }],
  ])("that sends its secret by %j has a requirement for it at the provider", async (auth, requirement) => {
    await keepSecret("custom-crm", "user:password");
    const { id } = await make({ definition: { ...http, auth: { ...auth, credential: "custom-crm" } } });
    const { requirements } = (await upstreamOf(id))[0]!.definition;
    expect(requirements).toEqual({ httpSecurityOptions: { options: [{ requirements: { auth: requirement } }] } });
  });

  test("of type client has a body and no address", async () => {
    const parameters = [{ name: "page", description: "Which.", schema: { enum: ["a", "b"] } }];
    const { id, kind } = await make({ definition: { type: "client", parameters } });
    expect(kind).toBe("client");
    expect((await upstreamOf(id))[0]!.definition).toMatchObject({
      client: {},
      dynamicParameters: [
        { name: "page", location: "PARAMETER_LOCATION_BODY", schema: { enum: ["a", "b"], description: "Which." } },
      ],
    });
  });

  test("of type builtin is active immediately, and nothing is created at the provider", async () => {
    const before = await asked("POST");
    const definition = { type: "builtin", name: "leaveVoicemail", parameterOverrides: { message: "Call us." } };
    const made = await make({ definition });
    expect(made).toMatchObject({ kind: "builtin", status: "active", version: 1, definition });
    const named = await h.post("/tools", body({ name: "hangUp", definition: { type: "builtin", name: "hangUp" } }));
    expect(named, "its own name is no disguise").toMatchObject({ status: 201 });
    expect((await h.patch(`/tools/${made.id}`, { description: "Else." })).body.data).toMatchObject({ version: 2 });
    expect(await asked("POST")).toBe(before);
    expect((await h.remove(`/tools/${made.id}`)).status).toBe(204);
    expect(await storyOf(made.id)).toEqual(["tool.created", "tool.updated", "tool.deleted"]);
  });

  test("keeps every field that a change omits, and the provider gets the whole tool each time", async () => {
    const made = await make({ metadata: { a: "1" } });
    const definition = { ...made.definition, timeoutSeconds: 3, parameters: [], url: "https://api.example.com/all" };
    const changes = [{ description: "Else." }, { name: fresh("renamed") }, { definition }, { metadata: { b: "2" } }];
    let expected = made;
    for (const [index, change] of changes.entries()) {
      const changed = await h.patch(`/tools/${made.id}`, change);
      expected = { ...expected, ...change, version: index + 2, updatedAt: expect.any(String) };
      expect(changed).toMatchObject({ status: 200, body: { data: expected } });
      expect((await h.get(`/tools/${made.id}`)).body.data).toEqual(expected);
      const [upstream] = await upstreamOf(made.id);
      expect(upstream?.definition).toMatchObject({
        modelToolName: expected.name,
        description: expected.description,
        timeout: `${expected.definition.timeoutSeconds}s`,
        http: { baseUrlPattern: expected.definition.url },
      });
    }
    expect(await storyOf(made.id)).toEqual(["tool.created", ...changes.map(() => "tool.updated")]);
  });

  test("is not sent again if the provider already has the same definition, and an empty change creates no version", async () => {
    const made = await make();
    const before = await asked("PUT");
    expect((await h.patch(`/tools/${made.id}`, { metadata: { a: "1" } })).body.data).toMatchObject({ version: 2 });
    const same = await h.patch(`/tools/${made.id}`, { name: made.name, definition: made.definition });
    expect(same).toMatchObject({ status: 200, body: { data: { version: 2 } } });
    expect((await h.patch(`/tools/${made.id}`, {})).body.data.version).toBe(2);
    expect(await asked("PUT")).toBe(before);
    expect(await storyOf(made.id)).toEqual(["tool.created", "tool.updated"]);
  });

  test("is listed by kind, status, part of the name, metadata and time of creation", async () => {
    const stem = fresh("pre");
    const first = await make({ name: `${stem}_a` });
    const second = await make({
      name: `${stem}_b`,
      definition: { type: "client" },
      metadata: { list: stem },
    });
    await make({ name: `${stem}Xc` });
    const ids = async (query: string) =>
      (await h.get(`/tools?limit=100&${query}`)).body.data.map(({ id }: { id: string }) => id);
    expect(await ids(`search=${stem}_`)).toEqual([second.id, first.id]);
    expect(await ids(`search=${stem}_&kind=client`)).toEqual([second.id]);
    expect(await ids(`search=${stem.toUpperCase()}_`)).toEqual([second.id, first.id]);
    expect(await ids(`search=${encodeURIComponent("%")}`)).toEqual([]);
    expect(await ids(`search=${stem}&metadata=list:${stem}`)).toEqual([second.id]);
    expect(await ids(`search=${stem}_&createdAfter=${second.createdAt}`)).toEqual([second.id]);
    expect(await ids(`search=${stem}_&createdBefore=${second.createdAt}`)).toEqual([first.id]);
    await h.owner`update tools set status = 'failed' where id = ${first.id}`;
    expect(await ids(`search=${stem}_&status=failed`)).toEqual([first.id]);
    expect(await ids(`search=${stem}_&status=active`)).toEqual([second.id]);
  });
});

describe("a name", () => {
  test("belongs to one tool of a client, also under concurrency; another client can use it too", async () => {
    const name = fresh("race");
    const answers = await Promise.all(Array.from({ length: 8 }, () => h.post("/tools", body({ name }))));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status !== 201)) {
      expect(refusal(answer)).toEqual({ status: 409, code: "tool_name_taken", paths: ["name"] });
    }
    expect((await h.post("/tools", body({ name }), { key: h.bob.key })).status).toBe(201);
  });

  test("that two tools request concurrently goes to one of them, and neither change is half done", async () => {
    const [one, two] = [await make(), await make()];
    const name = fresh("wanted");
    const answers = await Promise.all([one, two].map(({ id }) => h.patch(`/tools/${id}`, { name })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 409]);
    const rows = await h.owner`select name, pending from tools where id in (${one.id}, ${two.id})`;
    expect(rows.filter((row) => row.name === name)).toHaveLength(1);
    expect(rows.map(({ pending }) => pending)).toEqual([null, null]);
  });

  test("of a pending change is already taken", async () => {
    const [one, two] = [await make(), await make()];
    const name = fresh("under_way");
    await h.simulator.faults({ applyTo: "tools", changes: { errors: [{ status: 500, times: 50 }] } });
    expect(await h.patch(`/tools/${one.id}`, { name })).toMatchObject({ status: 202, body: { data: { version: 1 } } });
    await h.simulator.faults({});
    for (const answer of [await h.post("/tools", body({ name })), await h.patch(`/tools/${two.id}`, { name })]) {
      expect(refusal(answer)).toMatchObject({ code: "tool_name_taken" });
    }
    expect(refusal(await h.post("/tools", body({ name: one.name })))).toMatchObject({ code: "tool_name_taken" });
    await letSafetyJobsRun(h);
    expect((await h.get(`/tools/${one.id}`)).body.data).toMatchObject({ name, version: 2 });
    expect((await h.post("/tools", body({ name: one.name }))).status, "the old one is free").toBe(201);
  });

  test.each(["hangUp", "hangup", "queryCorpus", "coldTransfer", "leaveVoicemail"])(
    "of the provider's own, %s, is no client's",
    async (name) => {
      expect(refusal(await h.post("/tools", body({ name })))).toMatchObject({
        code: "tool_name_taken",
        paths: ["name"],
      });
      const { id } = await make();
      expect(refusal(await h.patch(`/tools/${id}`, { name }))).toMatchObject({ code: "tool_name_taken" });
    },
  );

  test("is free again when its tool is deleted, or was never created", async () => {
    const name = fresh("again");
    const first = await make({ name });
    expect((await h.remove(`/tools/${first.id}`)).status).toBe(204);
    await h.simulator.faults({ applyTo: "tools", create: { errors: [{ status: 400, times: 1 }] } });
    expect(await h.post("/tools", body({ name }))).toMatchObject({
      status: 422,
      body: { error: { code: "provider_rejected" } },
    });
    await make({ name });
  });
});

describe("when the provider fails", () => {
  test("a tool whose create response was lost is found at the provider and exists once", async () => {
    await h.simulator.faults({ applyTo: "tools", create: { resetAfterAccepting: 1 } });
    const given = body();
    const made = await h.post("/tools", given, { idempotencyKey: `lost-${given.name}` });
    expect(made).toMatchObject({ status: 202, body: { data: { status: "provisioning", version: 0 } } });
    const { id } = made.body.data;
    expect(refusal(await h.patch(`/tools/${id}`, { description: "x" }))).toMatchObject({ code: "tool_busy" });
    expect(refusal(await h.remove(`/tools/${id}`))).toMatchObject({ code: "tool_busy" });
    expect(await upstreamOf(id)).toHaveLength(1);
    await letSafetyJobsRun(h);
    expect((await h.get(`/tools/${id}`)).body.data).toMatchObject({ status: "active", version: 1 });
    const replay = await h.post("/tools", given, { idempotencyKey: `lost-${given.name}` });
    expect(replay).toMatchObject({ status: 201, body: { data: { id, status: "active" } } });
    expect(await upstreamOf(id)).toHaveLength(1);
    expect(await storyOf(id)).toEqual(["tool.created"]);
  });

  test("a second tool of the same name at the provider is removed", async () => {
    await h.simulator.faults({ applyTo: "tools", create: { resetAfterAccepting: 1 } });
    const { id } = (await h.post("/tools", body())).body.data;
    const [first] = await upstreamOf(id);
    await atProvider("POST", "/api/tools", { name: id, definition: first?.definition });
    expect(await upstreamOf(id)).toHaveLength(2);
    await letSafetyJobsRun(h);
    const left = await until(async () => {
      const found = await upstreamOf(id);
      return found.length === 1 ? found : null;
    });
    const [row] = await h.owner`select provider_tool_id from tools where id = ${id}`;
    expect(left[0]!.toolId).toBe(row!.provider_tool_id);
  });

  test("a tool that never reached the provider is failed with the reason, and can be deleted", async () => {
    await h.simulator.faults({ applyTo: "tools", create: { errors: [{ status: 500, times: 1 }] } });
    const { id } = (await h.post("/tools", body())).body.data;
    await h.simulator.faults({});
    await letSafetyJobsRun(h);
    const { data } = (await h.get(`/tools/${id}`)).body;
    expect(data).toMatchObject({ status: "failed", version: 0, statusReason: expect.any(String) });
    expect(refusal(await h.patch(`/tools/${id}`, { description: "x" }))).toMatchObject({ code: "tool_not_active" });
    expect((await h.remove(`/tools/${id}`)).status).toBe(204);
    expect(await storyOf(id)).toEqual(["tool.deleted"]);
  });

  test("a refused change leaves the tool as it was, and it can be changed again", async () => {
    const made = await make();
    await h.simulator.faults({ applyTo: "tools", changes: { errors: [{ status: 400, times: 1 }] } });
    expect(refusal(await h.patch(`/tools/${made.id}`, { description: "Bad." }))).toMatchObject({
      status: 422,
      code: "provider_rejected",
    });
    expect((await h.get(`/tools/${made.id}`)).body.data).toEqual(made);
    expect((await h.patch(`/tools/${made.id}`, { description: "Good." })).body.data.version).toBe(2);
  });

  test("a change with a lost response keeps the tool busy until it is settled, and is made once", async () => {
    const made = await make();
    await h.simulator.faults({ applyTo: "tools", changes: { errors: [{ status: 500, times: 50 }] } });
    const lost = await h.patch(`/tools/${made.id}`, { description: "Later." });
    expect(lost, "the old one is shown").toMatchObject({ status: 202, body: { data: made } });
    await h.simulator.faults({});
    for (const answer of [
      await h.patch(`/tools/${made.id}`, { description: "x" }),
      await h.remove(`/tools/${made.id}`),
    ]) {
      expect(refusal(answer)).toMatchObject({ status: 409, code: "tool_busy" });
    }
    await letSafetyJobsRun(h);
    expect((await h.get(`/tools/${made.id}`)).body.data).toMatchObject({ description: "Later.", version: 2 });
    expect((await upstreamOf(made.id))[0]!.definition.description).toBe("Later.");
    expect(await storyOf(made.id)).toEqual(["tool.created", "tool.updated"]);
  });

  test("eight concurrent changes are made one after another, or refused because the tool is busy", async () => {
    const { id } = await make();
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => h.patch(`/tools/${id}`, { description: `Change ${index}.` })),
    );
    const done = answers.filter(({ status }) => status === 200);
    for (const answer of answers.filter(({ status }) => status !== 200)) {
      expect(refusal(answer)).toMatchObject({ status: 409, code: "tool_busy" });
    }
    const { data } = (await h.get(`/tools/${id}`)).body;
    expect(data.version).toBe(1 + done.length);
    expect((await upstreamOf(id))[0]!.definition.description).toBe(data.description);
  });
});

describe("deleting", () => {
  test("is refused while agents use the tool, and the error names them; force deletes it", async () => {
    const tool = await make();
    const { data } = (await h.post("/agents", { ...agent, name: "Desk" })).body;
    await h.owner`insert into agent_uses (client_id, agent_id, kind, target_id)
      values (${h.ada.clientId}, ${data.id}, 'tool', ${tool.id})`;
    const refused = await h.remove(`/tools/${tool.id}`);
    expect(refusal(refused)).toEqual({ status: 409, code: "tool_in_use", paths: ["agent"] });
    expect(refused.body.error.details[0]).toMatchObject({ path: "agent", id: data.id, name: "Desk" });
    expect(refusal(await h.remove(`/tools/${tool.id}?force=false`))).toMatchObject({ code: "tool_in_use" });
    expect((await h.get(`/tools/${tool.id}`)).status).toBe(200);
    expect((await h.remove(`/tools/${tool.id}?force=true`)).status).toBe(204);
  });

  test("removes it here immediately, and at the provider soon", async () => {
    const { id } = await make();
    expect((await h.remove(`/tools/${id}`)).status).toBe(204);
    for (const answer of [
      await h.get(`/tools/${id}`),
      await h.patch(`/tools/${id}`, { description: "x" }),
      await h.remove(`/tools/${id}`),
      await h.post(`/tools/${id}/test`, {}),
    ]) {
      expect(refusal(answer)).toMatchObject({ status: 404, code: "tool_not_found" });
    }
    expect((await h.get("/tools?limit=100")).body.data.map((tool: { id: string }) => tool.id)).not.toContain(id);
    await until(async () => (await upstreamOf(id)).length === 0);
    expect(await storyOf(id)).toEqual(["tool.created", "tool.deleted"]);
  });
});

describe("an inconsistent definition", () => {
  const parameter = (more: object = {}) => ({ name: "a", in: "query", schema: { type: "string" }, ...more });
  const plain = { type: "http", url: "https://api.example.com/x", method: "POST" };
  const deep = (levels: number): object => (levels === 0 ? { type: "string" } : { items: deep(levels - 1) });
  const cases: [string, object, string][] = [
    [
      "names a path parameter for which the URL has no place",
      { ...plain, parameters: [parameter({ in: "path" })] },
      "parameters.0.name",
    ],
    ["has a place that nothing fills", { ...plain, url: "https://api.example.com/{id}" }, "url"],
    [
      "fills a place from the query",
      { ...plain, url: "https://api.example.com/{a}", parameters: [parameter()] },
      "url",
    ],
    [
      "may leave a place empty",
      { ...http, parameters: [{ ...http.parameters[0], required: false }] },
      "parameters.0.required",
    ],
    ["has a place in the host", { ...plain, url: "https://{a}.example.com/" }, "url"],
    ["has a place for the user", { ...plain, url: "https://{a}@example.com/" }, "url"],
    ["has a place in the query", { ...plain, url: "https://api.example.com/x?a={a}" }, "url"],
    ["leaves a brace open", { ...plain, url: "https://api.example.com/{a" }, "url"],
    ["has a URL that is none", { ...plain, url: "orders" }, "url"],
    ["has a parameter twice", { ...plain, parameters: [parameter(), parameter()] }, "parameters.1.name"],
    [
      "calls two things by one name",
      { ...plain, parameters: [parameter(), parameter({ in: "body" })] },
      "parameters.1.name",
    ],
    [
      "fixes what the model fills in",
      { ...plain, parameters: [parameter()], staticParameters: [{ name: "a", in: "query", value: "1" }] },
      "staticParameters.0.name",
    ],
    [
      "sets one header twice, in another case",
      {
        ...plain,
        staticParameters: [{ name: "x-a", in: "header", value: "1" }],
        automaticParameters: [{ name: "X-A", in: "header", value: "call_id" }],
      },
      "automaticParameters.0.name",
    ],
    ["gives a GET a body", { ...plain, method: "GET", parameters: [parameter({ in: "body" })] }, "parameters.0.in"],
    [
      "sets a header of the line",
      { ...plain, parameters: [parameter({ name: "Host", in: "header" })] },
      "parameters.0.name",
    ],
    [
      "sets another",
      { ...plain, staticParameters: [{ name: "Transfer-Encoding", in: "header", value: "x" }] },
      "staticParameters.0.name",
    ],
    [
      "splits a header",
      { ...plain, staticParameters: [{ name: "x-a", in: "header", value: "a\r\nb: c" }] },
      "staticParameters.0.value",
    ],
    [
      "shows its secret in a header of the line",
      { ...plain, auth: { type: "header", name: "host", credential: "custom-crm" } },
      "auth.name",
    ],
    [
      "sets the header that shows its secret",
      {
        ...plain,
        auth: { type: "bearer", credential: "custom-crm" },
        staticParameters: [{ name: "Authorization", in: "header", value: "x" }],
      },
      "staticParameters.0.name",
    ],
    [
      "holds a secret that is no stored one",
      { ...plain, auth: { type: "bearer", credential: "sk-123" } },
      "auth.credential",
    ],
    [
      "has a schema that is none",
      { ...plain, parameters: [parameter({ schema: { type: "text" } })] },
      "parameters.0.schema",
    ],
    [
      "has a keyword that is none",
      { ...plain, parameters: [parameter({ schema: { typ: "string" } })] },
      "parameters.0.schema",
    ],
    [
      "has too many schemas",
      { ...plain, parameters: [parameter({ schema: { type: "string", pattern: "(" } })] },
      "parameters.0.schema",
    ],
    [
      "refers elsewhere",
      {
        ...plain,
        parameters: Array.from({ length: 50 }, (_, n) =>
          parameter({ name: `p${n}`, schema: { anyOf: Array.from({ length: 9 }, (_, minLength) => ({ minLength })) } }),
        ),
      },
      "parameters",
    ],
    [
      "has a schema with a reference",
      { ...plain, parameters: [parameter({ schema: { $ref: "https://example.com/s" } })] },
      "parameters.0.schema",
    ],
    [
      "refers to itself",
      { ...plain, parameters: [parameter({ schema: { items: { $ref: "#" } } })] },
      "parameters.0.schema",
    ],
    [
      "has a schema that is too deep",
      { ...plain, parameters: [parameter({ schema: deep(11) })] },
      "parameters.0.schema",
    ],
    [
      "has a schema that is too long",
      { ...plain, parameters: [parameter({ schema: { enum: ["x".repeat(8000)] } })] },
      "parameters.0.schema",
    ],
    ["waits too long", { ...plain, timeoutSeconds: 41 }, "timeoutSeconds"],
    ["gives an app an address", { type: "client", url: "https://example.com/" }, "url"],
    [
      "gives an app a parameter twice",
      {
        type: "client",
        parameters: [
          { name: "a", schema: {} },
          { name: "a", schema: {} },
        ],
      },
      "parameters.1.name",
    ],
    [
      "gives an app no schema",
      { type: "client", parameters: [{ name: "a", schema: { type: 5 } }] },
      "parameters.0.schema",
    ],
    ["names nothing that the provider brings", { type: "builtin", name: "dance" }, "name"],
    ["queries a corpus without a name", { type: "builtin", name: "queryCorpus" }, "name"],
    [
      "fixes what is not there",
      { type: "builtin", name: "hangUp", parameterOverrides: { corpus_id: "x" } },
      "parameterOverrides.corpus_id",
    ],
    [
      "fixes it to something else",
      { type: "builtin", name: "hangUp", parameterOverrides: { strict: "yes" } },
      "parameterOverrides.strict",
    ],
    ["lets the model choose whom to dial", { type: "builtin", name: "coldTransfer" }, "parameterOverrides.target"],
    ["is of no kind", { type: "ftp" }, "type"],
  ];

  test.each(cases)("is refused by the name of the field, because it %s", async (_, definition, path) => {
    const { id } = (await h.get("/tools?limit=1&kind=http")).body.data[0];
    for (const answer of [
      await h.post("/tools", body({ definition })),
      await h.patch(`/tools/${id}`, { definition }),
    ]) {
      const { status, code, paths } = refusal(answer);
      expect({ status, code }).toEqual({ status: 400, code: "input_invalid" });
      expect(new Set(paths)).toEqual(new Set([`definition.${path}`]));
    }
  });

  test("has ajv's message about an invalid schema", async () => {
    const definition = { ...plain, parameters: [parameter({ schema: { type: "text" } })] };
    const { error } = (await h.post("/tools", body({ definition }))).body;
    expect(error.message).toMatch(/JSON Schema.*(allowed values|must)/);
  });

  test("is refused for a secret that is not stored, and for another kind of tool", async () => {
    const definition = { ...plain, auth: { type: "bearer", credential: "custom-none" } };
    const { id } = await make();
    for (const answer of [
      await h.post("/tools", body({ definition })),
      await h.patch(`/tools/${id}`, { definition }),
    ]) {
      expect(refusal(answer)).toEqual({
        status: 404,
        code: "credential_not_found",
        paths: ["definition.auth.credential"],
      });
    }
    await keepSecret("custom-adas", "hers");
    const adas = { ...plain, auth: { type: "bearer", credential: "custom-adas" } };
    expect(refusal(await h.post("/tools", body({ definition: adas }), { key: h.bob.key }))).toMatchObject({
      status: 404,
    });
    expect(refusal(await h.patch(`/tools/${id}`, { definition: { type: "client" } }))).toEqual({
      status: 400,
      code: "input_invalid",
      paths: ["definition.type"],
    });
  });
});

describe("an address", async () => {
  const strict = await startTestApp({
    env: { ALLOW_PRIVATE_WEBHOOKS: "false", PRIVATE_ADDRESSES_ALLOWED: "10.9.0.0/16" },
  });
  const at = (url: string) => ({ ...body(), definition: { type: "http", url, method: "GET" } });

  test.each([
    "http://api.example.com/",
    "https://127.0.0.1/",
    "https://10.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://169.254.169.254/latest",
    "https://0x7f.1/",
    "https://a:b@example.com/",
    "https://example.com:22/",
    "https://example.com/#x",
    // Other parsers find another host in these than ours, and the provider uses the URL as it was written.
    "https://example.com\\@127.0.0.1/",
    "https://@example.com/",
    "https:example.com/",
    "https:///example.com/",
    "https://exa\tmple.com/",
    "https://example.com/\r\nX: y",
  ])("%j is refused on create and on change", async (url) => {
    const refused = { status: 422, code: "url_forbidden", paths: ["definition.url"] };
    expect(refusal(await strict.post("/tools", at(url)))).toEqual(refused);
    const made = (await strict.post("/tools", at("https://example.com/"))).body.data;
    expect(refusal(await strict.patch(`/tools/${made.id}`, { definition: at(url).definition }))).toEqual(refused);
    expect((await strict.get(`/tools/${made.id}`)).body.data).toEqual(made);
  });

  test("of the operator's own network can be used, by tools and by webhooks", async () => {
    expect((await strict.post("/tools", at("http://10.9.1.1:8080/x"))).status).toBe(201);
    expect((await strict.post("/webhooks", { url: "http://10.9.1.1:8080/x" })).status).toBe(201);
    expect((await strict.post("/webhooks", { url: "http://10.8.1.1:8080/x" })).status).toBe(422);
  });

  test("that was valid when it was stored is checked again when it is used", async () => {
    const { id } = (await strict.post("/tools", at("https://example.com/"))).body.data;
    await strict.owner`update tools set config = jsonb_set(config, '{definition,url}', '"https://127.0.0.1/"') where id = ${id}`;
    expect((await strict.post(`/tools/${id}/test`, {})).body.data).toMatchObject({
      response: null,
      error: { reason: "address_forbidden" },
    });
  });
});

describe("testing a tool", () => {
  let target: Awaited<ReturnType<typeof openTarget>>;
  beforeAll(async () => {
    target = await openTarget();
    return () => target.close();
  });
  const at = (path: string, more: object = {}) => ({ type: "http", url: target.url + path, method: "GET", ...more });
  const tryIt = async (definition: object, input: object = {}) => {
    const { id } = await make({ definition });
    return h.post(`/tools/${id}/test`, input);
  };
  /** The time for patterns is measured by the clock, so a test repeats a request that ran out of it. */
  const tryInTime = (definition: object, parameters: object) =>
    until(async () => {
      const answer = await tryIt(definition, { parameters });
      return answer.body.error?.message.includes("takes too long") ? null : answer;
    });
  const spoken = (name: string, place: string, schema: object = {}, more: object = {}) => ({
    name,
    in: place,
    schema,
    ...more,
  });

  test("sends what the provider would send, each value in its place, and returns the response", async () => {
    target.answer = (response) => response.writeHead(201, { "x-one": "1" }).end('{"status":"shipped"}');
    const definition = at("/orders/{orderId}", {
      method: "POST",
      parameters: [
        spoken("orderId", "path"),
        spoken("q", "query"),
        spoken("x-who", "header"),
        spoken("lines", "body", { type: "array" }),
        spoken("note", "body", {}, { required: false }),
      ],
      staticParameters: [{ name: "source", in: "query", value: 7 }],
      automaticParameters: [
        { name: "x-call", in: "header", value: "call_id" },
        { name: "status", in: "body", value: "call_state" },
        { name: "about", in: "body", value: "call_metadata" },
      ],
    });
    const answer = await tryIt(definition, {
      parameters: { orderId: "a/b ü?#", q: "x&y=z", "x-who": "Ada", lines: [1, { a: null }] },
      samples: { callId: "call-7", callState: { step: 2 }, callMetadata: { k: "v" } },
    });
    const url = `${target.url}/orders/a%2Fb%20%C3%BC%3F%23?q=x%26y%3Dz&source=7`;
    expect(answer).toMatchObject({ status: 200 });
    const { data } = answer.body;
    const sent = JSON.stringify({ lines: [1, { a: null }], status: { step: 2 }, about: { k: "v" } });
    expect(data).toMatchObject({
      request: { method: "POST", url, body: sent, headers: { "x-who": "Ada", "x-call": "call-7" } },
      response: { status: 201, body: '{"status":"shipped"}', truncated: false, headers: { "x-one": "1" } },
      error: null,
      wouldTimeOut: false,
    });
    const seen = target.seen.at(-1)!;
    expect(target.url + seen.url).toBe(url);
    expect(seen).toMatchObject({
      method: "POST",
      body: sent,
      headers: { "content-type": "application/json", "x-who": "Ada", "x-call": "call-7" },
    });
  });

  test.each([
    [{ type: "header", name: "X-Key" }, "s3cr/t+ü value", "x-key", "s3cr/t+ü value"],
    [{ type: "bearer" }, "tok_0123456789", "authorization", "Bearer tok_0123456789"],
    [{ type: "basic" }, "ada:pass/word+", "authorization", `Basic ${Buffer.from("ada:pass/word+").toString("base64")}`],
    [{ type: "query", name: "key" }, "q/s+c=r&t", "url", "?key=q%2Fs%2Bc%3Dr%26t"],
  ])("sends the secret as %j to the tool only", async (auth, secret, place, shown) => {
    await keepSecret("custom-try", secret);
    target.answer = (response, { url, headers }) => {
      const base64 = Buffer.from(secret).toString("base64");
      const all = [
        secret,
        encodeURIComponent(secret),
        encodeURIComponent(secret).toLowerCase(),
        base64,
        JSON.stringify({ secret }),
        url,
      ];
      response.writeHead(200, { "x-echo": encodeURIComponent(secret), "x-auth": String(headers.authorization) });
      response.end(all.join("\n"));
    };
    const answer = await tryIt(at("/", { auth: { ...auth, credential: "custom-try" } }));
    expect(answer.body.data.error).toBeNull();
    const seen = target.seen.at(-1)!;
    const got = place === "url" ? seen.url : Buffer.from(String(seen.headers[place]), "latin1").toString();
    expect(got).toContain(place === "x-key" ? "s3cr/t+" : shown);
    const text = JSON.stringify(answer.body);
    for (const form of [
      secret,
      encodeURIComponent(secret),
      Buffer.from(secret).toString("base64"),
      "pass/word",
      "pass%2fword",
    ]) {
      expect(text).not.toContain(form);
      expect(text.toLowerCase()).not.toContain(form.toLowerCase());
    }
    const { request } = answer.body.data;
    expect(place === "url" ? request.url : request.headers[place]).toMatch(/(^|\s|=)\[secret\]$/);
  });

  test("returns the first four kilobytes, without part of a secret at the end", async () => {
    const secret = `${"S".repeat(10)}0123456789`;
    await keepSecret("custom-cut", secret);
    const definition = at("/", { auth: { type: "bearer", credential: "custom-cut" } });
    for (const before of [4080, 4090, 4096 * 4 - 10, 4096 * 4 - 1]) {
      target.answer = (response) => response.end(`${"a".repeat(before)}${secret}${"b".repeat(5000)}`);
      const { response } = (await tryIt(definition)).body.data;
      expect(response.truncated).toBe(true);
      expect(Buffer.byteLength(response.body)).toBeLessThanOrEqual(4096);
      expect(response.body).not.toContain("S");
    }
    // Masking shortens the text, so the end of the read part moves into the shown part.
    target.answer = (response) => response.end(`${secret.repeat(818)}${"a".repeat(14)}${secret}`);
    const { response } = (await tryIt(definition)).body.data;
    expect(response.body).toMatch(/^(\[secret\])+a*(\[(s(e(c(r(e(t?)?)?)?)?)?)?)?$/);
  });

  test("reports a tool that fails, is late, redirects or does not respond, and is no failure of ours", async () => {
    target.answer = (response) => response.writeHead(503).end("down");
    expect((await tryIt(at("/"))).body.data).toMatchObject({ response: { status: 503, body: "down" }, error: null });
    target.answer = (response) => response.writeHead(302, { location: "/elsewhere" }).end();
    expect((await tryIt(at("/first"))).body.data).toMatchObject({ response: { status: 302 } });
    expect(target.seen.at(-1)!.url).toBe("/first");
    target.answer = () => {};
    const late = await tryIt(at("/", { timeoutSeconds: 1 }));
    expect(late).toMatchObject({
      status: 200,
      body: {
        data: {
          response: null,
          error: { reason: "timeout", message: "The tool did not respond within 1 s." },
          wouldTimeOut: true,
        },
      },
    });
    const gone = await tryIt({ ...at("/"), url: "http://127.0.0.1:1/" });
    expect(gone).toMatchObject({
      status: 200,
      body: { data: { error: { reason: "connection_failed" }, wouldTimeOut: false } },
    });
    await keepSecret("custom-line", "two\r\nlines: x");
    const split = await tryIt(at("/", { auth: { type: "bearer", credential: "custom-line" } }));
    expect(split.body.data).toMatchObject({ response: null, error: { reason: "request_malformed" } });
  });

  test("checks the model's values by the name of each parameter", async () => {
    const { id } = await make({
      definition: at("/{a}", {
        method: "POST",
        parameters: [
          spoken("a", "path", { type: "string" }),
          spoken(
            "b",
            "body",
            { type: "object", properties: { c: { type: "integer" } }, required: ["c"] },
            { required: false },
          ),
          spoken("x-h", "header", {}, { required: false }),
          spoken("e", "query", { type: "string", format: "email" }, { required: false }),
        ],
      }),
    });
    const before = target.seen.length;
    const cases: [object, string[]][] = [
      [{}, ["parameters.a"]],
      [{ a: 5 }, ["parameters.a"]],
      [{ a: null }, ["parameters.a"]],
      [{ a: ".." }, ["parameters.a"]],
      [{ a: "." }, ["parameters.a"]],
      [{ a: "" }, ["parameters.a"]],
      [{ a: "x", z: 1 }, ["parameters.z"]],
      [{ a: "x", b: { c: "1" } }, ["parameters.b.c"]],
      [{ a: "x", b: {} }, ["parameters.b"]],
      [{ a: "x", "x-h": "a\r\nHost: b" }, ["parameters.x-h"]],
      [{ a: "x", e: "nobody" }, ["parameters.e"]],
      [{ a: 1, z: 1, e: 1 }, ["parameters.z", "parameters.a", "parameters.e"]],
    ];
    for (const [parameters, paths] of cases) {
      const answer = await h.post(`/tools/${id}/test`, { parameters });
      expect(refusal(answer), JSON.stringify(parameters)).toEqual({ status: 400, code: "input_invalid", paths });
    }
    const large = await h.post(`/tools/${id}/test`, { parameters: { a: "x".repeat(17_000) } });
    expect(refusal(large)).toMatchObject({ code: "input_invalid", paths: ["parameters"] });
    expect(target.seen).toHaveLength(before);
  });

  test("sends no request whose values together leave their segment of the path", async () => {
    const text = { type: "string" };
    const { id } = await make({
      definition: at("/{a}{b}/.{c}", {
        method: "POST",
        parameters: ["a", "b", "c"].map((name) => spoken(name, "path", text)),
      }),
    });
    const before = target.seen.length;
    for (const [parameters, paths] of [
      [{ a: ".", b: ".", c: "x" }, ["parameters.a", "parameters.b"]],
      [{ a: "", b: ".", c: "x" }, ["parameters.a", "parameters.b"]],
      [{ a: "x", b: "y", c: "." }, ["parameters.c"]],
    ] as const) {
      const answer = await h.post(`/tools/${id}/test`, { parameters });
      expect(refusal(answer)).toEqual({ status: 400, code: "input_invalid", paths });
    }
    expect(target.seen).toHaveLength(before);
    const { body } = await h.post(`/tools/${id}/test`, { parameters: { a: ".", b: "x", c: ".." } });
    expect(body.data.request.url).toMatch(/\/\.x\/\.\.\.$/);
  });

  test("is not blocked by a pattern that never ends", async () => {
    const schema = { type: "string", pattern: "^(a+)+$" };
    const definition = at("/", { parameters: [spoken("a", "query", schema)] });
    const answer = await tryIt(definition, { parameters: { a: `${"a".repeat(60)}!` } });
    expect(refusal(answer)).toEqual({ status: 400, code: "input_invalid", paths: ["parameters.a"] });
    expect(answer.body.error.message).toContain("too long");
    const often = { type: "array", items: { type: "string", pattern: "^(a|a?)+$" } };
    const many = at("/", { parameters: [spoken("a", "query", often), spoken("b", "query", often)] });
    const slow = Array.from({ length: 200 }, () => `${"a".repeat(24)}!`);
    expect(refusal(await tryIt(many, { parameters: { a: slow, b: slow } }))).toMatchObject({ status: 400 });
    target.answer = (response) => response.end("ok");
    expect((await tryInTime(definition, { a: "aaa" })).body.data.response.body).toBe("ok");
    expect(refusal(await tryInTime(definition, { a: "b" }))).toMatchObject({ paths: ["parameters.a"] });
  });

  test("distinguishes two patterns", async () => {
    const properties = { b: { type: "string", pattern: "^b$" }, c: { type: "string", pattern: "^c$" } };
    const definition = at("/", { parameters: [spoken("a", "query", { type: "object", properties })] });
    target.answer = (response) => response.end("ok");
    expect((await tryInTime(definition, { a: { b: "b", c: "c" } })).body.data.response.body).toBe("ok");
    const swapped = await tryInTime(definition, { a: { b: "b", c: "b" } });
    expect(refusal(swapped)).toMatchObject({ paths: ["parameters.a.c"] });
  });

  test("sends one request per idempotency key, keeps the model's values out of the audit, and records the actor", async () => {
    target.answer = (response) => response.end("once");
    const { id } = await make({ definition: at("/", { parameters: [spoken("who", "query")] }) });
    const before = target.seen.length;
    const input = { parameters: { who: "Grace Hopper" } };
    const first = await h.post(`/tools/${id}/test`, input, { idempotencyKey: `try-${id}` });
    const again = await h.post(`/tools/${id}/test`, input, { idempotencyKey: `try-${id}` });
    expect(again.body).toEqual(first.body);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(target.seen.length).toBe(before + 1);
    const audited =
      await h.owner`select actor, input from audit_log where action = 'tools.test' and subject_id = ${id}`;
    expect(audited).toHaveLength(1);
    expect(JSON.stringify(audited)).not.toContain("Hopper");
    const made = await h.owner`select input from audit_log where action = 'tools.create' and subject_id = ${id}`;
    expect(made).toHaveLength(1);
  });

  test("holds no database connection while the tool works", async () => {
    const waiting: ServerResponse[] = [];
    target.answer = (response) => void waiting.push(response);
    const { id } = await make({ definition: at("/") });
    const tries = Array.from({ length: 12 }, () => h.post(`/tools/${id}/test`, {}));
    await until(async () => waiting.length === 12);
    expect((await h.get(`/tools/${id}`)).status).toBe(200);
    for (const response of waiting) response.end("at last");
    for (const answer of await Promise.all(tries)) expect(answer.body.data.response.body).toBe("at last");
  });

  test("works only for tools with an address, and needs the tool's stored secret", async () => {
    expect(refusal(await tryIt({ type: "client" }))).toEqual({ status: 400, code: "input_invalid", paths: ["id"] });
    expect(refusal(await tryIt({ type: "builtin", name: "playDtmfSounds" }))).toMatchObject({ code: "input_invalid" });
    await keepSecret("custom-lost", "x");
    const { id } = await make({ definition: at("/", { auth: { type: "bearer", credential: "custom-lost" } }) });
    await h.owner`delete from credentials where provider = 'custom-lost'`;
    expect(refusal(await h.post(`/tools/${id}/test`, {}))).toMatchObject({ status: 404, code: "credential_not_found" });
  });
});

type Seen = { method: string | undefined; url: string; headers: IncomingHttpHeaders; body: string };

/** An HTTP server that acts as a client's tool. */
async function openTarget() {
  const target = {
    url: "",
    seen: [] as Seen[],
    answer: ((response) => response.end()) as (response: ServerResponse, seen: Seen) => void,
    close: async () => {},
  };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const seen = { method: request.method, url: request.url ?? "", headers: request.headers, body: text };
    target.seen.push(seen);
    target.answer(response, seen);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  target.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  target.close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return target;
}
