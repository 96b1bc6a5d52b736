import { afterAll, expect, test } from "vitest";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import { phone, agent as someAgent, startTestApp, until } from "../support/app.ts";
import { openReceiver } from "../support/receiver.ts";

const slots = 40;
const h = await startTestApp({
  workers: true,
  env: { WORKER_PROMPT_JOBS: "20", WORKER_DELIVERY_JOBS: String(slots), WORKER_SLOW_JOBS: "6" },
});
const receiver = await openReceiver();
afterAll(() => receiver.close());

const noisy = await Promise.all(
  ["Nora", "Nils"].map((name) => seedClient(h.deps, { name, subject: `auth0|${name}`, credits: 0 })),
);

/** Emits the given number of events for a client. */
async function happen({ clientId }: SeededClient, times: number) {
  for (let n = 0; n < times; n++) {
    const id = newId("agent");
    await h.deps.db.asClient({ clientId }, (tx) =>
      emit(tx, "agent.created", id, { id, name: `Agent ${n}`, status: "active", version: 1 }),
    );
  }
}

async function addEndpoints(who: SeededClient, count: number, name: string) {
  for (let n = 0; n < count; n++) {
    const made = await h.post("/webhooks", { url: `${receiver.url}/${name}/${n}` }, { key: who.key });
    expect(made.status).toBe(201);
  }
}

const inFlight = async () => {
  const rows = await h.owner<{ client_id: string; n: number; slow: number }[]>`
    select client_id, count(*)::int as n, count(*) filter (where slow)::int as slow
    from deliveries where status = 'pending' and admitted_until is not null group by 1`;
  const of = (who: SeededClient) => rows.find(({ client_id }) => client_id === who.clientId)?.n ?? 0;
  return {
    of,
    all: rows.reduce((sum, { n }) => sum + n, 0),
    slow: rows.reduce((sum, { slow }) => sum + slow, 0),
  };
};

const waiting = new Set<() => void>();
const hold = (name: string, ms: number) => {
  for (let n = 0; n < 10; n++)
    receiver.answer(`/${name}/${n}`, (response) => {
      const end = () => {
        clearTimeout(timer);
        waiting.delete(end);
        response.end("late");
      };
      const timer = setTimeout(end, ms);
      waiting.add(end);
    });
};

test("two clients whose receivers take 14 s delay neither other clients' webhooks nor any bill", async () => {
  for (const [index, who] of noisy.entries()) {
    hold(`noisy${index}`, 14_000);
    await addEndpoints(who, 10, `noisy${index}`);
  }
  await addEndpoints(h.bob, 1, "quiet");
  await Promise.all(noisy.map((who) => happen(who, 15)));
  await until(async () => {
    const held = await inFlight();
    return noisy.every((who) => held.of(who) >= slots / 5);
  });
  const held = await inFlight();
  for (const who of noisy) expect(held.of(who), "a client has at most a quarter").toBeLessThanOrEqual(slots / 4);
  expect(held.all).toBeLessThan(slots);

  const began = performance.now();
  await happen(h.bob, 1);
  await until(async () => receiver.at("/quiet/0").length === 1, 5);
  expect(performance.now() - began, "the quiet client's first delivery").toBeLessThan(5_000);

  // A whole call with its bill, while the receivers still hang.
  const made = await h.post("/agents", someAgent, { key: h.bob.key });
  const call = await h.post(
    "/calls",
    { agentId: made.body.data.id, medium: phone("+14155550100") },
    { key: h.bob.key },
  );
  expect(call.status).toBe(201);
  const { id } = call.body.data;
  await until(async () =>
    receiver.at("/quiet/0").some(({ body }) => {
      const { type, subject } = JSON.parse(body);
      return type === "call.billed" && subject.id === id;
    }),
  );
  expect((await inFlight()).all, "they still hang").toBeGreaterThanOrEqual(slots / 4);
}, 90_000);

test("slow endpoints of all clients share half of the slots", async () => {
  for (const end of [...waiting]) end();
  await h.owner`update webhook_endpoints set slow_at = now() where client_id = any(${noisy.map(({ clientId }) => clientId)})`;
  const others = await Promise.all(
    ["Ole", "Oda", "Ove"].map((name) => seedClient(h.deps, { name, subject: `auth0|${name}`, credits: 0 })),
  );
  for (const [index, who] of others.entries()) {
    hold(`other${index}`, 14_000);
    await addEndpoints(who, 4, `other${index}`);
    await h.owner`update webhook_endpoints set slow_at = now() where client_id = ${who.clientId}`;
  }
  await h.owner`update deliveries set next_attempt_at = now() where status = 'pending' and admitted_until is null`;
  await Promise.all(others.map((who) => happen(who, 12)));
  await until(async () => {
    const held = await inFlight();
    return others.every((who) => held.of(who) > 0);
  }, 40);
  for (let looks = 0; looks < 20; looks++) {
    expect((await inFlight()).slow).toBeLessThanOrEqual(slots / 2);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  receiver.forget();
  await happen(h.bob, 1);
  await until(async () => receiver.at("/quiet/0").length === 1, 5);
}, 90_000);

test("a response after more than five seconds marks its endpoint as slow", async () => {
  for (const end of [...waiting]) end();
  const made = await h.post("/webhooks", { url: `${receiver.url}/slow/0` }, { key: h.ada.key });
  receiver.answer("/slow/0", (response) => void setTimeout(() => response.end("late"), 5_200));
  await happen(h.ada, 1);
  const [row] = await until(async () => {
    const rows =
      await h.owner`select slow_at from webhook_endpoints where id = ${made.body.data.id} and slow_at is not null`;
    return rows.length > 0 && rows;
  });
  expect(row!.slow_at).toBeInstanceOf(Date);
});

test("a hundred thousand due deliveries of a thousand clients delay neither a bill nor a new client's webhook", async () => {
  for (const end of [...waiting]) end();
  await h.owner`
    insert into clients (id, name) select 'client_many' || n, 'Many' from generate_series(1, 1000) n`;
  await h.owner`
    insert into webhook_endpoints (client_id, id, url, event_types, secret)
    select 'client_many' || n, 'wh_many' || n, ${`${receiver.url}/many`}, array['none'], '\\x00' from generate_series(1, 1000) n`;
  receiver.answer("/many", (response) => void setTimeout(() => response.end("ok"), 300));
  await h.owner`
    insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status, next_attempt_at)
    select 'client_many' || n, 'dlv_many' || n || '_' || k, 'wh_many' || n, 'evt_many' || n || '_' || k, 'call.ended', now(),
      'pending', now() - interval '1 minute' from generate_series(1, 1000) n, generate_series(1, 100) k`;
  await h.owner`analyze deliveries`;
  const queued = () => h.owner`select from graphile_worker._private_jobs j join graphile_worker._private_tasks t
    on t.id = j.task_id where t.identifier = 'webhooks.deliver'`;
  await until(async () => (await queued()).length > 0);
  receiver.forget();
  const began = performance.now();
  await happen(h.bob, 1);
  await until(async () => receiver.at("/quiet/0").length === 1, 20);
  expect((await queued()).length, "the queue holds no more than can be sent").toBeLessThanOrEqual(2 * slots);
  const agent = await h.post("/agents", someAgent, { key: h.ada.key });
  const call = await h.post(
    "/calls",
    { agentId: agent.body.data.id, medium: phone("+14155550100") },
    { key: h.ada.key },
  );
  const { id } = call.body.data;
  await until(async () => (await h.get(`/calls/${id}`)).body.data.costMicros !== null, 40);
  expect(performance.now() - began).toBeLessThan(60_000);
  // A deletion beside the workers could deadlock.
  await h.owner`insert into delivery_pauses (scope, reason, paused_by) values ('all', 'the test is over', 'test')`;
  await until(async () => (await inFlight()).all === 0);
  await h.owner`delete from deliveries where client_id like 'client_many%'`;
}, 120_000);
