import { describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { seedClient } from "../../dev/seed.ts";
import { agent, clientsClaim, phone, serviceToken, startTestApp, type TestResponse, until } from "../support/app.ts";

const log: string[] = [];
const h = await startTestApp({ workers: true, credits: 100_000, log });

const failed = ({ status, body }: TestResponse) => ({ status, code: body.error?.code });
const asAda = async () => ({ key: await h.token(h.ada) });
const operator = async () => ({ key: await h.operator() });

let people = 0;
/** A person of the identity provider, with the `claims` of their token. */
async function newcomer(claims: Record<string, unknown> = {}) {
  const sub = `auth0|newcomer${++people}`;
  return { sub, key: await h.identity.token({ sub, clients: [], ...claims }) };
}

async function invite(role: string, ask?: { key: string }, email = `guest${people}@example.com`): Promise<string> {
  const made = await h.post("/clients/current/invitations", { email, role }, ask ?? (await asAda()));
  expect(made).toMatchObject({ status: 201, body: { data: { status: "open", role, email } } });
  return made.body.data.token;
}

/** A new client with this many owners, and their tokens. */
async function withOwners(count: number) {
  const subject = newId("user");
  const first = await seedClient(h.deps, { name: "Owned", subject, credits: 10_000 });
  const owners = [{ key: await h.token(first), memberId: "" }];
  for (let n = 1; n < count; n++) {
    const person = await newcomer();
    const token = await invite("owner", { key: owners[0]!.key });
    await h.post(`/invitations/${token}/accept`, {}, { key: person.key });
    owners.push({ key: await h.identity.token({ sub: person.sub, clients: [first.clientId] }), memberId: "" });
  }
  const members = (await h.get("/clients/current/members", { key: owners[0]!.key })).body.data;
  const rows =
    await h.owner`select m.id, u.subject from memberships m join users u on u.id = m.user_id where m.client_id = ${first.clientId} order by m.id`;
  for (const [index, owner] of owners.entries()) owner.memberId = rows[index]!.id;
  expect(members).toHaveLength(count);
  return { ...first, owners };
}

describe("an invitation", () => {
  test("admits the person with the token, who then has the role in the client", async () => {
    const person = await newcomer();
    expect(failed(await h.get("/auth/me", { key: person.key }))).toEqual({ status: 401, code: "unauthenticated" });
    const token = await invite("viewer");
    const joined = await h.post(`/invitations/${token}/accept`, {}, { key: person.key });
    expect(joined).toMatchObject({ status: 200, body: { data: { clientId: h.ada.clientId, role: "viewer" } } });
    // The provider's claim and the membership must both name the client.
    expect(failed(await h.get("/agents", { key: person.key }))).toMatchObject({ code: "client_forbidden" });
    const key = await h.identity.token({ sub: person.sub, clients: [h.ada.clientId] });
    expect(await h.get("/agents", { key })).toMatchObject({ status: 200 });
    expect(failed(await h.post("/agents", agent, { key }))).toEqual({ status: 403, code: "scope_missing" });
    const listed = (await h.get("/clients/current/invitations?limit=1", await asAda())).body.data[0];
    expect(listed).toMatchObject({ status: "accepted" });
    expect(JSON.stringify(listed)).not.toContain(token);
  });

  test("admits one person, once, under concurrent requests", async () => {
    const token = await invite("viewer");
    const crowd = await Promise.all(Array.from({ length: 8 }, () => newcomer()));
    const before = await h.owner`select count(*)::int as n from memberships where client_id = ${h.ada.clientId}`;
    const answers = await Promise.all(crowd.map(({ key }) => h.post(`/invitations/${token}/accept`, {}, { key })));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status !== 200))
      expect(failed(answer)).toEqual({ status: 404, code: "invitation_not_found" });
    const after = await h.owner`select count(*)::int as n from memberships where client_id = ${h.ada.clientId}`;
    expect(after[0]!.n).toBe(before[0]!.n + 1);
  });

  test("returns the same response to a retried request, also after it created the user", async () => {
    const person = await newcomer();
    const token = await invite("viewer");
    const ask = { key: person.key, idempotencyKey: "join-1" };
    const first = await h.post(`/invitations/${token}/accept`, {}, ask);
    const again = await h.post(`/invitations/${token}/accept`, {}, ask);
    expect(again).toMatchObject({ status: 200, body: first.body });
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(failed(await h.post(`/invitations/${token}/accept`, {}, { key: person.key }))).toMatchObject({
      status: 404,
    });
  });

  test("cannot be used after it was withdrawn or has expired, or with another verified address", async () => {
    const withdrawn = await invite("viewer");
    const [row] = (await h.get("/clients/current/invitations?limit=1", await asAda())).body.data;
    expect(await h.remove(`/clients/current/invitations/${row.id}`, await asAda())).toMatchObject({ status: 204 });
    const expired = await invite("viewer");
    await h.owner`update invitations set expires_at = now() - interval '1 second' where accepted_at is null and revoked_at is null`;
    for (const token of [withdrawn, expired, `pbi_${"x".repeat(43)}`]) {
      const { key } = await newcomer();
      expect(failed(await h.post(`/invitations/${token}/accept`, {}, { key }))).toEqual({
        status: 404,
        code: "invitation_not_found",
      });
    }
    const named = await invite("viewer", undefined, "Grace@Example.com".toLowerCase());
    const mallory = await newcomer({ email: "mallory@example.com", email_verified: true });
    expect(failed(await h.post(`/invitations/${named}/accept`, {}, { key: mallory.key }))).toMatchObject({
      code: "invitation_forbidden",
    });
    const prefix = clientsClaim.slice(0, clientsClaim.lastIndexOf("/") + 1);
    const grace = await newcomer({ [`${prefix}email`]: "GRACE@example.com", [`${prefix}email_verified`]: true });
    expect(await h.post(`/invitations/${named}/accept`, {}, { key: grace.key })).toMatchObject({ status: 200 });
  });

  test("cannot be accepted by API keys and services, and its token is not stored", async () => {
    const token = await invite("viewer");
    for (const key of [h.ada.key, serviceToken])
      expect(failed(await h.post(`/invitations/${token}/accept`, {}, { key }))).toMatchObject({
        status: 403,
        code: "client_forbidden",
      });
    const person = await newcomer();
    const joined = await h.post(`/invitations/${token}/accept`, {}, { key: person.key });
    const requestId = joined.headers.get("x-request-id")!;
    await until(async () => log.some((line) => line.includes(requestId) && line.includes("/invitations/")));
    expect(log.join("")).toContain("/invitations/[token]/accept");
    expect(log.join("")).not.toContain(token);
    const [kept] = await h.owner`select count(*)::int as n from invitations i where i::text like ${`%${token}%`}`;
    const [audited] = await h.owner`select count(*)::int as n from audit_log a where a::text like ${`%${token}%`}`;
    expect([kept!.n, audited!.n]).toEqual([0, 0]);
  });
});

describe("a member", () => {
  test("loses access immediately when removed", async () => {
    const { owners } = await withOwners(2);
    const [first, second] = owners;
    expect(await h.get("/agents", { key: second!.key })).toMatchObject({ status: 200 });
    const gone = await h.remove(`/clients/current/members/${second!.memberId}`, { key: first!.key });
    expect(gone).toMatchObject({ status: 200, body: { data: { id: second!.memberId } } });
    for (const answer of [
      await h.get("/agents", { key: second!.key }),
      await h.query("agents.list", {}, { key: second!.key }),
    ])
      expect(answer.status).toBe(403);
  });

  test("who is the last owner stays: two owners who remove each other leave one", async () => {
    for (let round = 0; round < 5; round++) {
      const { owners, clientId } = await withOwners(2);
      const answers = await Promise.all(
        owners.map(({ key }, index) =>
          round % 2
            ? h.remove(`/clients/current/members/${owners[1 - index]!.memberId}`, { key })
            : h.patch(`/clients/current/members/${owners[1 - index]!.memberId}`, { role: "viewer" }, { key }),
        ),
      );
      const [left] =
        await h.owner`select count(*)::int as n from memberships where client_id = ${clientId} and role = 'owner'`;
      expect(left!.n).toBe(1);
      expect(answers.map(({ status }) => status).filter((status) => status >= 500)).toEqual([]);
      const statuses = await Promise.all(
        owners.map(async ({ key }) => (await h.get("/clients/current", { key })).status),
      );
      expect(statuses.includes(200)).toBe(true);
    }
    const { owners } = await withOwners(1);
    const [only] = owners;
    for (const answer of [
      await h.remove(`/clients/current/members/${only!.memberId}`, { key: only!.key }),
      await h.patch(`/clients/current/members/${only!.memberId}`, { role: "admin" }, { key: only!.key }),
    ])
      expect(failed(answer)).toEqual({ status: 409, code: "owner_required" });
  });

  test("can only grant roles within their own scopes, and only an owner adds or removes an owner", async () => {
    const { owners } = await withOwners(2);
    const admin = await newcomer();
    const token = await invite("admin", { key: owners[0]!.key });
    const joined = await h.post(`/invitations/${token}/accept`, {}, { key: admin.key });
    const key = await h.identity.token({ sub: admin.sub, clients: [joined.body.data.clientId] });
    const body = { email: "x@example.com", role: "owner" };
    expect(failed(await h.post("/clients/current/invitations", body, { key }))).toMatchObject({
      code: "scope_missing",
    });
    expect(failed(await h.remove(`/clients/current/members/${owners[1]!.memberId}`, { key }))).toMatchObject({
      code: "scope_missing",
    });
    expect(
      failed(await h.patch(`/clients/current/members/${owners[1]!.memberId}`, { role: "viewer" }, { key })),
    ).toMatchObject({ code: "scope_missing" });
    expect(await h.post("/clients/current/invitations", { ...body, role: "admin" }, { key })).toMatchObject({
      status: 201,
    });
    // A key can manage members, within its own scopes.
    const narrow = await h.post("/auth/api-keys", { name: "HR", scopes: ["members:write"] }, { key: owners[0]!.key });
    const refused = await h.post(
      "/clients/current/invitations",
      { ...body, role: "member" },
      { key: narrow.body.data.key },
    );
    expect(failed(refused)).toMatchObject({ status: 403, code: "scope_missing" });
  });
});

describe("an operator", () => {
  test("creates a client whose first owner joins by invitation", async () => {
    const made = await h.post("/admin/clients", { name: "New", ownerEmail: "First@Example.com" }, await operator());
    expect(made).toMatchObject({ status: 201, body: { data: { name: "New", status: "active", timezone: "UTC" } } });
    const { id, invitationToken } = made.body.data;
    const person = await newcomer({ email: "first@example.com", email_verified: true });
    await h.post(`/invitations/${invitationToken}/accept`, {}, { key: person.key });
    const key = await h.identity.token({ sub: person.sub, clients: [id] });
    expect(await h.get("/clients/current", { key })).toMatchObject({ status: 200, body: { data: { id } } });
    expect(await h.post("/auth/api-keys", { name: "k", scopes: ["agents:read"] }, { key })).toMatchObject({
      status: 201,
    });
    const atBoth = [await h.get(`/admin/clients/${id}`, await operator()), await fromRest(`/admin/clients/${id}`)];
    expect(atBoth[0]!.body.data).toEqual(atBoth[1]!.body.data);
  });

  test("has no tenant's rows, and no tenant can call operator endpoints", async () => {
    expect(failed(await h.get("/agents", await operator()))).toEqual({ status: 403, code: "client_forbidden" });
    expect(
      failed(await h.get("/agents", { ...(await operator()), headers: { "x-client-id": h.ada.clientId } })),
    ).toEqual({
      status: 403,
      code: "client_forbidden",
    });
    for (const key of [h.ada.key, await h.token(h.ada), serviceToken])
      expect(failed(await h.get("/admin/clients", { key }))).toEqual({ status: 403, code: "platform_required" });
    const narrow = await h.identity.token({ sub: "auth0|operator", clients: [], scope: "platform:read" });
    expect(await h.get("/admin/clients", { key: narrow })).toMatchObject({ status: 200 });
    expect(failed(await h.post("/admin/clients", { name: "x" }, { key: narrow }))).toMatchObject({
      code: "scope_missing",
    });
    const listed = (await h.get("/admin/clients?limit=100", await operator())).body.data;
    expect(listed.map(({ id }: { id: string }) => id)).not.toContain("client_00000000000000000000000000");
    expect(
      failed(
        await h.post("/admin/clients/client_00000000000000000000000000/suspend", { reason: "x" }, await operator()),
      ),
    ).toMatchObject({ code: "client_not_found" });
    const [audit] = await h.owner`select actor, client_id from audit_log where action = 'admin.clients.create' limit 1`;
    expect(audit).toMatchObject({
      client_id: "client_00000000000000000000000000",
      actor: expect.stringMatching(/^user_/),
    });
  });
});

const fromRest = async (path: string): Promise<TestResponse> => {
  const response = await fetch(`${h.url}/api/v1${path}`, {
    headers: { authorization: `Bearer ${await h.operator()}` },
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
};

describe("credits that an operator gives", () => {
  const made = async () => {
    const person = await newcomer();
    const created = await h.post("/admin/clients", { name: "Poor", ownerEmail: "poor@example.com" }, await operator());
    const { id, invitationToken } = created.body.data;
    await h.post(`/invitations/${invitationToken}/accept`, {}, { key: person.key });
    return { id, key: await h.identity.token({ sub: person.sub, clients: [id] }) };
  };
  const give = async (id: string, body: unknown, more: object = {}) =>
    h.post(`/admin/clients/${id}/credits`, body, { ...(await operator()), ...more });

  test("are available immediately, once per retried request, with reason and audit entry", async () => {
    const client = await made();
    const { body: ready } = await h.post("/agents", agent, client);
    const call = () => h.post("/calls", { agentId: ready.data.id, medium: { type: "web" } }, client);
    expect(failed(await call())).toEqual({ status: 402, code: "credits_insufficient" });
    const body = { amountMicros: 500_000_000, reason: "Paid by invoice 7." };
    const again = { idempotencyKey: "invoice-7" };
    const answers = await Promise.all([1, 2, 3].map(() => give(client.id, body, again)));
    const given = { availableMicros: 500_000_000, heldMicros: 0 };
    const done = answers.filter(({ status }) => status === 200);
    expect(done.map(({ body: answer }) => answer.data)).toEqual(done.map(() => given));
    expect((await give(client.id, body, again)).body.data).toEqual(given);
    expect((await h.get("/billing/balance", client)).body.data).toEqual(given);
    const posted = (await h.get("/billing/ledger", client)).body.data;
    expect(posted).toMatchObject([{ kind: "grant", memo: "Paid by invoice 7." }]);
    const events = (await h.get("/events?type=credits.granted", client)).body.data;
    expect(events).toMatchObject([{ data: { amountMicros: 500_000_000 } }]);
    const audit =
      await h.owner`select actor, input from audit_log where client_id = ${client.id} and action = 'admin.credits.grant'`;
    expect(audit).toMatchObject([{ actor: expect.stringMatching(/^user_/), input: body }]);
    expect(await call()).toMatchObject({ status: 201 });
  });

  test("are all granted when given in one batch, or in requests with the same request id", async () => {
    const client = await made();
    const reasons = ["First", "Second", "Third"];
    const batch = Object.fromEntries(
      reasons.map((reason, index) => [index, { id: client.id, amountMicros: 5, reason }]),
    );
    const path = `/trpc/${reasons.map(() => "admin.credits.grant").join()}?batch=1`;
    const answers = (await h.send("POST", path, batch, await operator())).body as { result: unknown }[];
    expect(answers.every(({ result }) => result !== undefined)).toBe(true);
    const traced = { headers: { "x-request-id": "trace-1" } };
    for (const reason of ["Fourth", "Fifth"])
      expect(await give(client.id, { amountMicros: 5, reason }, traced)).toMatchObject({ status: 200 });
    expect((await h.get("/billing/balance", client)).body.data).toMatchObject({ availableMicros: 25 });
    const posted = (await h.get("/billing/ledger", client)).body.data as { memo: string }[];
    expect(posted.map(({ memo }) => memo).toSorted()).toEqual([...reasons, "Fourth", "Fifth"].toSorted());
    const events = (await h.get("/events?type=credits.granted", client)).body.data;
    expect(events).toHaveLength(5);
  });

  test("can be granted to a suspended client, but not to an unknown one; less than one is refused", async () => {
    const { id } = await made();
    const body = { amountMicros: 1, reason: "A trifle." };
    await h.post(`/admin/clients/${id}/suspend`, { reason: "The invoice is open." }, await operator());
    expect(await give(id, body)).toMatchObject({ status: 200, body: { data: { availableMicros: 1 } } });
    for (const stranger of [newId("client"), "client_00000000000000000000000000"])
      expect(failed(await give(stranger, body))).toEqual({ status: 404, code: "client_not_found" });
    for (const [path, wrong] of [
      ["amountMicros", { ...body, amountMicros: 0 }],
      ["amountMicros", { ...body, amountMicros: -5 }],
      ["reason", { ...body, reason: " " }],
    ] as const)
      expect(await give(id, wrong)).toMatchObject({ status: 400, body: { error: { details: [{ path }] } } });
    expect(failed(await h.post(`/admin/clients/${id}/credits`, body))).toEqual({
      status: 403,
      code: "platform_required",
    });
  });
});

describe("an idempotency key of an operator", () => {
  test("belongs to one client: the same key for another client is another request, for every command", async () => {
    const names = ["One", "Two"];
    const clients = await Promise.all(
      names.map(async (name) => (await h.post("/admin/clients", { name }, await operator())).body.data.id as string),
    );
    const commands: [method: string, path: (id: string) => string, body: object][] = [
      ["POST", (id) => `/admin/clients/${id}/prices`, { callMicrosPerMinute: 7 }],
      ["POST", (id) => `/admin/clients/${id}/credits`, { amountMicros: 7, reason: "Seven." }],
      ["POST", (id) => `/admin/clients/${id}/invitations`, { email: "seven@example.com", role: "viewer" }],
      ["PUT", (id) => `/admin/deliveries/pauses/${id}`, { reason: "Seven." }],
      ["POST", (id) => `/admin/clients/${id}/suspend`, { reason: "Seven." }],
    ];
    for (const [index, [method, path, body]] of commands.entries()) {
      const ask = { ...(await operator()), idempotencyKey: `both-${index}` };
      const first = [];
      for (const id of clients) {
        const answer = await h.send(method, path(id), body, ask);
        expect(answer.status).toBeLessThan(300);
        expect(answer.headers.get("idempotency-replayed")).toBeNull();
        first.push(answer.body);
      }
      for (const [at, id] of clients.entries()) {
        const again = await h.send(method, path(id), body, ask);
        expect(again.headers.get("idempotency-replayed")).toBe("true");
        expect(again.body).toEqual(first[at]);
      }
      const other = await h.send(method, path(clients[0]!), { ...body, reason: "Eight.", role: "member" }, ask);
      expect(failed(other).status).toBeGreaterThanOrEqual(400);
    }
    const [made] = await h.owner`select
      (select count(*)::int from prices where client_id in ${h.owner(clients)}) as prices,
      (select count(*)::int from ledger_transactions where client_id in ${h.owner(clients)}) as grants,
      (select count(*)::int from invitations where client_id in ${h.owner(clients)}) as invitations`;
    expect(made).toEqual({ prices: 2, grants: 2, invitations: 2 });
  });
});

describe("a suspended client", () => {
  test("is refused immediately, with keys and tokens, on both transports; its work waits; running calls are billed", async () => {
    const { key, clientId, ...who } = await seedClient(h.deps, { name: "Late", subject: "auth0|late", credits: 1000 });
    const token = await h.token({ key, clientId, ...who });
    const made = await h.post("/agents", agent, { key });
    const call = { agentId: made.body.data.id, medium: phone("+15550100010") };
    const placed = await h.post("/calls", call, { key });
    await h.post(`/admin/clients/${clientId}/suspend`, { reason: "The invoice is open." }, await operator());
    for (const credential of [key, token]) {
      for (const answer of [
        await h.get("/agents", { key: credential }),
        await h.get(`/agents/${made.body.data.id}`, { key: credential }),
        await h.post("/calls", call, { key: credential }),
        await h.query("agents.list", {}, { key: credential }),
        await h.mutate("agents.create", agent, { key: credential }),
      ]) {
        const code = answer.body.error?.code ?? "";
        expect({ status: answer.status, code: typeof code === "string" ? code : answer.body.error.data.code }).toEqual({
          status: 403,
          code: "client_suspended",
        });
      }
    }
    // Workers notice within seconds; the call continues at the provider and is still billed.
    const billed = await until(async () => {
      const [row] = await h.owner`select cost_micros, billing_revision from calls where id = ${placed.body.data.id}`;
      return row!.billing_revision > 0 && row;
    });
    expect(Number(billed.cost_micros)).toBeGreaterThan(0);
    const [held] = await h.owner`select status from holds where subject_id = ${placed.body.data.id}`;
    expect(held!.status).toBe("settled");

    await h.post(`/admin/clients/${clientId}/resume`, {}, await operator());
    expect(await h.get("/agents", { key })).toMatchObject({ status: 200 });
  });
});

describe("a price of a client's own", () => {
  const prices = { callMicrosPerMinute: 1_000_000, telephoneMicrosPerMinute: 0 };

  test("applies to this client only, from its time on, to calls that start then", async () => {
    const { key, clientId } = await seedClient(h.deps, { name: "Cheap", subject: "auth0|cheap", credits: 1000 });
    const other = await seedClient(h.deps, { name: "Dear", subject: "auth0|dear", credits: 1000 });
    const held = async (as: string) => {
      const made = await h.post("/agents", agent, { key: as });
      const placed = await h.post("/calls", { agentId: made.body.data.id, medium: { type: "web" } }, { key: as });
      return placed.body.data.heldMicros as number;
    };
    const full = await held(key);
    const later = await h.post(
      `/admin/clients/${clientId}/prices`,
      { ...prices, effectiveFrom: "2099-01-01T00:00:00.000Z" },
      await operator(),
    );
    expect(later).toMatchObject({ status: 201, body: { data: { ...prices, clientId, inherits: false } } });
    expect(await held(key)).toBe(full);
    const set = await h.post(`/admin/clients/${clientId}/prices`, prices, await operator());
    expect(set.body.data).toMatchObject({ ...prices, roundingSeconds: 6 });
    expect(await held(key)).toBe(full / 9);
    expect(await held(other.key)).toBe(full);
    expect(await h.remove(`/admin/clients/${clientId}/prices`, await operator())).toMatchObject({ status: 204 });
    expect(await held(key)).toBe(full);
    const listed = (await h.get(`/admin/clients/${clientId}/prices`, await operator())).body.data;
    expect(listed).toHaveLength(3);
  });

  test("can be read by the client", async () => {
    const seen = async () => (await h.get("/billing/prices")).body.data;
    const book = await seen();
    expect(book).toMatchObject({ callMicrosPerMinute: expect.any(Number), roundingSeconds: 6 });
    await h.post(`/admin/clients/${h.ada.clientId}/prices`, { voiceCloneMicros: 7 }, await operator());
    const { id, effectiveFrom, ...own } = await seen();
    expect(own).toEqual({ ...book, voiceCloneMicros: 7, id: undefined, effectiveFrom: undefined });
    expect(id).not.toBe(book.id);
    expect(new Date(effectiveFrom).getTime()).toBeGreaterThan(new Date(book.effectiveFrom).getTime());
    await h.remove(`/admin/clients/${h.ada.clientId}/prices`, await operator());
    expect(await seen()).toEqual(book);
  });

  test("cannot start in the past", async () => {
    const body = { ...prices, effectiveFrom: "2020-01-01T00:00:00.000Z" };
    const answer = await h.post(`/admin/clients/${h.ada.clientId}/prices`, body, await operator());
    expect(answer.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "effectiveFrom" }] });
  });
});
