import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { operationsOf } from "../../edge/rest/operations.ts";
import { appRouter } from "../../routers/index.ts";
import { agent, broughtKeys, startTestApp, type TestResponse, until } from "../support/app.ts";

/** A receiver for webhooks and tools that returns what it received. */
const echo = createServer((request, response) => {
  response.writeHead(request.url === "/fails" ? 500 : 200, { "content-type": "text/plain" });
  response.end(`you said ${request.headers.authorization ?? request.headers["x-api-key"] ?? "nothing"}`);
});
echo.listen(0, "127.0.0.1");
await once(echo, "listening");
const echoUrl = `http://127.0.0.1:${(echo.address() as AddressInfo).port}`;
const log: string[] = [];
// This URL is never called, but the account's webhook needs it.
const h = await startTestApp({ workers: true, log, env: { PUBLIC_URL: "http://127.0.0.1:9" } });
afterAll(() => {
  echo.closeAllConnections();
  echo.close();
});

/** Responses that must not contain a secret. */
const responses: { what: string; text: string }[] = [];

async function ask(method: string, path: string, body?: unknown, more: object = {}): Promise<TestResponse> {
  const answer = await h.send(method, path, body, more);
  const text = JSON.stringify([[...answer.headers], answer.body]);
  responses.push({ what: `${method} ${path}`, text });
  return answer;
}

const random = () => randomBytes(12).toString("hex");
const twice = async (method: string, path: string, body: unknown) => {
  const idempotencyKey = `canary-${random()}`;
  for (const _ of [1, 2]) await ask(method, path, body, { idempotencyKey });
  return ask(method, path, { ...(body as object), surprise: 1 }, { idempotencyKey: `${idempotencyKey}-bad` });
};
const credential = (provider: string, secret: object) => twice("PUT", `/auth/providers/${provider}`, { secret });

type Plant = {
  /** How a given secret is sent. For a secret that we create: the response that shows it once. */
  name: string;
  given?: (secret: string) => Promise<unknown>;
  made?: () => Promise<string>;
  /** For a secret that needs a certain form. */
  secret?: string;
};

/** Every secret that is sent or returned. A new secret needs a line here. */
const plants: Plant[] = [
  { name: "elevenlabs", given: (apiKey) => credential("elevenlabs", { apiKey }) },
  { name: "elevenlabs, refused", given: (key) => credential("elevenlabs", { apiKey: `wrong-${key}` }) },
  { name: "elevenlabs, unavailable", given: (key) => credential("elevenlabs", { apiKey: `down-${key}` }) },
  {
    name: "cartesia by the older endpoint",
    given: (apiKey) => twice("PATCH", "/auth/providers/tts", { provider: "cartesia", apiKey }),
  },
  {
    name: "lmnt as an API key",
    given: (apiKey) => twice("POST", "/auth/api-keys", { kind: "provider", provider: "lmnt", secret: { apiKey } }),
  },
  {
    name: "google",
    given: (key) =>
      credential("google", {
        serviceAccount: { type: "service_account", private_key: `-----BEGIN\n${key}`, client_email: "a@b.c" },
      }),
  },
  { name: "inworld", given: (apiKey) => credential("inworld", { apiKey }) },
  { name: "telnyx", given: (apiKey) => credential("telnyx", { apiKey }) },
  { name: "twilio", given: (authToken) => credential("twilio", { accountSid: "AC01", authToken }) },
  { name: "plivo", given: (authToken) => credential("plivo", { authId: "MA01", authToken: `wrong${authToken}` }) },
  { name: "sip", given: (password) => credential("sip", { host: "sip.example.com", username: "u", password }) },
  {
    name: "a field of another provider",
    given: (key) => credential("telnyx", { apiKey: "long-enough", authToken: key }),
  },
  { name: "an own Ultravox account", secret: broughtKeys[0], given: (apiKey) => credential("ultravox", { apiKey }) },
  { name: "an Ultravox key that opens nothing", given: (key) => credential("ultravox", { apiKey: `nobody.${key}` }) },
  { name: "a tool's credential", given: toolAndAgent },
  { name: "a SIP registration", given: (password) => registration(password) },
  { name: "a generic voice's header", given: (key) => genericVoice(key) },
  { name: "an API key", made: () => shown("POST", "/auth/api-keys", { name: "C", scopes: ["calls:read"] }, "key") },
  { name: "a rotated API key", made: rotated },
  { name: "a webhook's secret", made: () => shown("POST", "/webhooks", { url: `${echoUrl}/hook` }, "secret") },
  { name: "a failing webhook's secret", made: () => shown("POST", "/webhooks", { url: `${echoUrl}/fails` }, "secret") },
  { name: "a webhook's second secret", made: rotatedSecret },
  { name: "a webhook's own header", given: (key) => ownHeader({ authorization: `Bearer ${key}` }) },
  {
    name: "an invitation",
    made: () => shown("POST", "/clients/current/invitations", { email: "a@b.de", role: "viewer" }, "token", true),
  },
];

async function toolAndAgent(value: string) {
  await credential("custom-crm", { value });
  const definition = {
    type: "http",
    url: `${echoUrl}/crm`,
    method: "GET",
    auth: { type: "header", name: "x-api-key", credential: "custom-crm" },
  };
  const tool = await ask("POST", "/tools", { name: "crm", description: "Finds a customer.", definition });
  expect(tool.status).toBe(201);
  await ask("POST", `/tools/${tool.body.data.id}/test`, { parameters: {} });
  const made = await ask("POST", "/agents", { ...agent, tools: [{ toolId: tool.body.data.id }] });
  expect(made.status).toBe(201);
  await ask("PATCH", `/agents/${made.body.data.id}`, { name: "With a tool" });
}

async function registration(password: string) {
  const body = { username: "reception", password, proxy: "sip.example.com" };
  for (const _ of [1, 2]) {
    const made = await ask("POST", "/telephony/registrations", body, { idempotencyKey: "canary-sip" });
    expect(made.status).toBe(201);
  }
}

async function genericVoice(key: string) {
  const generic = {
    url: "https://tts.example.com/speak",
    body: { text: "{text}" },
    headers: { Authorization: `Bearer ${key}` },
    responseSampleRate: 24000,
  };
  await ask(
    "POST",
    "/voices",
    { name: "Generic", language: "en", source: { type: "external", provider: "generic", generic } },
    { idempotencyKey: "canary-voice" },
  );
}

/** Only its own response shows it, and the replay of that response. */
async function shown(method: string, path: string, body: object, field: string, asPerson = false): Promise<string> {
  const key = asPerson ? await h.token(h.ada) : h.ada.key;
  const answer = await h.send(method, path, body, { idempotencyKey: `canary-${random()}`, key });
  expect(answer.status).toBe(201);
  return answer.body.data[field];
}

async function rotated() {
  const old = await h.post("/auth/api-keys", { name: "Old", scopes: ["calls:read"] });
  return shown("POST", `/auth/api-keys/${old.body.data.id}/rotate`, { graceSeconds: 60 }, "key");
}

async function rotatedSecret() {
  const hook = await h.post("/webhooks", { url: `${echoUrl}/hook` });
  const path = `/webhooks/${hook.body.data.id}/rotate-secret`;
  const answer = await h.post(path, {}, { idempotencyKey: `canary-${random()}` });
  await ask("POST", `/webhooks/${hook.body.data.id}/test`, {});
  return answer.body.data.secret;
}

async function ownHeader(headers: Record<string, string>) {
  const body = { url: `${echoUrl}/hook`, headers };
  const made = await ask("POST", "/webhooks", body, { idempotencyKey: `canary-${random()}` });
  expect(made.status).toBe(201);
  const path = `/webhooks/${made.body.data.id}`;
  await ask("PATCH", path, { headers: { ...headers, "x-api-key": headers.authorization } });
  await ask("PATCH", path, { headers: { ...headers, host: headers.authorization } });
  const tried = await ask("POST", `${path}/test`, {}, { idempotencyKey: `canary-${random()}` });
  expect(tried.body.data.response).toContain("[secret]");
}

/** The forms in which a secret would appear: as text, and as encoded bytes. */
function faces(secret: string): string[] {
  const bytes = Buffer.from(secret);
  // In base64 a text has three forms, by its offset. Its first and last characters depend on the surroundings.
  const base64 = [0, 1, 2].map((pad) =>
    Buffer.concat([Buffer.alloc(pad), bytes])
      .toString("base64")
      .slice(4, -4),
  );
  return [secret, secret.slice(-16), bytes.toString("hex"), ...base64];
}

/** Every row of every table, including the queue's, as text. */
async function tables(): Promise<{ what: string; text: string }[]> {
  const found = await h.owner<{ name: string }[]>`
    select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema')`;
  return Promise.all(
    found.map(async ({ name }) => {
      const [row] = await h.owner.unsafe(`select coalesce(string_agg(t::text, E'\\n'), '') as text from ${name} t`);
      return { what: name, text: row!.text as string };
    }),
  );
}

test("a secret is in no later response, no log line and no table, whatever was done with it", async () => {
  const secrets: [string, string][] = [];
  for (const { name, given, made, secret } of plants) {
    const planted = made ? await made() : (secret ?? `canary${random()}${random()}`);
    await given?.(planted);
    secrets.push([name, planted]);
  }
  await h.post("/auth/api-keys", { name: "Told of", scopes: ["calls:read"] });
  await until(async () => (await h.owner`select from delivery_attempts where status = 500`).length > 0);
  await until(
    async () => (await h.owner`select from provider_accounts where provider_webhook_id is not null`).length > 0,
  );
  await ask("POST", "/auth/providers/elevenlabs/verify");
  await ask("POST", "/auth/providers/ultravox/verify");
  // A dead job keeps its payload.
  await h.owner`update graphile_worker._private_jobs set payload = jsonb_set(payload::jsonb, '{attempt}', '99')::json`;
  for (const { meta, rest, params } of operationsOf(appRouter)) {
    if (rest.method === "GET" && params.length === 0 && meta.access === "tenant") await ask("GET", rest.path);
  }
  await until(async () => (await h.owner`select from audit_log where position is not null`).length > 0, 60);
  // Every delivery in the log is also in its table.
  await until(
    async () => (await h.owner`select from deliveries where status = 'pending' and attempts = 0`).length === 0,
    60,
  );

  const [webhook] = (
    (await (await fetch(`${h.simulator.url}/api/webhooks`, { headers: { "x-api-key": broughtKeys[0] } })).json()) as {
      results: { secrets: string[] }[];
    }
  ).results;
  secrets.push(["an own account's webhook secret", webhook!.secrets[0]!]);

  const places = [...responses, { what: "the log", text: log.join("\n") }, ...(await tables())];
  const text = (what: string) => places.find((place) => place.what === what)!.text;
  for (const busy of [
    "the log",
    "public.audit_log",
    "public.idempotency_keys",
    "public.credentials",
    "public.deliveries",
    "public.events",
    "graphile_worker._private_jobs",
  ]) {
    expect([busy, text(busy).length > 200]).toEqual([busy, true]);
  }
  expect(responses.length).toBeGreaterThan(60);
  const leaks = secrets.flatMap(([name, secret]) =>
    places
      .filter((place) => faces(secret).some((face) => place.text.includes(face)))
      .map(({ what }) => `${name} stands in ${what}`),
  );
  expect(leaks).toEqual([]);
}, 120_000);

test("the search finds a secret as text, as bytes and in base64, at any offset", () => {
  const secret = `canary${random()}${random()}`;
  for (const pad of ["", "a", "ab", "abc"]) {
    const text = `${pad}${secret}${pad}`;
    for (const encoding of ["utf8", "hex", "base64"] as const) {
      const seen = Buffer.from(text).toString(encoding);
      expect([pad, encoding, faces(secret).some((face) => seen.includes(face))]).toEqual([pad, encoding, true]);
    }
  }
});
