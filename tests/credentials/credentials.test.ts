import { beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { openCredential, requireCredential } from "../../routers/credentials/service.ts";
import type { CredentialProvider } from "../../routers/ports/vendors.ts";
import { startTestApp, type TestResponse, until } from "../support/app.ts";

const log: string[] = [];
const h = await startTestApp({ log, workers: true });
const bobs = { key: h.bob.key };
const put = (provider: string, secret: unknown, ask?: object) =>
  h.send("PUT", `/auth/providers/${provider}`, { secret }, ask);
const providers = async (ask?: object) => (await h.get("/auth/providers", ask)).body.data as Status[];
const statusOf = async (provider: string) => (await providers()).find((each) => each.provider === provider);
const fault = ({ status, body }: TestResponse) => ({ status, code: body.error?.code });
const paths = ({ body }: TestResponse) => body.error.details.map(({ path }: { path: string }) => path);

type Status = { provider: string; credential: { status: string; prefix: string } | null; usesShared: boolean };

const key = (word: string) => ({ apiKey: `sk_${word}_0123456789abcdef0123456789` });
const google = {
  serviceAccount: { type: "service_account", private_key: "-----BEGIN PRIVATE KEY-----\nabc\n", client_email: "a@b.c" },
};
const good: Record<CredentialProvider, object> = {
  ultravox: key("ultravox"),
  elevenlabs: key("eleven"),
  cartesia: key("cartesia"),
  lmnt: key("lmnt"),
  google,
  inworld: key("inworld"),
  respeecher: key("respeecher"),
  telnyx: { ...key("telnyx"), publicKey: "e5LdAAAA=" },
  twilio: { accountSid: `AC${"0".repeat(32)}`, authToken: "twilio-token-0123456789abcdef" },
  plivo: { authId: "MAXXXXXXXXXXXXXXXXXX", authToken: "plivo-token-0123456789abcdef" },
  sip: { host: "sip.example.com:5061", username: "patchbay", password: "hunter2 is öpen" },
};
const asked = ["elevenlabs", "cartesia", "lmnt", "telnyx", "twilio", "plivo"];

describe("a credential", () => {
  test.each(Object.keys(good).filter((provider) => provider !== "ultravox"))(
    "for %s is tried where it comes from, kept and never given back",
    async (provider) => {
      const secret = good[provider as CredentialProvider];
      const before = h.vendors.requests.length;
      const answer = await put(provider, secret);
      const isAsked = asked.includes(provider);
      expect(answer).toMatchObject({
        status: 200,
        body: { data: { provider, status: isAsked ? "verified" : "unverified" } },
      });
      expect(answer.body.data.verifiedAt === null).toBe(!isAsked);
      expect(h.vendors.requests.slice(before).map((request) => request.provider)).toEqual(isAsked ? [provider] : []);
      const seen = JSON.stringify([answer.body, await providers()]);
      const open = ["accountSid", "authId", "host", "username"];
      for (const [name, value] of Object.entries(secret)) {
        if (typeof value === "string" && !open.includes(name)) expect(seen).not.toContain(value);
      }
      const ring = await h.deps.providers.vault.keys(h.ada.clientId, "provider_credential");
      const opened = await h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) => openCredential(tx, ring, provider));
      const wanted = provider === "google" ? { serviceAccount: JSON.stringify(google.serviceAccount) } : secret;
      expect(opened).toEqual(wanted);
    },
  );

  test("shows the first characters of a long secret, and nothing of a short one", async () => {
    expect((await put("lmnt", { apiKey: "abcdefghijklmnopqrstuvwxyz" })).body.data.prefix).toBe("abcdef");
    expect((await put("lmnt", { apiKey: "abcdefghijkl" })).body.data.prefix).toBe("abcd");
    expect((await put("lmnt", { apiKey: "abcdefghijk" })).body.data.prefix).toBe("");
    expect((await put("twilio", good.twilio)).body.data.details).toEqual({ accountSid: `AC${"0".repeat(32)}` });
    expect((await put("sip", good.sip)).body.data.details).toEqual({
      host: "sip.example.com:5061",
      username: "patchbay",
    });
  });

  test("that its provider refuses is not saved, and the previous one stays", async () => {
    await put("elevenlabs", key("first"));
    const refused = await put("elevenlabs", key("wrong"));
    expect(fault(refused)).toEqual({ status: 422, code: "credential_refused" });
    expect(paths(refused)).toEqual(["secret"]);
    expect(refused.body.error.message).toContain("ElevenLabs refused");
    expect(JSON.stringify(refused.body)).not.toContain("wrong");
    expect(await statusOf("elevenlabs")).toMatchObject({ credential: { prefix: "sk_fir", status: "verified" } });
    expect(fault(await put("cartesia", key("wrong"), bobs))).toMatchObject({ status: 422 });
    expect((await providers(bobs)).every(({ credential }) => credential === null)).toBe(true);
  });

  test("that cannot be verified is saved as unverified; a key with few permissions is valid", async () => {
    const down = await put("elevenlabs", key("down"));
    expect(down.body.data).toMatchObject({ status: "unverified", verifiedAt: null });
    expect(down.body.data.statusReason).toContain("is unavailable");
    const narrow = await put("elevenlabs", key("narrow"));
    expect(narrow.body.data).toMatchObject({ status: "unverified" });
    expect(narrow.body.data.statusReason).toContain("no way to verify");
  });

  test("can be verified again, and its status shows the result", async () => {
    await put("elevenlabs", key("verify"));
    const answer = await h.post("/auth/providers/elevenlabs/verify");
    expect(answer).toMatchObject({ status: 200, body: { data: { status: "verified" } } });
    await resealed("elevenlabs", key("wrong"));
    const refused = await h.post("/auth/providers/elevenlabs/verify");
    expect(refused).toMatchObject({ status: 200, body: { data: { status: "invalid" } } });
    expect(refused.body.data.statusReason).toContain("refused");
    await resealed("elevenlabs", key("down"));
    expect(fault(await h.post("/auth/providers/elevenlabs/verify"))).toEqual({
      status: 503,
      code: "provider_unavailable",
    });
    expect(await statusOf("elevenlabs")).toMatchObject({ credential: { status: "invalid" } });
    expect(fault(await h.post("/auth/providers/plivo/verify", undefined, bobs))).toMatchObject({
      code: "credential_not_found",
    });
  });

  test("is at least eight characters long: a shorter one could not be masked", async () => {
    const sip = { host: "sip.example.com", username: "desk" };
    const cases: [string, object, string][] = [
      ["elevenlabs", { apiKey: "1234567" }, "secret.apiKey"],
      ["elevenlabs", { apiKey: " 1234567 " }, "secret.apiKey"],
      ["twilio", { accountSid: "AC0123", authToken: "a" }, "secret.authToken"],
      ["plivo", { authId: "MA0123", authToken: "a" }, "secret.authToken"],
      ["sip", { ...sip, password: "1234567" }, "secret.password"],
      ["custom-crm", { value: "a" }, "secret.value"],
    ];
    for (const [provider, secret, path] of cases) {
      const answer = await put(provider, secret);
      expect([provider, answer.status, paths(answer)]).toEqual([provider, 400, [path]]);
      expect(answer.body.error.message).toContain("Use at least 8 characters.");
    }
    const short = await h.patch("/auth/providers/tts", { provider: "elevenlabs", apiKey: "1234567" });
    expect([short.status, paths(short)]).toEqual([400, ["apiKey"]]);
  });

  test("has the fields of its provider; missing and unknown ones are reported", async () => {
    const cases: [string, unknown, string[]][] = [
      ["elevenlabs", {}, ["secret.apiKey"]],
      ["elevenlabs", { apiKey: "long-enough", authToken: "long-enough" }, ["secret.authToken"]],
      ["twilio", { authToken: "long-enough" }, ["secret.accountSid"]],
      ["sip", { host: "h" }, ["secret.username", "secret.password"]],
      ["elevenlabs", { apiKey: "two words" }, ["secret.apiKey"]],
      ["elevenlabs", { apiKey: "line\nfeed" }, ["secret.apiKey"]],
      ["elevenlabs", { apikey: "long-enough" }, ["secret.apikey", "secret.apiKey"]],
      ["google", { serviceAccount: { type: "x" } }, ["secret.serviceAccount"]],
      ["custom-crm", { apiKey: "long-enough" }, ["secret.apiKey", "secret.value"]],
      ["custom-", { value: "long-enough" }, ["provider"]],
      ["unknown", { apiKey: "long-enough" }, ["provider"]],
      ["constructor", { apiKey: "long-enough" }, ["provider"]],
    ];
    for (const [provider, secret, wanted] of cases) {
      const answer = await put(provider, secret);
      expect([provider, answer.status, paths(answer)]).toEqual([provider, 400, wanted]);
    }
  });

  test("saved by concurrent requests is stored once, and can be opened", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) => put("custom-race", { value: `value number ${n}` }, bobs)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
    const rows = await h.owner`select id from credentials where provider = 'custom-race'`;
    expect(rows).toHaveLength(1);
    const ring = await h.deps.providers.vault.keys(h.bob.clientId, "provider_credential");
    const opened = await h.deps.db.asClient({ clientId: h.bob.clientId }, (tx) =>
      openCredential(tx, ring, "custom-race"),
    );
    expect(opened?.value).toMatch(/^value number \d$/);
  });

  test("belongs to one client", async () => {
    await put("inworld", key("adas"));
    expect((await providers(bobs)).find(({ provider }) => provider === "inworld")?.credential).toBeNull();
    expect(fault(await h.remove("/auth/providers/inworld", bobs))).toEqual({
      status: 404,
      code: "credential_not_found",
    });
    const asBob = h.deps.db.asClient({ clientId: h.bob.clientId }, (tx) => requireCredential(tx, "inworld"));
    await expect(asBob).rejects.toMatchObject({ errorCode: "credential_not_found" });
  });

  test("of one's own has a limit", async () => {
    await h.owner`insert into credentials (client_id, id, provider, prefix, sealed)
      select ${h.bob.clientId}, 'cred_' || n, 'custom-n' || n, '', '' from generate_series(1, 99) n`;
    expect(await put("custom-race", { value: "once again" }, bobs)).toMatchObject({ status: 200 });
    expect(fault(await put("custom-more", { value: "one too many" }, bobs))).toEqual({
      status: 422,
      code: "credential_limit_reached",
    });
    await h.owner`delete from credentials where client_id = ${h.bob.clientId}`;
  });

  test("under one idempotency key is verified once, and the request is not stored", async () => {
    const ask = { idempotencyKey: "put-once" };
    const before = h.vendors.requests.length;
    const secret = key("idempotent");
    const [first, again] = [await put("cartesia", secret, ask), await put("cartesia", secret, ask)];
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(again.body.data).toEqual(first.body.data);
    expect(h.vendors.requests.length).toBe(before + 1);
    expect(fault(await put("cartesia", key("another"), ask))).toEqual({ status: 422, code: "idempotency_key_reused" });
  });
});

describe("deleting", () => {
  beforeAll(async () => void (await put("elevenlabs", key("used"))));

  test("a credential in use is refused with the resources that use it, except with force", async () => {
    const [row] =
      await h.owner`select id from credentials where client_id = ${h.ada.clientId} and provider = 'elevenlabs'`;
    const { clientId } = h.ada;
    const [agentId, toolId, voiceId] = [newId("agent"), newId("tool"), newId("voice")];
    await h.owner`insert into agents (client_id, id, name, status, provider_account_id) values (${clientId}, ${agentId}, 'Ann', 'active', 'pacc_platform')`;
    await h.owner`insert into agent_uses (client_id, agent_id, kind, target_id) values (${clientId}, ${agentId}, 'credential', ${row!.id})`;
    await h.owner`insert into tools (client_id, id, name, description, kind, config, status, provider_account_id)
      values (${clientId}, ${toolId}, 'find', 'd', 'http', '{"definition":{"type":"http","auth":{"type":"bearer","credential":"elevenlabs"}}}', 'active', 'pacc_platform')`;
    await h.owner`insert into voices (client_id, id, name, language, kind, provider, status, provider_account_id)
      values (${clientId}, ${voiceId}, 'Vera', 'en', 'external', 'elevenLabs', 'active', 'pacc_platform')`;
    const refused = await h.remove("/auth/providers/elevenlabs");
    expect(fault(refused)).toEqual({ status: 409, code: "credential_in_use" });
    expect(refused.body.error.details).toMatchObject([
      { path: "agents", id: agentId, name: "Ann" },
      { path: "tools", id: toolId, name: "find" },
      { path: "voices", id: voiceId, name: "Vera" },
    ]);
    expect(fault(await h.patch("/auth/providers/tts", { provider: "elevenlabs", apiKey: null }))).toMatchObject({
      code: "credential_in_use",
    });
    expect(await h.remove("/auth/providers/lmnt")).toMatchObject({ status: 204 });
    expect(await h.remove("/auth/providers/elevenlabs?force=true")).toMatchObject({ status: 204 });
    expect(await statusOf("elevenlabs")).toMatchObject({ credential: null, usesShared: true });
    expect(fault(await h.remove("/auth/providers/elevenlabs"))).toEqual({ status: 404, code: "credential_not_found" });
    await h.owner`delete from agent_uses where agent_id = ${agentId}`;
  });

  test("waits for a transaction that uses it", async () => {
    await put("custom-tool", { value: "of a tool" });
    let removed: Promise<TestResponse> | undefined;
    let isDone = false;
    await h.deps.db.asClient({ clientId: h.ada.clientId }, async (tx) => {
      await requireCredential(tx, "custom-tool");
      removed = h.remove("/auth/providers/custom-tool").finally(() => (isDone = true));
      await until(async () => {
        const waiting = await h.owner`select from pg_stat_activity
          where datname = current_database() and usename = 'patchbay_tenant' and wait_event_type = 'Lock'`;
        return waiting.length > 0;
      });
      expect(isDone).toBe(false);
    });
    expect(await removed).toMatchObject({ status: 204 });
  });
});

describe("other endpoints", () => {
  test("PATCH /auth/providers/tts saves the key of a TTS provider, and null deletes it", async () => {
    const set = await h.patch("/auth/providers/tts", { provider: "cartesia", apiKey: key("tts").apiKey });
    expect(set).toMatchObject({
      status: 200,
      body: { data: { provider: "cartesia", credential: { prefix: "sk_tts", status: "verified" } } },
    });
    expect(
      fault(await h.patch("/auth/providers/tts", { provider: "cartesia", apiKey: key("wrong").apiKey })),
    ).toMatchObject({ code: "credential_refused" });
    const unset = await h.patch("/auth/providers/tts", { provider: "cartesia", apiKey: null });
    expect(unset).toMatchObject({ status: 200, body: { data: { credential: null, usesShared: true } } });
    expect(await h.patch("/auth/providers/tts", { provider: "cartesia", apiKey: null })).toMatchObject({ status: 200 });
    const text = JSON.stringify(google.serviceAccount);
    expect(await h.patch("/auth/providers/tts", { provider: "google", apiKey: text })).toMatchObject({ status: 200 });
    for (const [provider, apiKey, path] of [
      ["google", "{", "apiKey"],
      ["lmnt", "two words", "apiKey"],
      ["twilio", "x", "provider"],
    ]) {
      const refused = await h.patch("/auth/providers/tts", { provider, apiKey });
      expect([refused.status, paths(refused)]).toEqual([400, [path]]);
    }
  });

  test("POST /auth/api-keys with kind `provider` does the same, for callers with both scopes", async () => {
    const secret = key("alias");
    const made = await h.post("/auth/api-keys", { kind: "provider", provider: "lmnt", secret });
    expect(made).toMatchObject({
      status: 201,
      body: { data: { provider: "lmnt", prefix: "sk_ali", status: "verified" } },
    });
    expect(JSON.stringify(made.body)).not.toContain(secret.apiKey);
    const narrow = await h.post("/auth/api-keys", { name: "N", scopes: ["api_keys:write"] });
    const refused = await h.post(
      "/auth/api-keys",
      { kind: "provider", provider: "lmnt", secret },
      { key: narrow.body.data.key },
    );
    expect(refused).toMatchObject({ status: 403, body: { error: { code: "scope_missing" } } });
    expect(refused.body.error.message).toContain("credentials:write");
  });

  test("POST /auth/api-keys reports fields that do not fit the kind", async () => {
    const cases: [object, string[]][] = [
      [{ kind: "provider" }, ["provider", "secret"]],
      [
        { kind: "provider", provider: "lmnt", secret: { authToken: "long-enough" } },
        ["secret.authToken", "secret.apiKey"],
      ],
      [
        { kind: "provider", provider: "lmnt", secret: { apiKey: "long-enough" }, name: "N", scopes: ["calls:read"] },
        ["name", "scopes"],
      ],
      [{}, ["name", "scopes"]],
      [{ name: "N", scopes: ["calls:read"], provider: "lmnt" }, ["provider"]],
    ];
    for (const [body, wanted] of cases) {
      const answer = await h.post("/auth/api-keys", body);
      expect([answer.status, paths(answer)]).toEqual([400, wanted]);
    }
  });
});

describe("rotating an API key", () => {
  const make = async (body: object = {}) =>
    (await h.post("/auth/api-keys", { name: "CI", scopes: ["api_keys:read"], ...body })).body.data;
  const rotate = (id: string, body?: object, ask?: object) => h.post(`/auth/api-keys/${id}/rotate`, body ?? {}, ask);
  const isGood = async (secret: string) => (await h.get("/auth/api-keys", { key: secret })).status === 200;

  test("creates a key with the same name, scopes and expiry, and revokes the old one immediately", async () => {
    const old = await make({ expiresAt: "2099-01-01T00:00:00.000Z" });
    const fresh = await rotate(old.id);
    expect(fresh.status).toBe(201);
    const { name, scopes, expiresAt } = old;
    expect(fresh.body.data).toMatchObject({ name, scopes, expiresAt, revokedAt: null, replacedBy: null });
    expect([await isGood(old.key), await isGood(fresh.body.data.key)]).toEqual([false, true]);
    const row = (await h.get("/auth/api-keys?limit=100")).body.data.find(({ id }: { id: string }) => id === old.id);
    expect(row).toMatchObject({ replacedBy: fresh.body.data.id, revokedAt: expect.any(String) });
  });

  test("with a grace period keeps the old key valid for that time, and the new one until the original expiry", async () => {
    const old = await make();
    const fresh = await rotate(old.id, { graceSeconds: 3600 });
    expect(fresh.body.data.expiresAt).toBeNull();
    expect([await isGood(old.key), await isGood(fresh.body.data.key)]).toEqual([true, true]);
    const [row] =
      await h.owner`select extract(epoch from expires_at - now())::int as left from api_keys where id = ${old.id}`;
    expect(row!.left).toBeGreaterThan(3500);
    expect(row!.left).toBeLessThanOrEqual(3600);
    await h.owner`update api_keys set expires_at = now() where id = ${old.id}`;
    expect(await isGood(old.key)).toBe(false);
    const soon = await make({ expiresAt: new Date(Date.now() + 60_000).toISOString() });
    await rotate(soon.id, { graceSeconds: 86_400 });
    const [kept] = await h.owner`select expires_at from api_keys where id = ${soon.id}`;
    expect(kept!.expires_at.toISOString()).toBe(soon.expiresAt);
  });

  test("happens once under concurrent requests, and an inactive key cannot be rotated", async () => {
    const old = await make();
    const answers = await Promise.all([rotate(old.id, { graceSeconds: 60 }), rotate(old.id, { graceSeconds: 60 })]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409]);
    expect(fault(await rotate(old.id))).toEqual({ status: 409, code: "api_key_not_active" });
    const revoked = await make();
    await h.remove(`/auth/api-keys/${revoked.id}`);
    expect(fault(await rotate(revoked.id))).toEqual({ status: 409, code: "api_key_not_active" });
  });

  test("requires the scopes of the key", async () => {
    const strong = await make({ scopes: ["calls:write"] });
    const weak = await make({ scopes: ["api_keys:write"] });
    expect(fault(await rotate(strong.id, {}, { key: weak.key }))).toEqual({ status: 403, code: "scope_missing" });
    expect(fault(await rotate(strong.id, {}, bobs))).toEqual({ status: 404, code: "api_key_not_found" });
  });
});

/** Another secret in the same row, as if the key had been revoked at its provider. */
async function resealed(provider: string, secret: object) {
  const { clientId } = h.ada;
  const [row] = await h.owner`select id from credentials where client_id = ${clientId} and provider = ${provider}`;
  const ring = await h.deps.providers.vault.keys(clientId, "provider_credential");
  await h.owner`update credentials set sealed = ${ring.seal(JSON.stringify(secret), row!.id)} where id = ${row!.id}`;
}
