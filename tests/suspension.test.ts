import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { openWorkers } from "../server/workers.ts";
import { house, until } from "./house.ts";

const received: string[] = [];
const receiver = createServer((request, response) => {
  received.push(String(request.url));
  request.resume();
  response.writeHead(204).end();
});
await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
afterAll(() => receiver.close());
const h = await house();
const url = (path: string) => `http://127.0.0.1:${(receiver.address() as AddressInfo).port}${path}`;

test("the deliveries of a suspended client wait, with no attempt used up, while others' go out; resumed, they go too", async () => {
  for (const [who, path] of [
    [h.ada, "/ada"],
    [h.bob, "/bob"],
  ] as const) {
    await h.post("/webhooks", { url: url(path), eventTypes: ["api_key.*"] }, { key: who.key });
    await h.post("/auth/api-keys", { name: "said", scopes: ["agents:read"] }, { key: who.key });
  }
  const operator = { key: await h.operator() };
  await h.post(`/admin/clients/${h.ada.clientId}/suspend`, { reason: "The invoice is open." }, operator);

  const workers = await openWorkers(h.deps);
  try {
    await until(async () => received.includes("/bob"));
    const waiting = await until(async () => {
      const rows = await h.owner`select j.run_at > now() as later, j.payload->>'attempt' as attempt
        from graphile_worker._private_jobs j where j.payload->>'clientId' = ${h.ada.clientId}`;
      return rows.length > 0 && rows.every(({ later }) => later) && rows;
    });
    expect(waiting.map(({ attempt }) => attempt)).toEqual(waiting.map(() => "0"));
    expect(received).not.toContain("/ada");
    const [attempts] =
      await h.owner`select count(*)::int as n from delivery_attempts where client_id = ${h.ada.clientId}`;
    expect(attempts!.n).toBe(0);

    await h.post(`/admin/clients/${h.ada.clientId}/resume`, {}, operator);
    await until(async () => {
      await h.owner`update graphile_worker._private_jobs set run_at = now()
        where payload->>'clientId' = ${h.ada.clientId} and locked_at is null and run_at > now()`;
      const left = await h.owner`select from graphile_worker._private_jobs
        where payload->>'clientId' = ${h.ada.clientId}`;
      return received.includes("/ada") && left.length === 0;
    });
    expect(received.filter((path) => path === "/ada")).toHaveLength(1);
  } finally {
    await workers.stop();
  }
});
