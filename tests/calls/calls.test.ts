import { expect, test } from "vitest";
import { agent, phone, startTestApp, until } from "../support/app.ts";

const h = await startTestApp({ workers: true });

test("an answered call is held, billed and settled, and has a transcript", async () => {
  const { body: made } = await h.post("/agents", agent);
  expect(made.data).toMatchObject({ status: "active", version: 1, name: agent.name });
  const placed = await h.post("/calls", {
    agentId: made.data.id,
    medium: phone("+14155550014"), // rings until the test joins it
    metadata: { order: "1" },
  });
  expect(placed).toMatchObject({
    status: 201,
    body: { data: { metadata: { order: "1" }, outcome: null, costMicros: null } },
  });
  const id = placed.body.data.id;
  const [row] = await h.owner`select provider_call_id from calls where id = ${id}`;
  await h.simulator.control(`calls/${row!.provider_call_id}/join`);
  const done = await until(async () => {
    const { body } = await h.get(`/calls/${id}`);
    return body.data.outcomeFinal && body.data.costMicros !== null ? body.data : null;
  });
  expect(done).toMatchObject({ status: "ended", outcome: "completed", heldMicros: null });
  const transcript = await h.get(`/calls/${id}/transcript`);
  expect(transcript.body.data.messages.length).toBeGreaterThan(2);
  const { body: ledger } = await h.get(`/billing/ledger?subjectId=${id}`);
  expect(ledger.data.map(({ kind }: { kind: string }) => kind)).toEqual(["settlement", "hold"]);
  const { body: balance } = await h.get("/billing/balance");
  expect(balance.data).toEqual({ availableMicros: 1_000_000_000 - done.costMicros, heldMicros: 0 });
});
