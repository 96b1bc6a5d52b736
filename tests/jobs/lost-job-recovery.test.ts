import { afterEach, expect, test } from "vitest";
import { agent, phone, startTestApp, until } from "../support/app.ts";

const h = await startTestApp({ workers: true });
const { body: made } = await h.post("/agents", agent);
const agentId = made.data.id;
afterEach(() => h.simulator.faults({}));

/** What the crontab would queue, now. */
const runHouseJob = (name: string) =>
  h.owner`select graphile_worker.add_job(${name}, ${h.owner.json({ _cron: { ts: new Date().toISOString() } })}::json)`;
const statusOf = async (id: string) => (await h.get(`/calls/${id}`)).body.data;

test("an intent whose job was lost is found by the sweep, and settles", async () => {
  const lose = ["call.started", "call.joined", "call.ended", "call.billed"];
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, webhooks: { lose } });
  const placed = await h.post("/calls", { agentId, medium: phone("+14155550015") });
  expect(placed).toMatchObject({ status: 202, body: { data: { status: "unknown" } } });
  const { id } = placed.body.data;
  await h.owner`delete from graphile_worker._private_jobs where task_id in
    (select id from graphile_worker._private_tasks where identifier = 'intents.resolve')`;

  await runHouseJob("intents.sweep");
  await until(
    async () =>
      (await h.owner`select 1 from graphile_worker.jobs where task_identifier = 'intents.sweep'`).length === 0,
  );
  const [young] = await h.owner`
    select status, (select count(*)::int from graphile_worker.jobs where task_identifier = 'intents.resolve') as looking
    from intents where subject_id = ${id}`;
  expect(young, "its own job may still come").toEqual({ status: "open", looking: 0 });

  await h.owner`update intents set deadline_at = now() - interval '20 minutes' where subject_id = ${id}`;
  await runHouseJob("intents.sweep");
  await until(async () => (await statusOf(id)).status !== "unknown");
  expect((await h.owner`select status, outcome from intents where subject_id = ${id}`)[0]).toEqual({
    status: "settled",
    outcome: "accepted",
  });
});

test("a call that the provider no longer has is closed once it must be over, and its credits are released", async () => {
  const { body: before } = await h.get("/billing/balance");
  const placed = await h.post("/calls", { agentId, medium: phone("+14155550015") });
  const { id } = placed.body.data;
  await until(async () => (await statusOf(id)).status === "active");
  await h.simulator.control("reset");

  await h.owner`update calls set check_at = now(), checks = 3 where id = ${id}`;
  await runHouseJob("calls.sweep");
  await until(async () => (await h.owner`select 1 from calls where id = ${id} and checks > 3`).length === 1);
  expect(await statusOf(id), "it may go on for all we know").toMatchObject({ status: "active", costMicros: null });

  await h.owner`update calls set check_at = now(), created_at = created_at - interval '1 hour' where id = ${id}`;
  await runHouseJob("calls.sweep");
  const closed = await until(async () => {
    const call = await statusOf(id);
    return call.status === "ended" ? call : null;
  });
  expect(closed).toMatchObject({ outcome: "failed", endReason: "system_error", costMicros: 0, heldMicros: null });
  expect((await h.get("/billing/balance")).body.data).toEqual(before.data);
});
