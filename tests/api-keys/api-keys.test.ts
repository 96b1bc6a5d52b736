import { expect, test } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { activeKeysPerClient } from "../../routers/core/limits.ts";
import { scopes } from "../../routers/core/scopes.ts";
import { startTestApp, until } from "../support/app.ts";

const h = await startTestApp();
const create = (body: object, ask = {}) =>
  h.post("/auth/api-keys", { name: "CI", scopes: ["calls:read"], ...body }, ask);

test("a key is shown once, on creation, and not stored", async () => {
  const made = await create({ name: "  CI  ", scopes: ["calls:write", "calls:read", "calls:read"] });
  expect(made.status).toBe(201);
  const { key, ...rest } = made.body.data;
  expect(key).toMatch(/^pb_live_[\w-]{32}$/);
  expect(rest).toMatchObject({
    name: "CI",
    scopes: ["calls:read", "calls:write"],
    revokedAt: null,
    lastUsedAt: null,
    expiresAt: null,
  });
  expect(rest.prefix).toBe(key.slice(0, 12));
  expect((await h.get("/calls", { key })).status).toBe(200);

  await until(async () => (await h.owner`select from api_keys where id = ${rest.id} and last_used_at is not null`)[0]);
  const listed = await h.get("/auth/api-keys");
  const [found] = listed.body.data.filter(({ id }: { id: string }) => id === rest.id);
  expect(found).toMatchObject({ ...rest, lastUsedAt: expect.anything() });
  expect(Object.keys(found).toSorted()).toEqual(Object.keys(rest).toSorted());
  expect(JSON.stringify(listed.body)).not.toContain(key.slice(12));
  expect(await everything()).not.toContain(key.slice(12));
});

test("a key has at most the scopes of its creator", async () => {
  const narrow = (await create({ scopes: ["api_keys:write", "calls:read"] })).body.data.key;
  expect(await create({ scopes: ["calls:read"] }, { key: narrow })).toMatchObject({ status: 201 });
  const beyond = await create({ scopes: ["calls:read", "calls:write"] }, { key: narrow });
  expect(beyond).toMatchObject({
    status: 403,
    body: { error: { code: "scope_missing", message: expect.stringContaining("calls:write") } },
  });
  const viaTrpc = await h.mutate("apiKeys.create", { name: "CI", scopes: ["agents:write"] }, { key: narrow });
  expect(viaTrpc).toMatchObject({ status: 403, body: { error: { data: { code: "scope_missing" } } } });

  const narrowed = await h.token(h.ada, { scope: "api_keys:write calls:read" });
  expect(await create({ scopes: ["calls:write"] }, { key: narrowed })).toMatchObject({ status: 403 });
  const owner = await h.token(h.ada);
  expect(await create({ scopes: [...scopes] }, { key: owner })).toMatchObject({
    status: 201,
    body: { data: { scopes: [...scopes].sort() } },
  });
});

test("a key that expires creates and rotates no key that lives longer", async () => {
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const later = new Date(Date.now() + 7_200_000).toISOString();
  const all = ["api_keys:write", "calls:read"];
  const lasting = (await create({ scopes: ["calls:read"] })).body.data;
  const made = (await create({ scopes: all, expiresAt })).body.data;
  const refused = { status: 400, body: { error: { code: "input_invalid", details: [{ path: "expiresAt" }] } } };
  const by = { key: made.key };
  expect(await create({ scopes: ["calls:read"] }, by)).toMatchObject(refused);
  expect(await create({ scopes: ["calls:read"], expiresAt: later }, by)).toMatchObject(refused);
  expect(await h.post(`/auth/api-keys/${lasting.id}/rotate`, {}, by)).toMatchObject(refused);
  const viaTrpc = await h.mutate("apiKeys.create", { name: "CI", scopes: ["calls:read"] }, by);
  expect(viaTrpc.body.error.data).toMatchObject({ code: "input_invalid" });
  expect(await create({ scopes: ["calls:read"], expiresAt }, by)).toMatchObject({ status: 201 });
  const rotated = await h.post(`/auth/api-keys/${made.id}/rotate`, {}, by);
  expect(rotated).toMatchObject({ status: 201, body: { data: { expiresAt } } });
});

test("a key expires at its time, and one with a past expiry is refused", async () => {
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const made = await create({ expiresAt });
  expect(made).toMatchObject({ status: 201, body: { data: { expiresAt } } });
  const { key } = made.body.data;
  expect((await h.get("/calls", { key })).status).toBe(200);
  await h.owner`update api_keys set expires_at = now() - interval '1 second' where id = ${made.body.data.id}`;
  expect((await h.get("/calls", { key })).status).toBe(401);

  const past = await create({ expiresAt: new Date(Date.now() - 1000).toISOString() });
  expect(past).toMatchObject({
    status: 400,
    body: { error: { code: "input_invalid", details: [{ path: "expiresAt" }] } },
  });
  for (const expiresAt of ["tomorrow", "2099-01-01", "2099-01-01T00:00:00+02:00"]) {
    expect(await create({ expiresAt })).toMatchObject({
      status: 400,
      body: { error: { details: [{ path: "expiresAt" }] } },
    });
  }
});

test("an unknown scope, an empty list and an unknown kind are refused by path", async () => {
  expect(await create({ scopes: ["calls:delete"] })).toMatchObject({
    status: 400,
    body: { error: { details: [{ path: "scopes.0" }] } },
  });
  expect(await create({ scopes: ["*"] })).toMatchObject({
    status: 400,
    body: { error: { details: [{ path: "scopes.0" }] } },
  });
  expect(await create({ scopes: [] })).toMatchObject({
    status: 400,
    body: { error: { details: [{ path: "scopes" }] } },
  });
  expect(await create({ kind: "root" })).toMatchObject({
    status: 400,
    body: { error: { details: [{ path: "kind" }] } },
  });
});

test("a revoked key stops working immediately, and a second DELETE is 404", async () => {
  const { id, key } = (await create({})).body.data;
  expect((await h.get("/calls", { key })).status).toBe(200);
  expect(await h.remove(`/auth/api-keys/${id}`)).toMatchObject({ status: 204, body: null });
  expect((await h.get("/calls", { key })).status).toBe(401);
  const revokedAt = async () =>
    (await h.get("/auth/api-keys")).body.data.find((row: { id: string }) => row.id === id).revokedAt;
  const first = await revokedAt();
  expect(Date.now() - Date.parse(first)).toBeLessThan(30_000);
  expect(await h.remove(`/auth/api-keys/${id}`)).toMatchObject({ status: 404 });
  expect(await h.mutate("apiKeys.revoke", { id })).toMatchObject({ status: 404 });
  expect(await revokedAt()).toBe(first);
  const emitted = await h.owner`select type from events where subject_id = ${id} order by sequence`;
  expect(emitted.map(({ type }) => type)).toEqual(["api_key.created", "api_key.revoked"]);
});

test("a key can revoke itself", async () => {
  const { id, key } = (await create({ scopes: ["api_keys:write"] })).body.data;
  expect((await h.remove(`/auth/api-keys/${id}`, { key })).status).toBe(204);
  expect((await h.remove(`/auth/api-keys/${id}`, { key })).status).toBe(401);
});

test("the keys of another client are neither listed nor revoked", async () => {
  const eve = await seedClient(h.deps, { name: "Eve", subject: "auth0|eve" });
  expect((await h.get("/auth/api-keys", { key: eve.key })).body.data).toMatchObject([{ id: eve.keyId }]);
  expect((await h.remove(`/auth/api-keys/${h.ada.keyId}`, { key: eve.key })).status).toBe(404);
  expect((await h.get("/agents")).status).toBe(200);
});

test("a client has a limit of active keys; revoking or rotating one makes room", async () => {
  const { clientId, ...ivy } = await seedClient(h.deps, { name: "Ivy", subject: "auth0|ivy" });
  const ask = { key: ivy.key };
  const add = async (more: number) => {
    await h.owner`insert into api_keys (client_id, id, name, prefix, hash, scopes, created_by)
      select ${clientId}, 'key_filled' || n, 'Filled', 'pb_live_fill', ${clientId} || 'filled' || n, '{calls:read}', ${ivy.userId}
      from generate_series(1, ${more}::int) n`;
  };
  await add(activeKeysPerClient - 4);
  const crowd = await Promise.all(Array.from({ length: 8 }, () => create({}, ask)));
  const made = crowd.filter(({ status }) => status === 201);
  expect(made).toHaveLength(3);
  const tooMany = { status: 409, body: { error: { code: "api_key_limit_reached" } } };
  for (const answer of crowd.filter((each) => !made.includes(each))) expect(answer).toMatchObject(tooMany);
  const { id } = made[0]!.body.data;
  expect(await h.post(`/auth/api-keys/${id}/rotate`, { graceSeconds: 60 }, ask)).toMatchObject(tooMany);
  expect(await h.post(`/auth/api-keys/${id}/rotate`, {}, ask)).toMatchObject({ status: 201 });
  expect(await create({}, ask)).toMatchObject(tooMany);
  expect(await h.remove(`/auth/api-keys/${made[1]!.body.data.id}`, ask)).toMatchObject({ status: 204 });
  expect(await create({}, ask)).toMatchObject({ status: 201 });
  await h.owner`update api_keys set expires_at = now() - interval '1 second' where id = 'key_filled1'`;
  expect(await create({}, ask)).toMatchObject({ status: 201 });
  expect(await create({}), "another client has its own").toMatchObject({ status: 201 });
});

/** Every row of every table, as text. */
async function everything(): Promise<string> {
  const tables = await h.owner<{ name: string }[]>`
    select format('%I.%I', schemaname, tablename) as name from pg_tables
    where schemaname in ('public', 'graphile_worker')`;
  const texts = await Promise.all(
    tables.map(({ name }) => h.owner.unsafe(`select coalesce(string_agg(t::text, ' '), '') as text from ${name} t`)),
  );
  return texts.map(([row]) => row!.text).join(" ");
}
