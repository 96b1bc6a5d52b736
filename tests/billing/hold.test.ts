import { expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { fundsOf, holdCredits } from "../../routers/billing/ledger.ts";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp({ credits: 10 });
const { clientId } = h.ada;

async function balances() {
  const rows =
    await h.owner`select name, balance_micros::float8 as micros from ledger_accounts where client_id = ${clientId}`;
  const of = (account: string) => rows.find(({ name }) => name === account)?.micros ?? 0;
  return { available: of("available"), held: of("held") };
}

/** Holds credits; `beforeEnd` runs inside the transaction, after the check and before the commit. */
const hold = (amountMicros: number, beforeEnd: () => Promise<unknown> = async () => {}) =>
  h.deps.db.asClient({ clientId }, async (tx) => {
    await holdCredits(tx, newId("call"), amountMicros, await fundsOf(tx));
    await beforeEnd();
  });

const credits = 1_000_000;

test("a hold above the available credits is refused and writes nothing", async () => {
  const before = await balances();
  expect(before).toEqual({ available: 10 * credits, held: 0 });
  await expect(hold(10 * credits + 1)).rejects.toMatchObject({ status: 402 });
  expect(await balances()).toEqual(before);
  expect(await h.owner`select from holds where client_id = ${clientId}`).toEqual([]);
});

test("of two concurrent holds that exceed the available credits together, one is refused", async () => {
  const bothChecked = Promise.withResolvers<void>();
  let checked = 0;
  const waitForBoth = async () => {
    if (++checked === 2) bothChecked.resolve();
    await bothChecked.promise;
  };
  const results = await Promise.allSettled([hold(6 * credits, waitForBoth), hold(6 * credits, waitForBoth)]);
  expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(await balances()).toEqual({ available: 4 * credits, held: 6 * credits });
});

test("a hold may take exactly what is available, and then nothing more", async () => {
  await hold(4 * credits);
  expect(await balances()).toEqual({ available: 0, held: 10 * credits });
  await expect(hold(1)).rejects.toMatchObject({ status: 402 });
});
