import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import { createApiKey } from "../../routers/api-keys/service.ts";
import { type Scope, scopes } from "../../routers/core/scopes.ts";
import { type Deps, openDeps } from "../../server/deps.ts";
import { openHttp } from "../../server/http.ts";
import { agent, startTestApp, type TestResponse } from "../support/app.ts";

const h = await startTestApp();

type Headers = Record<string, string>;
type Outcome = { status: number; code: string | null };

describe("an API key", () => {
  test("works on both transports, and its scheme is case-insensitive", async () => {
    for (const scheme of ["Bearer", "bearer", "BEARER "]) {
      expect(await knock({ authorization: `${scheme} ${h.ada.key}` })).toEqual(both(200));
    }
  });

  const wrong: [string, (key: string) => Headers][] = [
    ["is missing", () => ({})],
    ["has another scheme", (key) => ({ authorization: `Basic ${Buffer.from(`${key}:`).toString("base64")}` })],
    ["has no scheme", (key) => ({ authorization: key })],
    ["is in another header", (key) => ({ "x-api-key": key })],
    ["is truncated", (key) => ({ authorization: `Bearer ${key.slice(0, -1)}` })],
    ["is an unknown key", (key) => ({ authorization: `Bearer ${key.slice(0, -6)}AAAAAA` })],
    ["is of another kind", (key) => ({ authorization: `Bearer ${key.replace("live", "test")}` })],
    ["is two", (key) => ({ authorization: `Bearer ${key} ${key}` })],
  ];
  test.each(wrong)("that %s is refused as unauthenticated", async (_, headers) => {
    expect(await knock(headers(h.ada.key))).toEqual(both(401, "unauthenticated"));
  });

  test("works until it expires, and not longer, also where it is cached", async () => {
    const fresh = await makeKey(h.ada, ["agents:read"]);
    await h.owner`update api_keys set expires_at = now() - interval '1 second' where id = ${fresh.id}`;
    expect(await knock(bearer(fresh.key))).toEqual(both(401, "unauthenticated"));

    const warm = await makeKey(h.ada, ["agents:read"]);
    expect(await knock(bearer(warm.key))).toEqual(both(200));
    await h.owner`update api_keys set expires_at = now() - interval '1 second' where id = ${warm.id}`;
    expect(await knock(bearer(warm.key))).toEqual(both(401, "unauthenticated"));
  });

  test("that is revoked is refused immediately by every process and transport, also where it is cached", async () => {
    const second = await another();
    const doomed = await makeKey(h.ada, scopes);
    const ways = [
      () => knock(bearer(doomed.key)),
      () => knock(bearer(doomed.key), second),
      async () => [outcome(await h.get("/auth/me", { key: doomed.key }))],
      async () => [outcome(await h.get("/auth/clients", { key: doomed.key }))],
      async () => [outcome(await h.get("/billing/balance", { key: doomed.key }))],
    ];
    for (const way of ways) for (const seen of await way()) expect(seen.status).toBe(200);
    expect(await h.remove(`/auth/api-keys/${doomed.id}`)).toMatchObject({ status: 204 });
    for (const way of ways)
      for (const seen of await way()) expect(seen).toEqual({ status: 401, code: "unauthenticated" });
    const webhook = { url: "https://example.com/hook" };
    expect(outcome(await h.post("/webhooks", webhook, { key: doomed.key }))).toEqual({
      status: 401,
      code: "unauthenticated",
    });
    expect(outcome(await h.post("/agents", agent, { key: doomed.key }))).toEqual({
      status: 401,
      code: "unauthenticated",
    });
  });

  test("belongs to a client: X-Client-Id can only repeat it", async () => {
    expect(await knock({ ...bearer(h.ada.key), "x-client-id": h.ada.clientId })).toEqual(both(200));
    for (const other of [h.bob.clientId, newId("client"), "ada", ""]) {
      expect(await knock({ ...bearer(h.ada.key), "x-client-id": other })).toEqual(both(403, "client_forbidden"));
    }
  });

  test("records its last use to the minute, with at most one write per minute", async () => {
    const key = await makeKey(h.ada, ["agents:read"]);
    const lastUsed = async () => {
      await h.deps.auth.settled();
      const [row] = await h.owner`select last_used_at from api_keys where id = ${key.id}`;
      return row!.last_used_at as Date | null;
    };
    expect(await lastUsed()).toBeNull();
    await knock(bearer(key.key));
    const first = await lastUsed();
    expect(Date.now() - first!.getTime()).toBeLessThan(10_000);

    await h.owner`update api_keys set last_used_at = null where id = ${key.id}`;
    await knock(bearer(key.key));
    expect(await lastUsed(), "the same process did not even try").toBeNull();

    await h.owner`update api_keys set last_used_at = ${first} where id = ${key.id}`;
    await useElsewhere(key.key);
    expect(await lastUsed(), "another process saw that it was written a moment ago").toEqual(first);

    await h.owner`update api_keys set last_used_at = now() - interval '61 seconds' where id = ${key.id}`;
    await useElsewhere(key.key);
    expect(Date.now() - (await lastUsed())!.getTime()).toBeLessThan(10_000);
  });

  async function useElsewhere(key: string) {
    const deps = await anotherDeps();
    await knock(bearer(key), await listen(deps));
    await deps.auth.settled();
  }
});

describe("a token", () => {
  test("of a member works on both transports, with or without X-Client-Id", async () => {
    const token = await h.token(h.ada);
    expect(await knock(bearer(token))).toEqual(both(200));
    expect(await knock({ ...bearer(token), "x-client-id": h.ada.clientId })).toEqual(both(200));
  });

  const wrong: [string, Record<string, unknown>][] = [
    ["of another issuer", { iss: "https://elsewhere.example/" }],
    ["of our issuer without its slash", { iss: h.identity.issuer.slice(0, -1) }],
    ["for another audience", { aud: "https://elsewhere.example" }],
    ["that has expired", { expiresInSeconds: -61 }],
    ["that never expires", { exp: undefined }],
    ["of an unknown person", { sub: "auth0|unknown" }],
    ["without a subject", { sub: "" }],
  ];
  test.each(wrong)("%s is refused as unauthenticated", async (_, claims) => {
    expect(await knock(bearer(await h.token(h.ada, claims)))).toEqual(both(401, "unauthenticated"));
  });

  test("that was changed is refused", async () => {
    const [head, , signature] = (await h.token(h.ada)).split(".");
    const [, others] = (await h.token(h.bob)).split(".");
    expect(await knock(bearer(`${head}.${others}.${signature}`))).toEqual(both(401, "unauthenticated"));
  });

  test("works for clients in both the token and an active membership; all others get the same error", async () => {
    const token = await h.token(h.ada, { [claim()]: [h.ada.clientId, h.bob.clientId] });
    expect(await knock({ ...bearer(token), "x-client-id": h.ada.clientId })).toEqual(both(200));
    const bodies = new Set<string>();
    for (const other of [h.bob.clientId, newId("client"), "bob", "", `${h.ada.clientId} `.toUpperCase(), "client_"]) {
      const headers = { ...bearer(token), "x-client-id": other, "x-request-id": "same" };
      expect(await knock(headers)).toEqual(both(403, "client_forbidden"));
      bodies.add(await (await fetch(`${h.url}/api/v1/agents`, { headers })).text());
    }
    expect([...bodies]).toHaveLength(1);
  });

  test("with a membership that is not in the claim gets the same error", async () => {
    const unnamed = await h.token(h.ada, { [claim()]: [] });
    expect(await knock({ ...bearer(unnamed), "x-client-id": h.ada.clientId })).toEqual(both(403, "client_forbidden"));
    expect(await knock(bearer(unnamed))).toEqual(both(403, "client_forbidden"));
    const without = await h.identity.token({ sub: h.ada.subject });
    expect(await knock({ ...bearer(without), "x-client-id": h.ada.clientId })).toEqual(both(403, "client_forbidden"));
  });

  test("of a member of several clients needs X-Client-Id", async () => {
    const [one, two] = [await seed("One", "auth0|both"), await seed("Two", "auth0|both")];
    const clients = [one.clientId, two.clientId];
    const token = await h.token(one, { [claim()]: clients });
    expect(await knock(bearer(token))).toEqual(both(400, "client_required"));
    for (const clientId of clients)
      expect(await knock({ ...bearer(token), "x-client-id": clientId })).toEqual(both(200));
    expect(await knock(bearer(await h.token(two)))).toEqual(both(200));
    const made = await h.post(
      "/webhooks",
      { url: "https://example.com/two" },
      { key: token, headers: { "x-client-id": two.clientId } },
    );
    const [row] = await h.owner`select client_id from webhook_endpoints where id = ${made.body.data.id}`;
    expect(row!.client_id).toBe(two.clientId);

    await h.owner`update memberships set status = 'disabled' where client_id = ${two.clientId}`;
    expect(await knock({ ...bearer(token), "x-client-id": two.clientId })).toEqual(both(403, "client_forbidden"));
    expect(await knock(bearer(token)), "one is left, so it need not be named").toEqual(both(200));
    expect((await h.get("/auth/clients", { key: token })).body.data.clients).toMatchObject([{ id: one.clientId }]);
  });
});

describe("before a client is chosen", () => {
  test("a person can read their own identity and their clients", async () => {
    const [one, two] = [await seed("East", "auth0|eve"), await seed("West", "auth0|eve", { role: "viewer" })];
    await h.owner`update clients set status = 'suspended' where id = ${two.clientId}`;
    const token = await h.token(one, { [claim()]: [one.clientId, two.clientId, h.bob.clientId] });
    const me = { kind: "user", id: one.userId, email: null, name: "East", scopes: null };
    expect((await h.get("/auth/me", { key: token })).body.data).toEqual(me);
    expect((await h.get("/trpc/auth.me", { key: token })).body.result.data).toEqual(me);
    const clients = [
      { id: one.clientId, name: "East", status: "active", role: "owner" },
      { id: two.clientId, name: "West", status: "suspended", role: "viewer" },
    ];
    expect((await h.get("/auth/clients", { key: token })).body.data).toEqual({ clients });
    expect((await h.get("/trpc/auth.clients", { key: token })).body.result.data).toEqual({ clients });
  });

  test("a key can too", async () => {
    const key = await makeKey(h.ada, ["agents:read"]);
    const me = { kind: "key", id: key.id, email: null, name: "Test", scopes: ["agents:read"] };
    expect((await h.get("/auth/me", { key: key.key })).body.data).toEqual(me);
    const client = { id: h.ada.clientId, name: "Ada", status: "active", role: null };
    expect((await h.get("/auth/clients", { key: key.key })).body.data).toEqual({ clients: [client] });
  });
});

describe("a suspended client", () => {
  test("is closed immediately for keys and tokens on every transport, and can be reopened", async () => {
    const dora = await seed("Dora", "auth0|dora");
    const token = await h.token(dora);
    const made = (await h.post("/agents", agent, { key: dora.key })).body.data;
    const ways = [dora.key, token].flatMap((key) => [
      () => h.get("/agents", { key }),
      () => h.get(`/agents/${made.id}`, { key }),
      () => h.query("agents.get", { id: made.id }, { key }),
      () => h.post("/webhooks", { url: "https://example.com/dora" }, { key }),
      () => h.mutate("agents.update", { id: made.id, name: "New" }, { key }),
    ]);
    for (const way of ways) expect((await way()).status).toBeLessThan(300);
    await h.owner`update clients set status = 'suspended' where id = ${dora.clientId}`;
    for (const way of ways) expect(outcome(await way())).toEqual({ status: 403, code: "client_suspended" });
    await h.owner`update clients set status = 'active' where id = ${dora.clientId}`;
    for (const way of ways) expect((await way()).status).toBeLessThan(300);
  });
});

describe("a role", () => {
  const roles: [string, number, number, number][] = [
    // read, write webhooks, create keys
    ["viewer", 200, 403, 403],
    ["member", 200, 201, 403],
    ["admin", 200, 201, 201],
    ["owner", 200, 201, 201],
  ];
  test.each(roles)("%s has its scopes from the next request on", async (role, reads, writes, keys) => {
    const who = await seed(role, `auth0|${role}`, { role: "viewer" });
    const token = await h.token(who);
    const statuses = async () => {
      const ask = { key: token };
      return [
        (await h.get("/billing/ledger", ask)).status,
        (await h.post("/webhooks", { url: "https://example.com/role" }, ask)).status,
        (await h.post("/auth/api-keys", { name: "CI", scopes: ["calls:read"] }, ask)).status,
      ];
    };
    expect(await statuses()).toEqual([200, 403, 403]);
    await h.owner`update memberships set role = ${role} where client_id = ${who.clientId}`;
    expect(await statuses()).toEqual([reads, writes, keys]);
  });

  test("is narrowed by the scopes of the token, and never widened", async () => {
    const viewer = await seed("Vic", "auth0|vic", { role: "viewer" });
    const ways = async (key: string) => [
      (await h.get("/agents", { key })).status,
      (await h.get("/calls", { key })).status,
      (await h.post("/webhooks", { url: "https://example.com/s" }, { key })).status,
    ];
    expect(await ways(await h.token(h.ada, { scope: "agents:read webhooks:write" }))).toEqual([200, 403, 201]);
    expect(await ways(await h.token(h.ada, { permissions: ["agents:read"] }))).toEqual([200, 403, 403]);
    expect(await ways(await h.token(h.ada, { scope: "openid profile email" }))).toEqual([200, 200, 201]);
    expect(await ways(await h.token(viewer, { scope: "agents:read webhooks:write" }))).toEqual([200, 403, 403]);
  });
});

describe("an unavailable identity provider", () => {
  test("returns 503 with Retry-After on both transports, and does not blame the token", async () => {
    const deps = openDeps({ ...h.env, AUTH_JWKS_URL: "http://127.0.0.1:9/jwks" }, { log: h.deps.log });
    opened.push(deps);
    const url = await listen(deps);
    const headers = bearer(await h.token(h.ada));
    for (const path of ["/api/v1/agents", "/trpc/agents.list?input={}"]) {
      const response = await fetch(url + path, { headers });
      expect([response.status, response.headers.get("retry-after")]).toEqual([503, "5"]);
      expect(await response.text()).toContain("server_overloaded");
    }
    expect(await knock(bearer(h.ada.key), url)).toEqual(both(200));
  });
});

const claim = () => h.env.AUTH_CLIENTS_CLAIM;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const both = (status: number, code: string | null = null) => [
  { status, code },
  { status, code },
];

/** Requests the agents on both transports. */
async function knock(headers: Headers, url = h.url): Promise<Outcome[]> {
  const paths = ["/api/v1/agents", `/trpc/agents.list?input=${encodeURIComponent("{}")}`];
  return Promise.all(
    paths.map(async (path) => {
      const response = await fetch(url + path, { headers });
      return outcome({ status: response.status, headers: response.headers, body: await response.json() });
    }),
  );
}

function outcome({ status, body }: TestResponse): Outcome {
  return { status, code: body.error ? (body.error.data ?? body.error).code : null };
}

function seed(name: string, subject: string, { role }: { role?: string } = {}): Promise<SeededClient> {
  return seedClient(h.deps, { name, subject, ...(role ? { role } : {}) });
}

function makeKey({ clientId, userId }: SeededClient, of: readonly Scope[]) {
  const { db, auth } = h.deps;
  return db.asClient({ clientId }, (tx) =>
    createApiKey(tx, { name: "Test", scopes: [...of] }, { id: userId, scopes: ["*"] }, auth.hashKey),
  );
}

const opened: Deps[] = [];
const servers: ReturnType<typeof openHttp>[] = [];
afterAll(async () => {
  for (const server of servers) server.closeAllConnections();
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  await Promise.all(opened.map(({ db, auth }) => auth.settled().then(() => db.close())));
});

/** Another process on the same database, which shares only the environment. */
async function anotherDeps() {
  const deps = openDeps(h.env, { log: h.deps.log });
  opened.push(deps);
  return deps;
}

async function listen(deps: Deps): Promise<string> {
  const server = openHttp(deps).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const another = async () => listen(await anotherDeps());
