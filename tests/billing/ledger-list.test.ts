import { expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { fundsOf, holdCredits } from "../../routers/billing/ledger.ts";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp({ credits: 10 });

const hold = async (amountMicros: number) => {
  const id = newId("call");
  await h.deps.db.asClient({ clientId: h.ada.clientId }, async (tx) => {
    await holdCredits(tx, id, amountMicros, await fundsOf(tx));
  });
  return id;
};

test("the ledger lists the newest transaction first, page by page, with entries that sum to zero", async () => {
  const held = [await hold(1), await hold(2), await hold(3)];
  const { body } = await h.get("/billing/ledger?limit=2");
  expect(body.data.map(({ subjectId }: { subjectId: string }) => subjectId)).toEqual([held[2], held[1]]);
  expect(body.meta.hasMore).toBe(true);
  for (const { entries } of body.data as { entries: { amountMicros: number }[] }[])
    expect(entries.reduce((sum, { amountMicros }) => sum + amountMicros, 0)).toBe(0);
  const rest = (await h.get(`/billing/ledger?cursor=${body.meta.nextCursor}`)).body;
  expect(rest.data[0].subjectId).toBe(held[0]);
  expect(rest.meta.hasMore).toBe(false);
});

test("by a subject it lists only its transactions; a subject without any, or of another client, is not found", async () => {
  const id = await hold(5);
  const { body } = await h.get(`/billing/ledger?subjectId=${id}`);
  expect(body.data.map(({ kind, subjectId }: Record<string, string>) => [kind, subjectId])).toEqual([["hold", id]]);
  for (const [subject, key] of [
    [newId("call"), h.ada.key],
    [id, h.bob.key],
  ] as const) {
    const { status, body } = await h.get(`/billing/ledger?subjectId=${subject}`, { key });
    expect([status, body.error.code]).toEqual([404, "resource_not_found"]);
  }
});
