import { describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { seedClient } from "../../dev/seed.ts";
import { toUserPattern } from "../../routers/telephony/pattern.ts";
import { agent, startTestApp, type TestResponse, until } from "../support/app.ts";
import { assign } from "../support/numbers.ts";

const log: string[] = [];
const h = await startTestApp({ workers: true, credits: 100_000, log });
const failed = ({ status, body }: TestResponse) => ({ status, code: body.error?.code });
const password = "canary-sip-password-4711";
const registration = { username: "reception", password, proxy: "sip.example.com" };

let seeded = 0;
/** A new client; with `own`, one with a provider account that no other client uses. */
async function client(own = false) {
  const created = await seedClient(h.deps, { name: "T", subject: `auth0|telephony${++seeded}`, credits: 1000 });
  if (own) {
    await h.owner`delete from provider_accounts where id = 'pacc_other'`;
    await h.owner`insert into provider_accounts (client_id, id, status) values (${created.clientId}, 'pacc_other', 'active')`;
  }
  return { ...created, auth: { key: created.key } };
}

async function makeAgent(auth: { key: string }): Promise<string> {
  return (await h.post("/agents", agent, auth)).body.data.id;
}

const sipOf = async (apiKey: string) => {
  const response = await fetch(`${h.simulator.url}/api/sip`, { headers: { "x-api-key": apiKey } });
  return (await response.json()) as {
    allowedAgents: { agentId: string; toUserPattern: string }[];
    allowedCidrRanges: string[];
  };
};
const sharedSip = () => sipOf(h.env.ULTRAVOX_API_KEY);

const live = (id: string, auth: { key: string }) =>
  until(async () => {
    const { data } = (await h.get(`/telephony/routes/${id}`, auth)).body;
    return data.status !== "pending" && data;
  });

describe("the configuration", () => {
  test("returns the client's part of a shared account only", async () => {
    const { auth } = await client();
    const secret = { accountSid: "AC-operator", authToken: "operator-secret-token" };
    await fetch(`${h.simulator.url}/api/telephony_configs/twilio`, {
      method: "POST",
      headers: { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" },
      body: JSON.stringify(secret),
    });
    await h.post("/telephony/registrations", { ...registration, username: "overview" }, auth);
    const { status, body } = await h.get("/telephony/config", auth);
    expect(status).toBe(200);
    expect(body.data).toMatchObject({
      accountIsShared: true,
      sip: { domain: "platform.sip.example", allowedCidrRanges: null },
      carriers: [{ carrier: "twilio", isShared: true, account: null, secretPrefix: null }],
      defaultCarrier: null,
      registrations: [{ username: "overview", status: "active", registered: true }],
      routes: [],
      numbers: [],
    });
    expect(JSON.stringify(body)).not.toContain("AC-operator");
    const bobs = (await h.get("/telephony/config", { key: h.bob.key })).body.data;
    expect(bobs.registrations).toEqual([]);
  });

  test("stores the client's defaults, and clears them with null", async () => {
    const { auth } = await client();
    const set = await h.patch("/telephony/config", { defaultCarrier: "telnyx", defaultFrom: "+493012345678" }, auth);
    expect(set.body.data).toMatchObject({ defaultCarrier: "telnyx", defaultFrom: "+493012345678" });
    await h.patch("/telephony/config", { defaultFrom: null }, auth);
    const seen = (await h.get("/telephony/config", auth)).body.data;
    expect(seen).toMatchObject({ defaultCarrier: "telnyx", defaultFrom: null });
    const bad = await h.patch("/telephony/config", { defaultFrom: "030 12345" }, auth);
    expect(bad.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "defaultFrom" }] });
  });

  test("refuses changes of shared settings", async () => {
    const { auth } = await client();
    for (const [field, value] of [
      ["allowedCidrRanges", ["192.0.2.0/24"]],
      ["carriers", { twilio: true }],
    ] as const) {
      const { body } = await h.patch("/telephony/config", { [field]: value }, auth);
      expect(body.error).toMatchObject({ code: "input_invalid", details: [{ path: field }] });
    }
    expect((await sharedSip()).allowedCidrRanges).toEqual([]);
  });

  test("of a client's own account sets up carriers with the stored credential, and removes them", async () => {
    const { auth, clientId } = await client(true);
    const without = await h.patch("/telephony/config", { carriers: { twilio: true } }, auth);
    expect(failed(without)).toEqual({ status: 404, code: "credential_not_found" });
    const ring = await h.deps.providers.vault.keys(clientId, "provider_credential");
    const id = newId("credential");
    const sealed = ring.seal(JSON.stringify({ accountSid: "AC-own", authToken: "own-secret-token" }), id);
    await h.owner`insert into credentials (client_id, id, provider, prefix, sealed) values (${clientId}, ${id}, 'twilio', 'AC-o', ${sealed})`;
    const body = { allowedCidrRanges: ["192.0.2.0/24"], carriers: { twilio: true } };
    const set = await h.patch("/telephony/config", body, auth);
    expect(set.body.data).toMatchObject({
      accountIsShared: false,
      sip: { allowedCidrRanges: ["192.0.2.0/24"] },
      carriers: [{ carrier: "twilio", isShared: false, account: "AC-own", secretPrefix: "own-" }],
    });
    expect(await h.patch("/telephony/config", body, auth)).toMatchObject({ status: 200 });
    const gone = await h.patch("/telephony/config", { carriers: { twilio: false } }, auth);
    expect(gone.body.data.carriers).toEqual([]);
    expect(JSON.stringify([set.body, gone.body])).not.toContain("own-secret-token");
    await h.owner`delete from provider_accounts where id = 'pacc_other'`;
  });
});

describe("a registration", () => {
  test("is created at the provider, listed, and removed there when deleted here", async () => {
    const { auth } = await client();
    const created = await h.post("/telephony/registrations", { ...registration, username: "made" }, auth);
    expect(created).toMatchObject({
      status: 201,
      body: { data: { status: "active", registered: true, username: "made" } },
    });
    const { id } = created.body.data;
    expect((await h.get(`/telephony/registrations/${id}`, auth)).body.data).toEqual(created.body.data);
    expect((await h.get("/telephony/registrations", auth)).body.data).toEqual([created.body.data]);
    expect(await h.remove(`/telephony/registrations/${id}`, auth)).toMatchObject({ status: 204 });
    expect(failed(await h.get(`/telephony/registrations/${id}`, auth))).toMatchObject({
      code: "registration_not_found",
    });
    await until(async () => !(await upstream()).some(({ username }) => username === "made"));
  });

  test("that the SIP server rejects is not registered", async () => {
    const { auth } = await client();
    const created = await h.post("/telephony/registrations", { ...registration, username: "refused1" }, auth);
    expect(created.body.data).toMatchObject({ status: "active", registered: false });
  });

  test("of the same SIP account is created once, with concurrent requests too", async () => {
    const { auth } = await client();
    const body = { ...registration, username: "once" };
    const answers = await Promise.all([
      h.post("/telephony/registrations", body, auth),
      h.post("/telephony/registrations", body, auth),
      h.post("/telephony/registrations", body, { key: h.bob.key }),
    ]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409, 409]);
    expect((await upstream()).filter(({ username }) => username === "once")).toHaveLength(1);
  });

  test("with a lost response is found by a lookup, and not created again", async () => {
    const { auth } = await client();
    await h.simulator.faults({ create: { resetAfterAccepting: 1 }, applyTo: "telephony" });
    const created = await h.post("/telephony/registrations", { ...registration, username: "lost" }, auth);
    expect(created).toMatchObject({ status: 202, body: { data: { status: "provisioning" } } });
    await h.owner`update graphile_worker._private_jobs set run_at = now() where payload->'body'->>'intentId' in
      (select id from intents where subject_id = ${created.body.data.id})`;
    await until(
      async () => (await h.get(`/telephony/registrations/${created.body.data.id}`, auth)).body.data.status === "active",
    );
    expect((await upstream()).filter(({ username }) => username === "lost")).toHaveLength(1);
  });

  test("created elsewhere at the provider is refused, and neither adopted nor removed", async () => {
    const { auth } = await client();
    const operators = await byHand("hotline");
    await h.simulator.faults({ create: { resetAfterAccepting: 1 }, applyTo: "telephony" });
    const created = await h.post("/telephony/registrations", { ...registration, username: "hotline" }, auth);
    await h.simulator.faults({});
    expect(failed(created)).toEqual({ status: 422, code: "provider_rejected" });
    expect(created.body.error.message).toMatch(/^username, proxy: .*hotline/);
    expect(await idsOf("hotline")).toEqual([operators]);
    expect((await h.get("/telephony/registrations", auth)).body.data).toMatchObject([{ status: "failed" }]);
  });

  test("with a lost response is not adopted from older matches, nor from several", async () => {
    const { auth } = await client();
    for (const [username, makeThere] of [
      ["before", async () => [await byHand("before")]],
      ["several", async () => [await byHand("several"), await byHand("several")]],
    ] as const) {
      await h.simulator.faults({ create: { errors: [{ status: 500 }] }, applyTo: "telephony" });
      const created = await h.post("/telephony/registrations", { ...registration, username }, auth);
      expect(created).toMatchObject({ status: 202, body: { data: { status: "provisioning" } } });
      const { id } = created.body.data;
      const there = await makeThere();
      // Simulates a later request: matches that are older, beyond the clock skew, existed before.
      if (username === "before") {
        await h.owner`update intents set created_at = clock_timestamp() + interval '6 minutes' where subject_id = ${id}`;
      }
      const lookNow = () => h.owner`update graphile_worker._private_jobs set run_at = now()
        where locked_at is null and payload->'body'->>'intentId' in (select id from intents where subject_id = ${id})`;
      const intent = async () => (await h.owner`select * from intents where subject_id = ${id}`)[0]!;
      await lookNow();
      await until(async () => (await intent()).absences === 1 || (await intent()).status === "settled");
      await h.owner`update intents set absent_at = absent_at - interval '2 minutes' where subject_id = ${id}`;
      await until(async () => {
        await lookNow();
        return (await intent()).status === "settled";
      });
      expect((await intent()).outcome).toBe("absent");
      expect((await h.get(`/telephony/registrations/${id}`, auth)).body.data.status).toBe("failed");
      expect((await idsOf(username)).toSorted()).toEqual(there.toSorted());
      const removals = await h.owner`select from graphile_worker._private_jobs
        where payload->'body'->>'providerId' in ${h.owner(there)}`;
      expect(removals).toEqual([]);
    }
  });

  test("can be created again immediately after its deletion", async () => {
    const { auth } = await client();
    const body = { ...registration, username: "again" };
    const first = await h.post("/telephony/registrations", body, auth);
    await h.simulator.faults({ changes: { errors: [{ status: 400, times: 1000 }] }, applyTo: "telephony" });
    await h.remove(`/telephony/registrations/${first.body.data.id}`, auth);
    const second = await h.post("/telephony/registrations", body, auth);
    expect(second).toMatchObject({ status: 201, body: { data: { status: "active" } } });
    expect(await idsOf("again")).toHaveLength(2);
    await h.simulator.faults({});
    const [row] = await h.owner`select provider_registration_id as there from sip_registrations
      where id = ${second.body.data.id}`;
    await until(async () => {
      await h.owner`update graphile_worker._private_jobs set run_at = now()
        where locked_at is null and payload->'body'->>'kind' = 'registration'`;
      return (await idsOf("again")).length === 1;
    });
    expect(await idsOf("again")).toEqual([row!.there]);
  });

  test("stores its password in no table", async () => {
    const tables =
      await h.owner`select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('public', 'graphile_worker') and c.relkind = 'r'`;
    expect(tables.length).toBeGreaterThan(20);
    for (const { name } of tables) {
      const [row] = await h.owner.unsafe(`select count(*)::int as n from ${name} t where t::text like '%${password}%'`);
      expect(row!.n, name).toBe(0);
    }
    expect(log.join("")).not.toContain(password);
  });
});

const upstream = async () => {
  const response = await fetch(`${h.simulator.url}/api/sip/registrations?pageSize=100`, {
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
  });
  return ((await response.json()) as { results: { registrationId: string; username: string }[] }).results;
};
const idsOf = async (name: string) =>
  (await upstream()).filter(({ username }) => username === name).map(({ registrationId }) => registrationId);

/** A rule that an operator creates directly at the provider. */
async function byHand(username: string): Promise<string> {
  const response = await fetch(`${h.simulator.url}/api/sip/registrations`, {
    method: "POST",
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" },
    body: JSON.stringify({ username, password: "the-operators-own", proxy: registration.proxy }),
  });
  return ((await response.json()) as { registrationId: string }).registrationId;
}

describe("an inbound route", () => {
  test("is created, changed and removed at the provider", async () => {
    const { auth, clientId } = await client();
    const agentId = await makeAgent(auth);
    await assign(h, clientId, "+493012345678");
    await assign(h, clientId, "reception*");
    const created = await h.post("/telephony/routes", { pattern: "+493012345678", agentId }, auth);
    expect(created).toMatchObject({ status: 201, body: { data: { status: "pending", rank: 0, enabled: true } } });
    const { id } = created.body.data;
    expect(await live(id, auth)).toMatchObject({ status: "live", statusReason: null });
    expect((await sharedSip()).allowedAgents).toContainEqual({
      agentId: expect.any(String),
      toUserPattern: "^\\+?493012345678$",
    });
    await h.patch(`/telephony/routes/${id}`, { pattern: "reception*" }, auth);
    expect(await live(id, auth)).toMatchObject({ status: "live" });
    const patterns = (await sharedSip()).allowedAgents.map(({ toUserPattern }) => toUserPattern);
    expect(patterns).toContain("^reception.*$");
    expect(patterns).not.toContain("^\\+?493012345678$");
    await h.remove(`/telephony/routes/${id}`, auth);
    await until(
      async () => !(await sharedSip()).allowedAgents.some(({ toUserPattern }) => toUserPattern === "^reception.*$"),
    );
  });

  test("for a number belongs to one client", async () => {
    const { auth, clientId } = await client();
    const other = await client();
    const [mine, theirs] = [await makeAgent(auth), await makeAgent(other.auth)];
    await assign(h, clientId, "+4930999");
    await h.post("/telephony/routes", { pattern: "+4930999", agentId: mine }, auth);
    const second = await h.post("/telephony/routes", { pattern: "+4930999", agentId: theirs }, other.auth);
    expect(failed(second)).toEqual({ status: 409, code: "inbound_route_taken" });
    const free = await h.post("/telephony/routes", { pattern: "+4930998", agentId: theirs }, other.auth);
    const moved = await h.patch(`/telephony/routes/${free.body.data.id}`, { pattern: "+4930999" }, other.auth);
    expect(failed(moved)).toEqual({ status: 409, code: "inbound_route_taken" });
    expect((await h.get("/telephony/routes", other.auth)).body.data).toHaveLength(1);
    const stolen = await h.post("/telephony/routes", { pattern: "+4930997", agentId: mine }, other.auth);
    expect(failed(stolen)).toEqual({ status: 404, code: "agent_not_found" });
  });

  test("that is disabled, or of a suspended client, does not answer", async () => {
    const { auth, clientId } = await client();
    const agentId = await makeAgent(auth);
    for (const pattern of ["+4930111", "+4930112"]) await assign(h, clientId, pattern);
    const off = await h.post("/telephony/routes", { pattern: "+4930111", agentId, enabled: false }, auth);
    expect(await live(off.body.data.id, auth)).toMatchObject({
      status: "failed",
      statusReason: expect.stringContaining("disabled"),
    });
    const on = await h.post("/telephony/routes", { pattern: "+4930112", agentId }, auth);
    expect(await live(on.body.data.id, auth)).toMatchObject({ status: "live" });
    await h.owner`update clients set status = 'suspended' where id = ${clientId}`;
    await h.owner`update inbound_routes set status = 'pending' where id = ${on.body.data.id}`;
    const bobs = await makeAgent({ key: h.bob.key });
    await h.post("/telephony/routes", { pattern: "+4930113", agentId: bobs }, { key: h.bob.key });
    await until(async () => {
      const [row] = await h.owner`select status from inbound_routes where id = ${on.body.data.id}`;
      return row!.status === "failed";
    });
    expect((await sharedSip()).allowedAgents.map(({ toUserPattern }) => toUserPattern)).not.toContain("^\\+?4930112$");
  });

  test("keeps the operator's own rules, and reports the limit of the account", async () => {
    const { auth, clientId } = await client();
    for (let n = 0; n < 21; n++) await assign(h, clientId, `+4940${100 + n}`);
    const response = await fetch(`${h.simulator.url}/api/agents`, {
      method: "POST",
      headers: { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" },
      body: JSON.stringify({ name: "by-hand" }),
    });
    const byHand = (await response.json()) as { agentId: string };
    const before = (await sharedSip()).allowedAgents;
    await fetch(`${h.simulator.url}/api/sip`, {
      method: "PATCH",
      headers: { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" },
      body: JSON.stringify({ allowedAgents: [...before, { agentId: byHand.agentId, toUserPattern: "^hotline$" }] }),
    });
    const agentId = await makeAgent(auth);
    const created = await Promise.all(
      Array.from({ length: 21 }, (_, n) =>
        h.post("/telephony/routes", { pattern: `+4940${100 + n}`, agentId, rank: 10 + n }, auth),
      ),
    );
    const rules = await Promise.all(created.map(({ body }) => live(body.data.id, auth)));
    const refused = rules.filter(({ status }) => status === "failed");
    expect(refused.length).toBeGreaterThan(0);
    for (const { statusReason } of refused) expect(statusReason).toContain("20 routes");
    const { allowedAgents } = await sharedSip();
    expect(allowedAgents).toHaveLength(20);
    expect(allowedAgents.map(({ toUserPattern }) => toUserPattern)).toContain("^hotline$");
  });
});

test("a pattern matches exactly its numbers", () => {
  const fits = (pattern: string, called: string) => new RegExp(toUserPattern(pattern)).test(called);
  expect(fits("+493012345678", "+493012345678")).toBe(true);
  expect(fits("+493012345678", "493012345678")).toBe(true);
  expect(fits("+493012345678", "4930123456789")).toBe(false);
  expect(fits("+493012345678", "0493012345678")).toBe(false);
  expect(fits("+4930*", "+493077")).toBe(true);
  expect(fits("+4930*", "+493177")).toBe(false);
  expect(fits("front.desk", "front.desk")).toBe(true);
  expect(fits("front.desk", "frontxdesk")).toBe(false);
  expect(fits("front-desk*", "front-desk-2")).toBe(true);
});
