import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { seedClient } from "../../dev/seed.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { startTestApp, until } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";
import { assign } from "../support/numbers.ts";

const h = await startTestApp({ workers: true, credits: 1000 });

type TestClient = { clientId: string; agentId: string; upstream: string; auth: { key: string } };
let seeded = 0;
async function client(): Promise<TestClient> {
  const { clientId, key } = await seedClient(h.deps, { name: "S", subject: `auth0|shared${++seeded}`, credits: 1000 });
  const agentId = await makeAgent(h, {}, key);
  const [row] = await h.owner`select provider_agent_id from agents where id = ${agentId}`;
  return { clientId, agentId, upstream: row!.provider_agent_id, auth: { key } };
}

/** Each test has the account and its route limit for itself. */
beforeEach(async () => {
  await h.owner`delete from inbound_routes`;
  await h.owner`delete from assigned_numbers`;
});

const post = (owner: TestClient, pattern: string, more: object = {}) =>
  h.post("/telephony/routes", { pattern, agentId: owner.agentId, ...more }, owner.auth);
/** Creates a route within a number assigned to its client. */
const createRoute = async (owner: TestClient, pattern: string, more: object = {}) => {
  await assign(h, owner.clientId, pattern);
  const { status, body } = await post(owner, pattern, more);
  expect(status).toBe(201);
  return body.data as { id: string; pattern: string };
};
const settled = (owner: TestClient, id: string) =>
  until(async () => {
    const { data } = (await h.get(`/telephony/routes/${id}`, owner.auth)).body;
    return data.status !== "pending" && data;
  });
/** Inserts a route as an older version would have accepted it. */
async function older(owner: TestClient, pattern: string, rank: number): Promise<string> {
  const id = newId("route");
  await h.owner`insert into inbound_routes (client_id, id, pattern, agent_id, rank, provider_account_id, updated_at)
    values (${owner.clientId}, ${id}, ${pattern}, ${owner.agentId}, ${rank}, 'pacc_platform', date_trunc('milliseconds', now()))`;
  return id;
}

type Allowed = { agentId: string; toUserPattern: string };
async function allowed(): Promise<Allowed[]> {
  const response = await fetch(`${h.simulator.url}/api/sip`, { headers: { "x-api-key": h.env.ULTRAVOX_API_KEY } });
  return ((await response.json()) as { allowedAgents: Allowed[] }).allowedAgents;
}
/** The agent that the provider would choose: the first rule that matches, in order. */
const answererOf = async (called: string) =>
  (await allowed()).find(({ toUserPattern }) => new RegExp(toUserPattern).test(called))?.agentId;

describe("on a shared account", () => {
  test("a pattern must not overlap with a number of another client: without the plus sign, wider, or narrower", async () => {
    const [ada, bob] = [await client(), await client()];
    const number = await createRoute(ada, "+493012345678", { rank: 10 });
    await createRoute(ada, "reception*");
    const fits = ["493012345678", "+493012345678", "+4930*", "4930*", "+493012345678*", "reception", "rec*"];
    for (const pattern of [...fits, "reception-2*"]) {
      const { status, body } = await post(bob, pattern);
      expect(status, pattern).toBe(409);
      expect(body.error).toMatchObject({ code: "inbound_route_taken", details: [{ path: "pattern" }] });
      for (const secret of [ada.clientId, ada.agentId, number.id]) expect(JSON.stringify(body)).not.toContain(secret);
    }
    const free = await createRoute(bob, "+49301234567");
    for (const pattern of ["493012345678", "+4930123*"]) {
      const { status, body } = await h.patch(`/telephony/routes/${free.id}`, { pattern }, bob.auth);
      expect([status, body.error.code, body.error.details[0].path]).toEqual([409, "inbound_route_taken", "pattern"]);
    }
    expect(await settled(ada, number.id)).toMatchObject({ status: "live" });
    expect(await settled(bob, free.id)).toMatchObject({ status: "live" });
    expect(await answererOf("493012345678")).toBe(ada.upstream);
    expect(await answererOf("+49301234567")).toBe(bob.upstream);
  });

  test("of two concurrent assignments of the same number, one succeeds", async () => {
    const [ada, bob] = [await client(), await client()];
    const operator = { key: await h.operator() };
    const wanted = (clientId: string, pattern: string) => h.post("/admin/numbers", { clientId, pattern }, operator);
    for (let n = 0; n < 5; n++) {
      const answers = await Promise.all([wanted(ada.clientId, `+4940${n}12345`), wanted(bob.clientId, `4940${n}*`)]);
      expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409]);
    }
  });

  test("a pattern that is too wide is refused, and the error states the limit", async () => {
    const ada = await client();
    for (const pattern of ["1*", "+4*", "493*", "a*", "re*"]) {
      const { status, body } = await post(ada, pattern);
      expect([pattern, status, body.error?.code]).toEqual([pattern, 400, "input_invalid"]);
      expect(body.error.details[0]).toMatchObject({ path: "pattern", message: expect.stringMatching(/at least/) });
    }
  });

  test("an unassigned number can be requested by every client; the route waits and does not block others", async () => {
    const [ada, bob] = [await client(), await client()];
    for (let n = 1; n <= 9; n++) {
      const { status, body } = await post(ada, `+${n}123*`, { enabled: false });
      expect([status, body.data.status]).toEqual([201, "waiting"]);
    }
    expect((await post(ada, "+4930*")).body.data.status).toBe("waiting");
    const requested = (await post(bob, "+493012345678")).body.data;
    expect(requested).toMatchObject({ status: "waiting", statusReason: expect.stringMatching(/Ask the operator/) });
    const number = await assign(h, bob.clientId, "+493012345678");
    await until(async () => (await settled(bob, requested.id)).status === "live");
    expect(await answererOf("+493012345678")).toBe(bob.upstream);
    expect(number.clientId).toBe(bob.clientId);
    expect((await h.get("/telephony/config", bob.auth)).body.data.numbers).toEqual([
      { pattern: "+493012345678", maxRoutes: 5 },
    ]);
    expect((await h.get("/telephony/config", ada.auth)).body.data.numbers).toEqual([]);
  });

  test("an operator's idempotency key for one client is not that for another", async () => {
    const operator = { key: await h.operator(), idempotencyKey: "assign-number" };
    for (const [n, { clientId }] of [await client(), await client()].entries()) {
      const assigned = await h.post("/admin/numbers", { clientId, pattern: `+49306660${n}` }, operator);
      expect(assigned).toMatchObject({ status: 201, body: { data: { clientId } } });
    }
  });

  test("an operator lists numbers and requests, reassigns a number and releases it", async () => {
    const [ada, bob] = [await client(), await client()];
    const operator = { key: await h.operator() };
    const adas = await createRoute(ada, "+4930555");
    const bobs = (await post(bob, "+4930777")).body.data;
    const waiting = await h.get("/admin/routes?status=waiting", operator);
    expect(waiting.body.data).toMatchObject([{ id: bobs.id, clientId: bob.clientId, pattern: "+4930777" }]);
    const [number] = (await h.get("/admin/numbers?pattern=%2B4930", operator)).body.data;
    expect(number).toMatchObject({ clientId: ada.clientId, pattern: "+4930555", assignedBy: expect.any(String) });
    const taken = await h.post("/admin/numbers", { clientId: bob.clientId, pattern: "+4930*" }, operator);
    expect(taken).toMatchObject({ status: 409, body: { error: { code: "number_taken" } } });
    expect(taken.body.error.details[0].message).toContain(ada.clientId);
    const given = await h.patch(`/admin/numbers/${number.id}`, { clientId: bob.clientId }, operator);
    expect(given.body.data).toMatchObject({ id: number.id, clientId: bob.clientId });
    await until(async () => (await settled(ada, adas.id)).status === "waiting");
    expect(await answererOf("+4930555")).toBeUndefined();
    expect((await post(bob, "+4930555")).status).toBe(201);
    await until(async () => (await answererOf("+4930555")) === bob.upstream);
    expect((await h.remove(`/admin/numbers/${number.id}`, operator)).status).toBe(204);
    await until(async () => (await answererOf("+4930555")) === undefined);
    expect((await h.remove(`/admin/numbers/${number.id}`, operator)).status).toBe(404);
    for (const path of ["/admin/numbers", "/admin/routes"]) expect((await h.get(path, ada.auth)).status).toBe(403);
  });

  test("the operator limits the routes per number, and a client has at most a hundred routes", async () => {
    const ada = await client();
    await assign(h, ada.clientId, "+4930*", { maxRoutes: 2 });
    const routes: { id: string }[] = [];
    for (let n = 0; n < 3; n++) routes.push((await post(ada, `+4930${n}`, { rank: n })).body.data);
    await until(async () => (await settled(ada, routes[2]!.id)).status === "failed");
    expect((await settled(ada, routes[2]!.id)).statusReason).toMatch(/^At most 2 routes/);
    await h.owner`insert into inbound_routes (client_id, id, pattern, agent_id, provider_account_id)
      select ${ada.clientId}, 'route_filler' || n, '+4999' || n, ${ada.agentId}, 'pacc_platform' from generate_series(1, 97) n`;
    const { status, body } = await post(ada, "+4930123");
    expect([status, body.error.code]).toEqual([409, "inbound_route_limit_reached"]);
  });

  test("a number with and without its plus sign is the same number", async () => {
    const ada = await client();
    expect(await createRoute(ada, "493012345678")).toMatchObject({ pattern: "+493012345678" });
    const again = await post(ada, "+493012345678");
    expect([again.status, again.body.error.code]).toEqual([409, "inbound_route_taken"]);
    expect(await createRoute(ada, "reception")).toMatchObject({ pattern: "reception" });
  });

  test("routes of one client may overlap: the lowest rank answers, then the narrower pattern", async () => {
    const ada = await client();
    const second = { ...ada, agentId: await makeAgent(h, {}, ada.auth.key) };
    const [row] = await h.owner`select provider_agent_id from agents where id = ${second.agentId}`;
    const wide = await createRoute(ada, "+4930*", { rank: 1 });
    const narrow = await createRoute(second, "+4930", { rank: 1 });
    await settled(ada, wide.id);
    await settled(ada, narrow.id);
    expect(await answererOf("+4930")).toBe(row!.provider_agent_id);
    await h.patch(`/telephony/routes/${wide.id}`, { rank: 0 }, ada.auth);
    await settled(ada, wide.id);
    expect(await answererOf("+4930")).toBe(ada.upstream);
  });

  test("of routes created before assignments, only those within an assigned number response", async () => {
    const [ada, bob] = [await client(), await client()];
    const earlier = await older(ada, "+493012345678", 10);
    const wider = await older(bob, "+4930*", 0);
    const bare = await older(bob, "493012345678", 0);
    const number = await assign(h, ada.clientId, "+493012345678");
    const other = await createRoute(bob, "+4989");
    expect(await settled(bob, other.id)).toMatchObject({ status: "live" });
    expect(await settled(ada, earlier)).toMatchObject({ status: "live" });
    for (const id of [wider, bare]) {
      const { status, statusReason } = await settled(bob, id);
      expect({ status, statusReason }).toEqual({
        status: "waiting",
        statusReason: expect.stringMatching(/not assigned/),
      });
    }
    expect(await answererOf("493012345678")).toBe(ada.upstream);
    // A disabled route keeps its number; a released number can be assigned to another client.
    await h.patch(`/telephony/routes/${earlier}`, { enabled: false }, ada.auth);
    await until(async () => (await settled(ada, earlier)).status === "failed");
    expect(await answererOf("+493012345678")).toBeUndefined();
    await h.remove(`/admin/numbers/${number.id}`, { key: await h.operator() });
    await assign(h, bob.clientId, "+4930*");
    await until(async () => (await settled(bob, wider)).status === "live");
    expect(await answererOf("+493012345678")).toBe(bob.upstream);
  });

  test("a rank never takes the place of another client's route", async () => {
    const [ada, bob] = [await client(), await client()];
    const first = await createRoute(ada, "+4930", { rank: 1000 });
    await settled(ada, first.id);
    await assign(h, bob.clientId, "+4940*", { maxRoutes: 20 });
    const many = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        post(bob, `+4940${100 + n}`, { rank: n }).then(({ body }) => body.data as { id: string }),
      ),
    );
    // Within a client, the rank decides.
    await until(async () => {
      const statuses = await Promise.all(many.map(({ id }) => settled(bob, id)));
      return statuses.every(({ status, rank }) => (status === "failed") === (rank === 19));
    });
    expect(await settled(ada, first.id)).toMatchObject({ status: "live" });
    expect(await answererOf("+4930")).toBe(ada.upstream);
  });
});

test("the routes of a suspended client stop answering, and response again after it is resumed", async () => {
  const [ada, bob] = [await client(), await client()];
  const adas = await createRoute(ada, "+4930");
  const bobs = await createRoute(bob, "+4940");
  await settled(ada, adas.id);
  await settled(bob, bobs.id);
  const operator = { key: await h.operator() };
  await h.post(`/admin/clients/${ada.clientId}/suspend`, { reason: "The invoice is open." }, operator);
  await until(async () => (await answererOf("+4930")) === undefined);
  await until(async () => {
    const [row] = await h.owner`select status, status_reason from inbound_routes where id = ${adas.id}`;
    return row!.status === "failed" && /suspended/.test(row!.status_reason);
  });
  expect(await answererOf("+4940")).toBe(bob.upstream);
  expect((await post(bob, "+4930*")).status).toBe(409); // the client keeps its number
  await h.post(`/admin/clients/${ada.clientId}/resume`, {}, operator);
  await until(async () => (await answererOf("+4930")) === ada.upstream);
  await until(async () => (await settled(ada, adas.id)).status === "live");
});

describe("of two concurrent syncs", () => {
  const { ultravox } = h.deps.providers;
  const { updateSip } = ultravox;

  /** Blocks the first sync after it has read its routes, until it is released. */
  function gate() {
    const reached = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    let isFirst = true;
    ultravox.updateSip = async (...args) => {
      if (isFirst) {
        isFirst = false;
        reached.resolve();
        await opened.promise;
      }
      return updateSip(...args);
    };
    return { reached: reached.promise, open: () => opened.resolve() };
  }
  afterEach(() => {
    ultravox.updateSip = updateSip;
  });
  const nobodyTells = () =>
    until(async () => {
      const left = await h.owner`select from graphile_worker._private_jobs j
        join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier = 'telephony.sync'`;
      return left.length === 0;
    });

  test("the one that read first and writes last does not restore old routes", async () => {
    const ada = await client();
    await nobodyTells();
    const held = gate();
    const removed = await createRoute(ada, "+4930111");
    await held.reached;
    await h.remove(`/telephony/routes/${removed.id}`, ada.auth);
    const present = await createRoute(ada, "+4930222");
    expect(await settled(ada, present.id)).toMatchObject({ status: "live" });
    held.open();
    await nobodyTells();
    expect(await answererOf("+4930111")).toBeUndefined();
    expect(await answererOf("+4930222")).toBe(ada.upstream);
    expect(await settled(ada, present.id)).toMatchObject({ status: "live" });
  });

  test("also when the response to the first request was lost", async () => {
    const ada = await client();
    await nobodyTells();
    const held = gate();
    const passing = ultravox.updateSip;
    let isFirst = true;
    ultravox.updateSip = async (...args) => {
      const isLost = isFirst;
      isFirst = false;
      const response = await passing(...args);
      if (isLost) throw new ProviderError("unknown", "The connection was lost.");
      return response;
    };
    const removed = await createRoute(ada, "+4930111");
    await held.reached;
    await h.remove(`/telephony/routes/${removed.id}`, ada.auth);
    const present = await createRoute(ada, "+4930222");
    await settled(ada, present.id);
    held.open();
    await nobodyTells();
    expect(await answererOf("+4930111")).toBeUndefined();
    expect(await answererOf("+4930222")).toBe(ada.upstream);
  });
});
