import { sql } from "drizzle-orm";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { oldestDueSeconds } from "../../routers/admin/deliveries/backlog.ts";
import { listDeliveryClients } from "../../routers/admin/deliveries/clients.ts";
import { listDeliveryEndpoints } from "../../routers/admin/deliveries/endpoints.ts";
import { getDeliveryOverview } from "../../routers/admin/deliveries/service.ts";
import { startTestApp, type TestResponse, until } from "../support/app.ts";
import { addAttempts, addDeliveries, addEndpoint } from "../support/dispatch.ts";

const h = await startTestApp();
let operator: { key: string };
const [ada, bob] = [h.ada.clientId, h.bob.clientId];

const get = async (path: string) => (await h.get(path, operator)).body;
const overview = async () => (await get("/admin/deliveries")).data;
const failed = ({ status, body }: TestResponse) => ({ status, code: body.error?.code });
const put = (scope: string, reason = "The receiver moves.") =>
  h.send("PUT", `/admin/deliveries/pauses/${scope}`, { reason }, operator);
/** Not "down", which it also returns when the database is only slow. */
const health = () =>
  until(async () => {
    const answer = await h.get("/health");
    return answer.status === 200 && answer;
  });
const resume = (scope: string) => h.remove(`/admin/deliveries/pauses/${scope}`, operator);

beforeAll(async () => {
  operator = { key: await h.operator() };
});

beforeEach(async () => {
  await h.owner`delete from delivery_pauses`;
  await h.owner`delete from deliveries`;
  await h.owner`delete from delivery_attempts`;
  await h.owner`delete from webhook_endpoints`;
  await h.owner`update clients set status = 'active'`;
});

describe("the overview", () => {
  test("is empty when nothing is due", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addDeliveries(h.owner, ada, endpoint, { status: "delivered" });
    await addDeliveries(h.owner, ada, endpoint, { dueSecondsAgo: -600, count: 3 });
    expect(await overview()).toMatchObject({
      oldestDueSeconds: 0,
      waiting: { pending: 3, due: 0, oldestDueSeconds: 0, capped: false },
      inFlight: { pending: 0, due: 0 },
      oldestEndpoints: [],
      pauses: 0,
    });
  });

  test("includes all due deliveries by cause: throttled, paused, in flight", async () => {
    const [throttled, paused, flying] = [
      await addEndpoint(h.owner, ada, { ratePerSecond: 1 }),
      await addEndpoint(h.owner, ada),
      await addEndpoint(h.owner, bob),
    ];
    await addDeliveries(h.owner, ada, throttled, { count: 7, dueSecondsAgo: 400 });
    await addDeliveries(h.owner, ada, throttled, { count: 2, dueSecondsAgo: -600 });
    await addDeliveries(h.owner, bob, flying, { count: 3, dueSecondsAgo: 100, inFlight: true });
    await addDeliveries(h.owner, bob, flying, { count: 1, dueSecondsAgo: -600, inFlight: true });
    const before = await overview();
    expect(before).toMatchObject({
      waiting: { pending: 9, due: 7 },
      inFlight: { pending: 4, due: 3 },
      paused: { pending: 0 },
    });
    expect(before.oldestDueSeconds).toBeGreaterThanOrEqual(400);
    expect(before.waiting.oldestDueSeconds).toBe(before.oldestDueSeconds);

    await addDeliveries(h.owner, ada, paused, { count: 5, dueSecondsAgo: 900 });
    expect((await put(paused)).status).toBe(200);
    const after = await overview();
    expect(after).toMatchObject({ waiting: { due: 7 }, paused: { pending: 5, due: 5 }, pauses: 1 });
    expect(after.oldestDueSeconds).toBeGreaterThanOrEqual(900);
    expect(after.oldestEndpoints.map(({ endpointId, cause }: Record<string, string>) => [endpointId, cause])).toEqual([
      [paused, "paused"],
      [throttled, "waiting"],
      [flying, "in_flight"],
    ]);
    await put("all");
    expect(await overview()).toMatchObject({ waiting: { pending: 0 }, paused: { pending: 14, due: 12 }, pauses: 2 });
  });

  test("counts deliveries of suspended clients separately, without an alert", async () => {
    const endpoint = await addEndpoint(h.owner, bob);
    await addDeliveries(h.owner, bob, endpoint, { count: 2, dueSecondsAgo: 5000 });
    await addDeliveries(h.owner, bob, endpoint, { dueSecondsAgo: 5000, inFlight: true });
    await h.owner`update clients set status = 'suspended' where id = ${bob}`;
    const seen = await overview();
    expect(seen).toMatchObject({ oldestDueSeconds: 0, suspended: { pending: 2, due: 2 }, inFlight: { pending: 1 } });
    expect(seen.suspended.oldestDueSeconds).toBeGreaterThanOrEqual(5000);
    expect((await health()).body).toMatchObject({ status: "ok", oldestDueDeliverySeconds: 0 });
  });

  test("counts attempts, dead deliveries and disabled endpoints, each within its time window", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addAttempts(h.owner, ada, endpoint, { count: 5, minutesAgo: 1, status: 200 });
    await addAttempts(h.owner, ada, endpoint, { count: 2, minutesAgo: 2, status: null });
    await addAttempts(h.owner, bob, endpoint, { count: 3, minutesAgo: 20, status: 500 });
    await addAttempts(h.owner, bob, endpoint, { count: 4, minutesAgo: 20, status: 204 });
    await addAttempts(h.owner, bob, endpoint, { count: 4, minutesAgo: 70, status: 302 });
    await addDeliveries(h.owner, ada, endpoint, { status: "dead", count: 2, finishedMinutesAgo: 1430 });
    await addDeliveries(h.owner, ada, endpoint, { status: "dead", count: 4, finishedMinutesAgo: 1450 });
    await addEndpoint(h.owner, ada, { status: "disabled", code: "days", disabledHoursAgo: 100 });
    await addEndpoint(h.owner, ada, { status: "disabled", code: "days", disabledHoursAgo: 200 });
    await addEndpoint(h.owner, ada, { status: "disabled", code: "request", disabledHoursAgo: 1 });
    expect(await overview()).toMatchObject({
      lastFiveMinutes: { attempts: 7, failures: 2, capped: false },
      lastHour: { attempts: 14, failures: 5 },
      dead: { last24Hours: 2, capped: false },
      endpointsDisabledLast7Days: 1,
    });
  });

  test("includes the lag of the queue", async () => {
    await h.owner`select graphile_worker.add_job('calls.sweep', '{}', run_at => now() - interval '10 minutes')`;
    expect((await overview()).queueLagSeconds).toBeGreaterThanOrEqual(600);
    await h.owner`delete from graphile_worker._private_jobs`;
    expect((await overview()).queueLagSeconds).toBe(0);
  });
});

describe("the list of clients", () => {
  test("has the numbers of each client, within the requested window", async () => {
    const well = await addEndpoint(h.owner, ada);
    const failing = await addEndpoint(h.owner, ada, { failures: 3 });
    await addEndpoint(h.owner, ada, { status: "disabled" });
    await addDeliveries(h.owner, ada, well, { count: 4, dueSecondsAgo: 60 });
    await addDeliveries(h.owner, ada, failing, { count: 2, dueSecondsAgo: 240, inFlight: true });
    await addDeliveries(h.owner, ada, failing, { count: 3, dueSecondsAgo: -100 });
    await addDeliveries(h.owner, ada, failing, { status: "dead", count: 2, finishedMinutesAgo: 30 });
    await addAttempts(h.owner, ada, failing, { count: 6, minutesAgo: 7, status: 500 });
    await addAttempts(h.owner, ada, well, { count: 5, minutesAgo: 3, status: 200 });
    await addDeliveries(h.owner, bob, await addEndpoint(h.owner, bob), { dueSecondsAgo: 10 });
    const all = await get("/admin/deliveries/clients");
    const [adas, bobs] = [ada, bob].map((id) => all.data.find((row: { clientId: string }) => row.clientId === id));
    expect(adas).toMatchObject({
      name: "Ada",
      status: "active",
      ...{ pending: 9, due: 6, inFlight: 2, attempts: 11, failures: 6, dead: 2, capped: false },
      endpoints: { enabled: 2, failing: 1, disabled: 1 },
    });
    expect(adas.oldestDueSeconds).toBeGreaterThanOrEqual(240);
    expect(bobs).toMatchObject({ pending: 1, due: 1, inFlight: 0, attempts: 0, dead: 0 });
    const few = await get("/admin/deliveries/clients?windowMinutes=5");
    expect(few.data.find((row: { clientId: string }) => row.clientId === ada)).toMatchObject({
      ...{ attempts: 5, failures: 0, dead: 0, pending: 9 },
    });
  });

  test("can be filtered by failing", async () => {
    await addEndpoint(h.owner, ada, { failures: 1 });
    await addEndpoint(h.owner, bob, { failures: 0 });
    const ids = async (query: string) =>
      (await get(`/admin/deliveries/clients?${query}`)).data.map((row: { clientId: string }) => row.clientId);
    expect(await ids("failing=true")).toEqual([ada]);
    expect(await ids("failing=false")).toEqual([bob]);
  });

  test("continues where the previous page ended", async () => {
    const first = await get("/admin/deliveries/clients?limit=1");
    expect(first).toMatchObject({ data: [{ clientId: bob }], meta: { hasMore: true } });
    const second = await get(`/admin/deliveries/clients?limit=1&cursor=${first.meta.nextCursor}`);
    expect(second).toMatchObject({ data: [{ clientId: ada }], meta: { hasMore: false } });
    const other = await h.get(`/admin/deliveries/clients?failing=true&cursor=${first.meta.nextCursor}`, operator);
    expect(failed(other)).toEqual({ status: 400, code: "cursor_invalid" });
  });
});

describe("the list of endpoints", () => {
  const ids = async (query = "") =>
    (await get(`/admin/deliveries/endpoints?limit=100&${query}`)).data.map((row: { id: string }) => row.id);

  test("shows the health of each, and only the host of its URL", async () => {
    const failing = await addEndpoint(h.owner, ada, { failures: 4, ratePerSecond: 20 });
    await addDeliveries(h.owner, ada, failing, { count: 3, dueSecondsAgo: 30 });
    await addDeliveries(h.owner, ada, failing, { count: 2, dueSecondsAgo: 90, inFlight: true });
    await addDeliveries(h.owner, ada, failing, { count: 5, dueSecondsAgo: -30 });
    const answer = await h.get("/admin/deliveries/endpoints", operator);
    expect(answer.body.data).toMatchObject([
      {
        ...{ id: failing, clientId: ada, host: "hooks.example.com", status: "enabled", disabledReason: null },
        ...{
          paused: false,
          consecutiveFailures: 4,
          failingSince: expect.stringMatching(/^20.*Z$/),
          lastSuccessAt: null,
        },
        ...{ pending: 10, due: 5, inFlight: 2, ratePerSecond: 20, capped: false },
      },
    ]);
    expect(answer.body.data[0].oldestDueSeconds).toBeGreaterThanOrEqual(90);
    expect(JSON.stringify(answer.body)).not.toContain("swordfish");
  });

  test("can be filtered by client and by health", async () => {
    const well = await addEndpoint(h.owner, ada);
    const failing = await addEndpoint(h.owner, ada, { failures: 1 });
    const disabled = await addEndpoint(h.owner, ada, { status: "disabled", failures: 100 });
    const bobs = await addEndpoint(h.owner, bob);
    const gone = await addEndpoint(h.owner, bob);
    await h.owner`update webhook_endpoints set deleted_at = now() where id = ${gone}`;
    expect(await ids()).toEqual([bobs, disabled, failing, well]);
    expect(await ids(`clientId=${ada}`)).toEqual([disabled, failing, well]);
    expect(await ids("health=failing")).toEqual([failing]);
    expect(await ids("health=disabled")).toEqual([disabled]);
    expect(await ids("health=paused")).toEqual([]);
    await put(well);
    expect(await ids("health=paused")).toEqual([well]);
    await put(bob);
    expect(await ids("health=paused")).toEqual([bobs, well]);
    await put("all");
    expect(await ids("health=paused")).toEqual([bobs, disabled, failing, well]);
    expect(await ids(`clientId=${newId("client")}`)).toEqual([]);
  });

  test("continues where the previous page ended, across clients", async () => {
    const wanted = [await addEndpoint(h.owner, bob), await addEndpoint(h.owner, ada), await addEndpoint(h.owner, ada)];
    const seen: string[] = [];
    let cursor = "";
    for (let page = 0; page < wanted.length; page++) {
      const { data, meta } = await get(`/admin/deliveries/endpoints?limit=1${cursor}`);
      seen.push(...data.map((row: { id: string }) => row.id));
      expect(meta.hasMore).toBe(page < wanted.length - 1);
      cursor = `&cursor=${meta.nextCursor}`;
    }
    expect(seen).toEqual([wanted[0], wanted[2], wanted[1]]);
  });
});

describe("a pause", () => {
  test("can be created for all, for a client or for an endpoint, and deleted", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addDeliveries(h.owner, ada, endpoint, { count: 2, inFlight: true });
    for (const scope of ["all", ada, endpoint]) {
      const made = await put(scope);
      expect(made).toMatchObject({
        status: 200,
        body: { data: { scope, reason: "The receiver moves.", inFlight: 2 } },
      });
      expect(made.body.data.pausedBy).toMatch(/^user_/);
    }
    expect(await put(bob)).toMatchObject({ body: { data: { inFlight: 0 } } });
    const { data } = await get("/admin/deliveries/pauses");
    expect(data.map(({ scope }: { scope: string }) => scope)).toEqual([endpoint, bob, ada, "all"]);
    const first = await get("/admin/deliveries/pauses?limit=1");
    expect(await get(`/admin/deliveries/pauses?limit=1&cursor=${first.meta.nextCursor}`)).toMatchObject({
      data: [{ scope: bob }],
    });
    for (const scope of ["all", ada, bob, endpoint]) expect((await resume(scope)).status).toBe(204);
    expect((await get("/admin/deliveries/pauses")).data).toEqual([]);
  });

  test("created again keeps its time and author, and takes the new reason", async () => {
    const first = (await put(ada, "The receiver is being moved.")).body.data;
    await h.owner`update delivery_pauses set paused_by = 'operator:cli' where scope = ${ada}`;
    const second = (await put(ada, "It takes longer.")).body.data;
    expect(second).toEqual({ ...first, reason: "It takes longer.", pausedBy: "operator:cli" });
  });

  test("of an unknown scope is refused, and so is one without a reason", async () => {
    const [client, endpoint] = [newId("client"), newId("endpoint")];
    const gone = await addEndpoint(h.owner, ada);
    await h.owner`update webhook_endpoints set deleted_at = now() where id = ${gone}`;
    expect(failed(await put(client))).toEqual({ status: 404, code: "client_not_found" });
    expect(failed(await put("client_00000000000000000000000000"))).toEqual({ status: 404, code: "client_not_found" });
    for (const scope of [endpoint, gone])
      expect(failed(await put(scope))).toEqual({ status: 404, code: "webhook_not_found" });
    for (const scope of ["all", ada, endpoint])
      expect(failed(await resume(scope))).toEqual({ status: 404, code: "delivery_pause_not_found" });
    expect(failed(await put("everything"))).toEqual({ status: 400, code: "input_invalid" });
    expect(failed(await put("all", "  "))).toEqual({ status: 400, code: "input_invalid" });
    expect(await h.owner`select from delivery_pauses`).toHaveLength(0);
  });

  test("is in the operator's audit log when created and deleted", async () => {
    await put(ada, "Audited.");
    await resume(ada);
    const rows = await h.owner`select action, actor, input from audit_log
      where client_id = 'client_00000000000000000000000000' and action like 'admin.deliveries.%' order by id desc limit 2`;
    expect(rows).toMatchObject([
      { action: "admin.deliveries.pauses.remove", actor: expect.stringMatching(/^user_/), input: { scope: ada } },
      { action: "admin.deliveries.pauses.set", input: { scope: ada, reason: "Audited." } },
    ]);
  });
});

test("health shows the oldest due delivery, including throttled and paused ones", async () => {
  const endpoint = await addEndpoint(h.owner, ada, { ratePerSecond: 1 });
  await addDeliveries(h.owner, ada, endpoint, { dueSecondsAgo: 200 });
  const well = (await health()).body;
  expect(well).toMatchObject({ status: "ok", oldestDueJobSeconds: 0 });
  expect(well.oldestDueDeliverySeconds).toBeGreaterThanOrEqual(200);
  await addDeliveries(h.owner, ada, endpoint, { dueSecondsAgo: 400 });
  await put(endpoint);
  const late = await health();
  expect(late).toMatchObject({ status: 200, body: { status: "degraded", oldestDueJobSeconds: 0 } });
  expect(late.body.oldestDueDeliverySeconds).toBeGreaterThanOrEqual(400);
});

type Plan = {
  "Node Type": string;
  "Relation Name"?: string;
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: Plan[];
};

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
const buffers = (plan: Plan) => plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
/** Partitions of future months are empty, so a full scan of them costs nothing. */
const readWhole = (plan: Plan) =>
  nodes(plan)
    .filter((node) => node["Node Type"] === "Seq Scan" && buffers(node) > 0)
    .map((node) => String(node["Relation Name"]))
    .filter((name) => /^(deliveries|delivery_attempts|webhook_endpoints)/.test(name));
/** Rows of the large tables that were read, including discarded ones. */
const rowsRead = (plan: Plan) =>
  nodes(plan)
    .filter((node) => /^(deliveries|delivery_attempts)/.test(node["Relation Name"] ?? ""))
    .reduce(
      (sum, node) => sum + (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)) * node["Actual Loops"],
      0,
    );

/** The plans of all statements that an operation sends. */
async function plansOf(work: (tx: Tx) => Promise<unknown>): Promise<Plan[]> {
  const plans: Plan[] = [];
  const spying = (tx: Tx) =>
    new Proxy(tx, {
      get(target, name) {
        if (name !== "execute") return Reflect.get(target, name, target);
        return async (statement: ReturnType<typeof sql>) => {
          const [row] = await target.execute(sql`explain (analyze, buffers, format json) ${statement}`);
          const told = row?.["QUERY PLAN"];
          plans.push((typeof told === "string" ? JSON.parse(told) : told)[0].Plan);
          return target.execute(statement);
        };
      },
    });
  await h.deps.db.asSystem((tx) => work(spying(tx)), { mode: "read" });
  return plans;
}

describe("over a large installation", () => {
  const key = { secret: Buffer.alloc(32), clientId: "", procedure: "", filters: {} };
  const page = { limit: 20, cursor: undefined };
  const now = new Date();
  const crowd = `client_${"400".padStart(26, "0")}`;
  let endpoints: string[] = [];
  const clients = { ...page, failing: undefined, windowMinutes: 60 };
  const asked: [string, (tx: Tx) => Promise<unknown>][] = [
    ["the overview", (tx) => getDeliveryOverview(tx, now)],
    ["health", (tx) => oldestDueSeconds(tx)],
    ["the clients", (tx) => listDeliveryClients(tx, clients, key, now)],
    ["the clients that fail", (tx) => listDeliveryClients(tx, { ...clients, failing: true }, key, now)],
    ["the endpoints", (tx) => listDeliveryEndpoints(tx, { ...page, clientId: undefined, health: undefined }, key)],
    ["a client's endpoints", (tx) => listDeliveryEndpoints(tx, { ...page, clientId: crowd, health: undefined }, key)],
    ...(["failing", "disabled", "paused"] as const).map((health): [string, (tx: Tx) => Promise<unknown>] => [
      `${health} endpoints`,
      (tx) => listDeliveryEndpoints(tx, { ...page, clientId: undefined, health }, key),
    ]),
  ];

  async function addHistory(perEndpoint: number) {
    for (const id of endpoints) {
      await addDeliveries(h.owner, crowd, id, { status: "delivered", count: perEndpoint });
      await addDeliveries(h.owner, crowd, id, { status: "dead", count: perEndpoint / 4, finishedMinutesAgo: 20_000 });
      await addAttempts(h.owner, crowd, id, { count: perEndpoint, minutesAgo: 300, status: 200 });
    }
    for (const table of ["deliveries", "delivery_attempts", "webhook_endpoints", "clients"])
      await h.owner`vacuum analyze ${h.owner(table)}`;
  }

  async function measure() {
    const costs: Record<string, number[]> = {};
    for (const [name, work] of asked) {
      const plans = await plansOf(work);
      expect([name, plans.length > 0, plans.flatMap(readWhole)]).toEqual([name, true, []]);
      // Each of the 656 pending ones is counted twice at most, and read for its due time.
      expect([name, plans.map(rowsRead).filter((rows) => rows > 2_500)]).toEqual([name, []]);
      costs[name] = plans.map(buffers);
    }
    return costs;
  }

  beforeEach(async () => {
    await h.owner`
      insert into clients (id, name) select 'client_' || lpad(n::text, 26, '0'), 'Crowd' from generate_series(1, 400) n
      on conflict do nothing`;
    await h.owner`
      insert into webhook_endpoints (client_id, id, url, event_types, secret)
      select 'client_' || lpad((n % 400 + 1)::text, 26, '0'), 'wh_' || lpad(n::text, 26, '0'), 'https://x.example', array['*'], '\\x00'
      from generate_series(1, 8000) n`;
    const rows = await h.owner`select id from webhook_endpoints where client_id = ${crowd} limit 8`;
    endpoints = rows.map(({ id }) => id);
    for (const id of endpoints) {
      await addDeliveries(h.owner, crowd, id, { count: 60, dueSecondsAgo: -3600 });
      await addDeliveries(h.owner, crowd, id, { count: 20, dueSecondsAgo: 20 });
      await addDeliveries(h.owner, crowd, id, { count: 2, dueSecondsAgo: 20, inFlight: true });
    }
    await put(endpoints[0]!);
  }, 60_000);

  test("old rows cost nothing: no statement scans a large table, or reads more rows than it returns", async () => {
    await addHistory(1_000);
    const before = await measure();
    await addHistory(8_000);
    const after = await measure();
    const dearer = Object.entries(after).flatMap(([name, costs]) =>
      costs.map((cost, index) => ({ name, cost, before: before[name]![index]! })),
    );
    expect(dearer.filter(({ cost, before }) => cost > before * 1.25 + 60)).toEqual([]);
  }, 120_000);
});
