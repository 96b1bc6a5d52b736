import { expect, test } from "vitest";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp();

const emitFor = (id: string) =>
  h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) =>
    emit(tx, "agent.created", id, { id, name: "Sequence", status: "active", version: 1 }),
  );

/** The sequence numbers of a subject, as the API returns them, oldest first. */
async function sequencesOf(id: string): Promise<number[]> {
  const { data } = (await h.get(`/events?subjectId=${id}&limit=100`)).body;
  return data.map(({ subject }: { subject: { sequence: number } }) => subject.sequence).toReversed();
}

test("the sequence of a subject starts at one and grows by one", async () => {
  const [first, second] = [newId("agent"), newId("agent")];
  for (const id of [first, first, second, first]) await emitFor(id);
  expect(await sequencesOf(first)).toEqual([1, 2, 3]);
  expect(await sequencesOf(second)).toEqual([1]);
});

test("concurrent events of a subject have consecutive sequence numbers", async () => {
  const id = newId("agent");
  await Promise.all(Array.from({ length: 10 }, () => emitFor(id)));
  expect((await sequencesOf(id)).toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
