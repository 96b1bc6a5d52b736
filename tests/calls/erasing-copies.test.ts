import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, expect, test } from "vitest";
import { callControl, telnyxAccount, telnyxHeaders } from "../../dev/simulators/telnyx.ts";
import { withoutSecrets } from "../../routers/ingress/mask-body.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import { agentThat } from "../support/artifacts.ts";
import { callRow, finished, hurry, queueSystemJob, waitingJobs } from "../support/calls.ts";

/** A webhook receiver that returns its request body, so that the stored attempt contains it. */
const echo = createServer(async (request, response) => void response.end(await text(request)));
await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
afterAll(() => {
  echo.closeAllConnections();
  echo.close();
});

const carrier = telnyxAccount();
const h = await startTestApp({
  workers: true,
  speed: 100,
  env: { PUBLIC_URL: "https://patchbay.test", TELNYX_PUBLIC_KEYS: carrier.publicKey },
});
const { port } = echo.address() as AddressInfo;
const hook = await h.post("/webhooks", { url: `http://127.0.0.1:${port}/echo`, eventTypes: ["*"] });
expect(hook.status).toBe(201);
afterEach(() => h.simulator.faults({}));

const trunk = { host: "trunk.example.org", username: "trunk-user-canary-417", password: "trunk-password-canary-901" };
expect((await h.send("PUT", "/auth/providers/sip", { secret: trunk })).status).toBe(200);

const canary = "marzipan-canary-5521";
const outputSchema = { type: "object", properties: { wish: {} } };
const agentId = await agentThat(h, { outputSchema, systemPrompt: "Greet {{name}}.", recordingEnabled: true });
const order = (to: string, more: object = {}) => ({
  agentId,
  medium: phone(to),
  metadata: { note: `metadata-${canary}` },
  variables: { name: `variable-${canary}` },
  greeting: `Hello, greeting-${canary}`,
  ...more,
});

/** Places a call with the canary in a tool result. Returns once it has ended, is billed, and all events are delivered. */
async function call(to: string, idempotencyKey: string, more: object = {}): Promise<string> {
  const placed = await h.post("/calls", order(to, more), { idempotencyKey });
  expect(placed.status, JSON.stringify(placed.body)).toBe(201);
  const { id } = placed.body.data;
  await until(async () => (await callRow(h, id)).status !== "ringing");
  const { provider_call_id } = await callRow(h, id);
  const tool = { name: "order", arguments: { wish: `tool-${canary}` }, result: `result-${canary}` };
  if ((await callRow(h, id)).status === "active") {
    await h.simulator.control(`calls/${provider_call_id}/tool`, tool);
    await h.simulator.control(`calls/${provider_call_id}/end`);
  }
  const leg = { from: "+14155550199", to, direction: "outgoing", hangup_cause: "normal_clearing" };
  for (const type of ["call.initiated", "call.hangup"]) {
    const message = callControl({ type, callControlId: `leg-${id}`, callId: id, more: leg });
    const response = await fetch(`${h.url}/api/v1/webhooks/telnyx?call=${id}`, {
      method: "POST",
      headers: telnyxHeaders(carrier, message),
      body: message.body,
    });
    expect(response.status).toBe(204);
  }
  await finished(h, id);
  await settled();
  return id;
}

/** Waits until all due jobs, webhooks and deliveries are done. */
const settled = () =>
  until(async () => {
    const due =
      await h.owner`select id from graphile_worker._private_jobs where run_at <= now() + interval '5 seconds'`;
    const inbox = await h.owner`select id from ingress_events where status = 'received'`;
    const sending = await h.owner`select id from deliveries where status = 'pending' and attempts = 0`;
    return due.length + inbox.length + sending.length === 0;
  });

/** The tables with a row that contains the text: as text, in JSON, or as bytes. */
async function tablesWith(needle: string): Promise<string[]> {
  const tables = await h.owner<{ name: string }[]>`
    select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema')`;
  expect(tables.length).toBeGreaterThan(40);
  const hex = Buffer.from(needle).toString("hex");
  const found: string[] = [];
  for (const { name } of tables) {
    const rows = await h.owner.unsafe(
      `select 1 from ${name} t where position($1 in t::text) > 0 or position($2 in t::text) > 0 limit 1`,
      [needle, hex],
    );
    if (rows.length > 0) found.push(name);
  }
  return found;
}

async function erase(id: string) {
  expect((await h.remove(`/calls/${id}`)).status).toBe(204);
  await until(async () => {
    const due = (await waitingJobs(h, "calls.eraseCopies")).filter(({ run_at }) => run_at <= new Date());
    return due.length === 0;
  });
  await settled();
}

test("a secret in a provider webhook is not stored, and the masked webhook can be applied", async () => {
  const id = await call("+14155550015", "secrets");
  const stored = await h.owner`select id, body, status from ingress_events where subject_id = ${id}`;
  expect(stored.length).toBeGreaterThan(3);
  expect(stored.every(({ status }) => status === "applied")).toBe(true);
  const bodies = stored.map(({ body }) => body.toString("utf8")).join("\n");
  expect(bodies).toContain('"password":"[redacted]"');
  for (const secret of [trunk.password, trunk.username]) expect(bodies).not.toContain(secret);
  expect(await tablesWith(trunk.password)).toEqual([]);
  expect(await tablesWith(trunk.username), "only with the credential").toEqual(["public.credentials"]);
  const seen = await h.get(`/admin/ingress/${stored[0]!.id}`, { key: await h.operator() });
  expect(seen.status).toBe(200);
  expect(seen.body.data.body).not.toContain(trunk.password);
});

test("a webhook stored before masking shows no secret to an operator", async () => {
  const body = JSON.stringify({ event: "x", call: { medium: { sip: { outgoing: { password: trunk.password } } } } });
  await h.owner`insert into ingress_events (id, provider, provider_account_id, key, body, headers, verified_by, status)
    values ('ing_00000000000000000000000001', 'ultravox', 'pacc_platform', 'old', ${Buffer.from(body)}, '{}', 'x', 'failed')`;
  const seen = await h.get("/admin/ingress/ing_00000000000000000000000001", { key: await h.operator() });
  expect(seen.body.data.body).toContain("[redacted]");
  expect(seen.body.data.body).not.toContain(trunk.password);
  await h.owner`delete from ingress_events where id = 'ing_00000000000000000000000001'`;
});

test.for([
  [
    { a: { password: "abcdefgh" }, b: "it was abcdefgh" },
    { a: { password: "[redacted]" }, b: "it was [redacted]" },
  ],
  [
    { medium: { sip: { outgoing: { username: "u", password: "p", to: "sip:a@b" } } } },
    { medium: { sip: { outgoing: { username: "[redacted]", password: "[redacted]", to: "sip:a@b" } } } },
  ],
  [{ tools: [{ authTokens: { key: "tk-123456" } }] }, { tools: [{ authTokens: { key: "[redacted]" } }] }],
  [
    { voice: { generic: { headers: { Authorization: "Bearer x", "x-any": "y" } } } },
    { voice: { generic: { headers: { Authorization: "[redacted]", "x-any": "[redacted]" } } } },
  ],
  [{ callbacks: { ended: { secrets: ["s1-abcdef"] } } }, { callbacks: { ended: { secrets: ["[redacted]"] } } }],
  [
    { billedSideInputTokens: 12, token: null, password: "" },
    { billedSideInputTokens: 12, token: null, password: "" },
  ],
] as const)("%j is stored as %j", ([given, stored]) => {
  expect(JSON.parse(withoutSecrets(Buffer.from(JSON.stringify(given))).toString())).toEqual(stored);
});

test("a secret is masked, although its field's name is written with an escape", () => {
  const masked = withoutSecrets(Buffer.from('{"\\u0070assword":"p-123456"}')).toString();
  expect(JSON.parse(masked)).toEqual({ password: "[redacted]" });
});

test("a body without secrets is stored unchanged", () => {
  for (const body of ['{ "a" : 1.0,  "b":"x" }', "not json", "CallSid=v3&To=%2B1415", "", "[1, 2"]) {
    expect(withoutSecrets(Buffer.from(body)).toString()).toBe(body);
  }
  expect(withoutSecrets(Buffer.from("CallSid=v3&AuthToken=abc")).toString()).toBe(
    "CallSid=v3&AuthToken=%5Bredacted%5D",
  );
});

test("no table contains the number or content of an erased call", async () => {
  const to = "+14155550015";
  const id = await call(to, "erase-me");
  // A webhook that could not be applied also contains the number.
  const { provider_call_id } = await callRow(h, id);
  const malformed = JSON.stringify({ event: "call.ended", call: { callId: provider_call_id, joined: 17, to } });
  const at = new Date().toISOString();
  const signature = createHmac("sha256", "platform-webhook-secret").update(malformed).update(at).digest("hex");
  const headers = { "x-ultravox-webhook-timestamp": at, "x-ultravox-webhook-signature": signature };
  const path = `${h.url}/api/v1/webhooks/ultravox`;
  expect((await fetch(path, { method: "POST", headers, body: malformed })).status).toBe(204);
  await settled();
  const before = await tablesWith(to);
  for (const table of ["public.calls", "public.events", "public.ingress_events", "public.delivery_attempts"]) {
    expect(before, "the scan finds it before the erasure").toContain(table);
  }
  expect(await tablesWith(canary)).toContain("public.call_messages");

  // The call of the other test has the same number, so it is erased first.
  const others = await h.owner<{ id: string }[]>`select id from calls where "to" = ${to} and id <> ${id}`;
  for (const other of others) await erase(other.id);
  await erase(id);
  expect(await tablesWith(to)).toEqual([]);
  expect(await tablesWith(to.slice(1))).toEqual([]);
  expect(await tablesWith(canary)).toEqual([]);

  const replay = await h.post("/calls", order(to), { idempotencyKey: "erase-me" });
  expect(replay.headers.get("idempotency-replayed")).toBe("true");
  expect(replay.body.data).toMatchObject({
    id,
    to: "+14*******15",
    metadata: {},
    variables: {},
    erasedAt: expect.any(String),
  });
  const listed = await h.get(`/events?limit=100`);
  expect(JSON.stringify(listed.body)).not.toContain(to);
});

test("a webhook after the erasure is applied and leaves no content", async () => {
  await h.simulator.faults({ webhooks: { lose: ["call.billed"] } });
  const to = "+14155550100";
  const { body } = await h.post("/calls", order(to, { recordingEnabled: false }));
  const { id } = body.data;
  await until(async () => (await callRow(h, id)).outcome_final);
  const { provider_call_id } = await callRow(h, id);
  await until(async () => (await h.simulator.status()).activeCalls.platform === 0);
  await erase(id);
  await h.simulator.faults({});
  await until(async () => {
    const { attempts } = await h.simulator
      .control("webhooks/resend", { callId: provider_call_id, event: "call.billed" })
      .catch(() => ({ attempts: [] }));
    return attempts.length > 0;
  });
  await until(async () => (await callRow(h, id)).cost_micros !== null);
  await settled();
  expect(await tablesWith(to)).toEqual([]);
  const [billed] =
    await h.owner`select id, status, body from ingress_events where subject_id = ${id} and event_type = 'call.billed'`;
  expect(billed).toMatchObject({ status: "applied" });
  expect(billed!.body).toHaveLength(0);
  const again = await h.post(`/admin/ingress/${billed!.id}/reprocess`, {}, { key: await h.operator() });
  expect(again.status).toBe(202);
  await settled();
  const [after] = await h.owner`select status, note from ingress_events where id = ${billed!.id}`;
  expect(after).toMatchObject({ status: "ignored", note: "Erased with its call." });
});

test("no table contains a transcript after its retention; the call and its number stay", async () => {
  const limitedAgent = await agentThat(h, { outputSchema, retention: { transcriptDays: 3, recordingDays: null } });
  const id = await call("+14155550015", "retained", {
    agentId: limitedAgent,
    variables: {},
    metadata: {},
    greeting: "Hello.",
  });
  expect(await tablesWith(canary)).toContain("public.events");
  await h.owner`update calls set transcript_until = now() - interval '1 minute' where id = ${id}`;
  await queueSystemJob(h, "retention.sweep");
  await until(
    async () =>
      (await h.owner`select transcript_status from calls where id = ${id}`)[0]!.transcript_status === "erased",
  );
  await hurry(h, "calls.eraseCopies");
  await settled();
  expect(await tablesWith(canary)).toEqual([]);
  const [event] = await h.owner`select data from events where subject_id = ${id} and type = 'call.completed'`;
  expect(event!.data).toMatchObject({ output: null, to: "+14155550015" });
  const bodies = await h.owner`select length(body) as bytes from ingress_events where subject_id = ${id}`;
  expect(
    bodies.every(({ bytes }) => bytes === 0),
    "they contained the summary",
  ).toBe(true);
});
