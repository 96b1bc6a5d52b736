import { expect, test } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { phone, startTestApp } from "../support/app.ts";
import { callRow, expectSoundBooks, finished, makeAgent, storyOf } from "../support/calls.ts";

// A client gets a share of the connections: with more of them, more of its calls are in a transaction at the same moment.
const h = await startTestApp({ workers: true, speed: 100, env: { DATABASE_POOL_SIZE: "30" } });
/** 150 s at 9 credits a minute and 1.5 for the line. */
const costOfOne = 26.25;
const calls = 200;
const covered = 100;

async function clientFor(name: string) {
  const client = await seedClient(h.deps, { name, subject: `auth0|${name}`, credits: costOfOne * covered });
  return { ...client, agentId: await makeAgent(h, { recordingEnabled: false }, client.key) };
}

type Client = Awaited<ReturnType<typeof clientFor>>;

/** Sends calls at the same moment. Returns the ids of those that were placed; the others were not covered. */
async function placeAll({ key, agentId }: Client, to: string, count: number): Promise<string[]> {
  const place = () => h.post("/calls", { agentId, medium: phone(to) }, { key });
  const responses = await Promise.all(Array.from({ length: count }, place));
  const refused = responses.filter(({ status }) => status !== 201);
  for (const { status, body } of refused)
    expect({ status, code: body.error.code }).toEqual({ status: 402, code: "credits_insufficient" });
  return responses.flatMap(({ status, body }) => (status === 201 ? [body.data.id as string] : []));
}

test("of 200 calls at the same moment, a balance for 100 places exactly 100", { timeout: 240_000 }, async () => {
  const client = await clientFor("Storm");
  const placed = await placeAll(client, "+14155550014", calls);
  expect(placed).toHaveLength(covered);
  expect((await h.get("/billing/balance", { key: client.key })).body.data).toEqual({
    availableMicros: 0,
    heldMicros: covered * costOfOne * 1_000_000,
  });
  const [counted] = await h.owner`
    select (select count(*)::int from holds where client_id = ${client.clientId} and status = 'held') as holds,
      (select count(*)::int from calls where client_id = ${client.clientId}) as calls,
      (select count(*)::int from intents where client_id = ${client.clientId} and kind = 'calls.create') as intents`;
  expect(counted, "a refused call leaves nothing behind").toEqual({ holds: covered, calls: covered, intents: covered });
  await storyOf(h, client.clientId); // the credit events: 1..n without a gap
  await expectSoundBooks(h);
});

test("while earlier calls are settled, no credit is held or spent twice", { timeout: 240_000 }, async () => {
  const client = await clientFor("Tide");
  const first = await placeAll(client, "+14155550014", covered / 2);
  expect(first).toHaveLength(covered / 2);
  const upstream = await Promise.all(first.map(async (id) => (await callRow(h, id)).provider_call_id!));
  const [placed] = await Promise.all([
    placeAll(client, "+14155550014", calls),
    ...upstream.map((id) => h.simulator.control(`calls/${id}/end`)),
  ]);
  expect(placed.length).toBeGreaterThanOrEqual(covered / 2);
  expect(placed.length).toBeLessThanOrEqual(covered);
  for (const id of first) await finished(h, id, 60);
  const { body } = await h.get("/billing/balance", { key: client.key });
  const { availableMicros, heldMicros } = body.data;
  const [spent] = await h.owner`
    select sum(cost_micros)::float8 as micros from calls where client_id = ${client.clientId} and cost_micros is not null`;
  expect(availableMicros).toBeGreaterThanOrEqual(0);
  expect(availableMicros + heldMicros + spent!.micros).toBe(covered * costOfOne * 1_000_000);
  await storyOf(h, client.clientId);
  await expectSoundBooks(h);
});
