import { beforeAll, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { phone, startTestApp } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";
import { countingProxy } from "../support/round-trips.ts";

/*
 * A statement that waits for another one costs the time to the database and back, and every lock that is held meanwhile. So
 * the number of sequential round trips is promised, both transactions and their commits included.
 */

const proxies: Awaited<ReturnType<typeof countingProxy>>[] = [];
const h = await startTestApp({
  credits: 100_000,
  databaseUrl: async (url) => {
    const proxy = await countingProxy(new URL(url));
    proxies.push(proxy);
    return proxy.url;
  },
});
const agentId = await makeAgent(h);

beforeAll(() =>
  h.simulator.faults({ webhooks: { lose: ["call.started", "call.joined", "call.ended", "call.billed"] } }),
);

/** The most statements of a connection are prepared at their first use, which needs a further round trip: not counted. */
async function roundTripsOf(method: "post" | "patch", path: string, bodyOf: () => object): Promise<number> {
  const send = async () => {
    const { status, body } = await h[method](path, bodyOf(), { idempotencyKey: newId("request") });
    if (status >= 300) throw new Error(JSON.stringify(body));
  };
  for (let n = 0; n < 10; n++) await send();
  return proxies[0]!.leastOf(send);
}

const metadata = { orderId: "10248" };
let serial = 0;
const unique = () => `${++serial}`;

test("POST /calls needs at most six round trips, by web and by telephone", async () => {
  const web = { agentId, medium: { type: "web" }, metadata };
  expect(await roundTripsOf("post", "/calls", () => web)).toBeLessThanOrEqual(6);
  const telephone = { agentId, medium: phone("+14155550100"), metadata };
  expect(await roundTripsOf("post", "/calls", () => telephone)).toBeLessThanOrEqual(6);
});

test("POST /agents needs at most eight", async () => {
  const body = { name: "Reception", systemPrompt: "Greet the caller.", metadata };
  expect(await roundTripsOf("post", "/agents", () => body)).toBeLessThanOrEqual(8);
});

test("a changed agent needs at most twelve", async () => {
  const bodyOf = () => ({ systemPrompt: `Greet caller ${unique()}.` });
  expect(await roundTripsOf("patch", `/agents/${agentId}`, bodyOf)).toBeLessThanOrEqual(12);
});

test("POST /tools needs at most nine", async () => {
  const bodyOf = () => ({ name: `look_up_${unique()}`, description: "Looks up an order.", definition });
  const definition = { type: "client", parameters: [] };
  expect(await roundTripsOf("post", "/tools", bodyOf)).toBeLessThanOrEqual(9);
});
