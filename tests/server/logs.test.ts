import { afterAll, describe, expect, test } from "vitest";
import { openLog } from "../../server/log.ts";
import { agent as plainAgent, startTestApp, until } from "../support/app.ts";

const lines: string[] = [];
const h = await startTestApp({ workers: true, log: lines });

type Line = Record<string, unknown> & { msg: string; level: string; request_id?: string };
const logged = (): Line[] => lines.map((line) => JSON.parse(line));
const requests = () => logged().filter(({ msg }) => msg === "request");

const canary = { to: "+14155550177", from: "+14155550188", variable: "canary-variable-7f3a" };
/** A request with an X-Client-Id header. */
const agent = {
  ...plainAgent,
  variables: [{ name: "name", type: "string", required: true, default: null, description: null }],
};

const placed = {
  medium: { type: "phone", to: canary.to, from: canary.from },
  variables: { name: canary.variable },
};

describe("the log", () => {
  test("has one line per request, on both transports and for every outcome, with caller and client", async () => {
    const cases: [string, number, string | null, () => Promise<unknown>][] = [
      ["GET /api/v1/agents", 200, h.ada.clientId, () => h.get("/agents?limit=1", id("one"))],
      ["GET /trpc/agents.list", 200, h.ada.clientId, () => h.query("agents.list", {}, id("two"))],
      ["POST /api/v1/webhooks", 400, h.bob.clientId, () => h.post("/webhooks", {}, { ...id("three"), key: h.bob.key })],
      ["GET /api/v1/agents", 401, null, () => h.get("/agents", { ...id("four"), key: null })],
      ["GET /api/v1/nothing", 404, null, () => h.get("/nothing", id("five"))],
      ["GET /health/live", 200, null, () => h.send("GET", "/health/live", undefined, id("six"))],
    ];
    for (const [what, status, client_id, ask] of cases) {
      await ask();
      const { request_id } = { request_id: last };
      const [line, ...more] = await until(async () => {
        const found = requests().filter((each) => each.request_id === request_id);
        return found.length > 0 && found;
      });
      expect(more).toEqual([]);
      expect(`${line!.method} ${line!.path}`).toBe(what);
      expect(line).toMatchObject({ level: "info", status, client_id, request_id, ms: expect.any(Number) });
    }
  });

  let last = "";
  const id = (name: string) => {
    last = `log-${name}`;
    return { headers: { "x-request-id": last } };
  };
});

describe("what must stay secret", () => {
  test("is in no log line, no audit row, no job and no stored response, for every operation", async () => {
    const token = await h.token(h.ada);
    const made = await h.post(
      "/auth/api-keys",
      { name: "Canary", scopes: ["calls:read"] },
      { idempotencyKey: "canary-1" },
    );
    const hook = await h.post(
      "/webhooks",
      { url: "http://127.0.0.1:9/hook" },
      { idempotencyKey: "canary-2", key: token },
    );
    const { id: agentId } = (await h.post("/agents", agent, { idempotencyKey: "canary-3" })).body.data;
    const call = await h.post("/calls", { agentId, ...placed }, { idempotencyKey: "canary-4" });
    expect([made.status, hook.status, call.status]).toEqual([201, 201, 201]);
    const [apiKey, secret] = [made.body.data.key, hook.body.data.secret];
    await h.get("/calls", { key: apiKey });
    await h.mutate("calls.create", { agentId, ...placed, surprise: 1 });
    await h.post("/calls", { agentId, ...placed, medium: { ...placed.medium, to: `${canary.to}x` } });
    await h.get(`/calls?agentId=${encodeURIComponent(canary.to)}`);
    await h.get("/agents", { key: `${apiKey.slice(0, -4)}AAAA` });
    await h.get("/agents", { key: `${token.slice(0, -6)}AAAAAA` });
    await h.simulator.faults({ create: { errors: [{ status: 400 }, { status: 500 }] }, applyTo: "calls" });
    for (const n of [1, 2]) {
      const name = `canary-5-${n}`;
      await h.post("/calls", { agentId, ...placed }, { idempotencyKey: name, headers: { "x-request-id": name } });
    }
    await h.simulator.faults({});
    await until(async () => (await h.get(`/calls/${call.body.data.id}`)).body.data.outcomeFinal);
    await until(async () => (await h.owner`select from delivery_attempts`).length > 0);

    const secrets = {
      apiKey,
      apiKeyTail: apiKey.slice(13),
      token,
      signature: token.split(".")[2]!,
      secret,
      tail: secret.slice(10),
    };
    const provider = {
      key: h.env.ULTRAVOX_API_KEY,
      webhook: h.env.ULTRAVOX_WEBHOOK_SECRETS[0]!,
      vault: h.env.VAULT_MASTER_KEY,
    };
    const hidden = Object.entries({ ...secrets, ...provider, ...canary, toDigits: canary.to.slice(1) });
    const places = {
      log: lines.join("\n"),
      audit: await textOf("audit_log"),
      jobs: await textOf("graphile_worker._private_jobs"),
      stored: await textOf("idempotency_keys"),
      intents: await textOf("intents"),
      keys: await textOf("api_keys"),
    };
    expect(places.log).toContain('"msg":"request"');
    expect(places.jobs).toContain("intentId");
    for (const [place, text] of Object.entries(places)) {
      expect(text.length, place).toBeGreaterThan(200);
      for (const [name, value] of hidden) {
        expect(text.includes(value), `${name} stands in ${place}`).toBe(false);
        expect(text.includes(Buffer.from(value).toString("hex")), `${name} stands in ${place} as bytes`).toBe(false);
      }
    }
  });

  test("is masked in an error message wherever it occurs, and logging continues", () => {
    const out: string[] = [];
    const log = openLog("info", { write: (line: string) => void out.push(line) });
    const key = `pb_live_${"a1-_".repeat(8)}`;
    const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDU2Yf0mGkAnI=";
    const jwt = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl-_1";
    const inner = new Error(`Failed query: insert into calls\nparams: Bob,\n    at home,${canary.variable}`);
    const middle = new Error("the middle", { cause: inner });
    const outer = new Error(`refused ${canary.to} with ${key}, ${secret} and ${jwt}`, { cause: middle });
    log.error(
      { err: outer, authorization: `Bearer ${key}`, call: { to: canary.to, variables: { name: canary.variable } } },
      "failed",
    );
    log.error({ err: inner }, "failed");
    const text = out.join("");
    for (const hidden of [canary.to, canary.variable, key, key.slice(12), secret, secret.slice(8), jwt, "at home"])
      expect(text).not.toContain(hidden);
    const [first, second] = out.map((line) => JSON.parse(line));
    expect(first.err.message).toBe("refused [phone] with pb_live_a1-_…, whsec_… and [token]…");
    expect(first.err.cause).toBe("Error: the middle <- Error: Failed query: insert into calls");
    for (const { err } of [first, second]) expect(err.stack).toMatch(/\n +at .*logs\.test/);
  });
});

describe("the audit", () => {
  test("has a row for each mutation that was done, with the input redacted, and none for what was refused or only read", async () => {
    const before = await rows();
    const ask = (name: string) => ({ headers: { "x-request-id": `audit-${name}` } });
    const key = (await h.post("/auth/api-keys", { name: "Audited", scopes: ["calls:read"] }, ask("1"))).body.data;
    const hook = (await h.post("/webhooks", { url: "https://example.com/audited" }, ask("2"))).body.data;
    await h.patch(`/webhooks/${hook.id}`, { description: "CRM" }, ask("3"));
    await h.remove(`/webhooks/${hook.id}`, ask("4"));
    await h.remove(`/auth/api-keys/${key.id}`, ask("5"));
    const { id: agentId } = (await h.post("/agents", agent, ask("6"))).body.data;
    await h.mutate("agents.update", { id: agentId, name: "Night" }, { ...ask("7"), key: await h.token(h.ada) });
    const call = (await h.post("/calls", { agentId, ...placed, metadata: { order: "1" } }, ask("8"))).body.data;
    await h.get("/agents");
    await h.post("/webhooks", { url: 5 });
    await h.patch(`/webhooks/${hook.id}`, { description: "gone" });
    await h.post("/webhooks", { url: "https://example.com/audited" }, { key: null });

    const actor = h.ada.keyId;
    const redactedCall = {
      agentId,
      medium: { type: "phone", to: "[personal]", from: "[personal]" },
      variables: "[personal]",
      metadata: "[personal]",
    };
    const all = await rows();
    const asked = all.filter(({ request_id }) => request_id?.startsWith("audit-"));
    expect(all).toHaveLength(before.length + asked.length);
    expect(asked).toEqual([
      {
        actor,
        action: "apiKeys.create",
        subject_id: key.id,
        request_id: "audit-1",
        input: { kind: "platform", name: "Audited", scopes: ["calls:read"] },
      },
      {
        actor,
        action: "webhooks.create",
        subject_id: hook.id,
        request_id: "audit-2",
        input: { url: hook.url, description: null, eventTypes: ["*"] },
      },
      {
        actor,
        action: "webhooks.update",
        subject_id: hook.id,
        request_id: "audit-3",
        input: { id: hook.id, description: "CRM" },
      },
      { actor, action: "webhooks.remove", subject_id: hook.id, request_id: "audit-4", input: { id: hook.id } },
      { actor, action: "apiKeys.revoke", subject_id: key.id, request_id: "audit-5", input: { id: key.id } },
      {
        actor,
        action: "agents.create",
        subject_id: agentId,
        request_id: "audit-6",
        input: expect.objectContaining(agent),
      },
      {
        actor: h.ada.userId,
        action: "agents.update",
        subject_id: agentId,
        request_id: "audit-7",
        input: { id: agentId, name: "Night" },
      },
      { actor, action: "calls.create", subject_id: call.id, request_id: "audit-8", input: redactedCall },
    ]);
  });

  // What came of the call canary-5-2 is found out later, and written then.
  const rows = () =>
    h.owner`select actor, action, subject_id, request_id, input from audit_log
    where client_id = ${h.ada.clientId} and request_id is distinct from 'canary-5-2' order by id`.then((found) =>
      found.map((row) => ({ ...row })),
    );
});

describe("a fault of ours", () => {
  // This is the last test with this app: it breaks the database.
  test("does not expose its cause, on either transport, and is logged once with the request id and without the input", async () => {
    const { id: agentId } = (await h.post("/agents", agent)).body.data;
    await h.owner`alter table calls rename column metadata to metadata_gone`;
    const body = { agentId, ...placed, metadata: { canary: "canary-metadata-91c2" } };
    for (const [name, ask] of [
      ["rest", (headers: Record<string, string>) => h.post("/calls", body, { headers })],
      ["trpc", (headers: Record<string, string>) => h.mutate("calls.create", body, { headers })],
      ["read", (headers: Record<string, string>) => h.get("/calls", { headers })],
    ] as const) {
      const requestId = `broken-${name}`;
      const answer = await ask({ "x-request-id": requestId });
      const error = answer.body.error.data ?? answer.body.error;
      expect([answer.status, error.code, error.requestId]).toEqual([500, "internal_error", requestId]);
      expect(JSON.stringify(answer.body)).not.toMatch(/column|metadata|select|insert|stack|\.ts|Failed/i);
      const [line, ...more] = logged().filter(({ level, request_id }) => level === "error" && request_id === requestId);
      expect(more).toEqual([]);
      expect(line).toMatchObject({ msg: "request failed", code: "internal_error" });
      expect(JSON.stringify(line), "the cause is there for us").toMatch(/column .*metadata.* does not exist/);
    }
    const text = lines.join("\n");
    for (const hidden of [...Object.values(canary), "canary-metadata-91c2"]) expect(text).not.toContain(hidden);
  });
});

afterAll(() => expect(lines.every((line) => line.startsWith("{") && line.endsWith("}\n"))).toBe(true));

async function textOf(table: string): Promise<string> {
  const [row] = await h.owner.unsafe(`select coalesce(string_agg(t::text, ' '), '') as text from ${table} t`);
  return row!.text;
}
