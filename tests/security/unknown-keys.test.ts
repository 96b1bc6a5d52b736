import { createHmac, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Database, DatabaseBusy } from "../../db/client.ts";
import { authenticator } from "../../server/auth.ts";
import { openLog } from "../../server/log.ts";

const pepper = Buffer.alloc(32, 1);
const makeKey = () => `pb_live_${randomBytes(24).toString("base64url")}`;
const good = makeKey();
const facts = { keyId: "key_1", rootId: "key_1", clientId: "client_1", scopes: [] };

/** A database that knows one key, and counts its transactions: together, and at the same time. */
function openAuth() {
  const count = { transactions: 0, open: 0, mostOpen: 0 };
  const asSystem = async () => {
    count.transactions += 1;
    count.open += 1;
    count.mostOpen = Math.max(count.mostOpen, count.open);
    await sleep(2);
    count.open -= 1;
    return new Map([[createHmac("sha256", pepper).update(good).digest("hex"), facts]]);
  };
  const db = { asSystem, asClient: async () => {} } as unknown as Database;
  const verifyJwt = Object.assign(() => Promise.reject(new Error("no token is tried here")), { isKnown: () => false });
  const log = openLog("silent", { write: () => {} });
  const auth = authenticator({ db, log, verifyJwt, clientsClaim: "https://x.test/clients", pepper });
  return { count, ask: async (key: string) => auth.authenticate(`Bearer ${key}`) };
}

/** The codes of the refusals, and how many there were of each. */
async function flood(ask: (key: string) => Promise<unknown>, requests: number) {
  const codes = await Promise.all(
    Array.from({ length: requests }, () =>
      ask(makeKey()).then(
        () => "none",
        (error) => error.errorCode ?? error.name,
      ),
    ),
  );
  return Map.groupBy(codes, (code) => code);
}

test("a flood of unknown API keys uses one connection of the database, and is refused at the same time beyond a bound", async () => {
  const { count, ask } = openAuth();
  const refused = await flood(ask, 500);
  expect([...refused.keys()]).toEqual(["unauthenticated"]);
  expect(count.mostOpen).toBe(1);
  expect(count.transactions).toBeLessThan(100);
  expect((await flood(ask, 6_000)).get(DatabaseBusy.name)?.length).toBe(3_999);
  expect(count.mostOpen).toBe(1);
}, 30_000);

test("a good API key does not wait for unknown ones, and stays in memory however many are tried", async () => {
  const { count, ask } = openAuth();
  expect(await ask(good)).toMatchObject({ kind: "key", keyId: "key_1" });
  const flooding = flood(ask, 1_900);
  await sleep(200);
  const { transactions } = count;
  expect(await ask(good)).toMatchObject({ kind: "key", keyId: "key_1" });
  expect(count.transactions).toBe(transactions);
  await flooding;
}, 30_000);
