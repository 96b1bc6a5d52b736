import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp();
const authorization = `Bearer ${h.ada.key}`;
const send = (method: string, path: string) => fetch(`${h.url}${path}`, { method, headers: { authorization } });

test("paths are case-sensitive: another case is 404", async () => {
  for (const path of [
    "/API/v1/agents",
    "/api/V1/agents",
    "/api/v1/Agents",
    "/ADMIN/clients",
    "/Health",
    "/TRPC/agents.list",
  ]) {
    const response = await send("GET", path);
    expect([path, response.status, ((await response.json()) as { error: { code: string } }).error.code]).toEqual([
      path,
      404,
      "route_not_found",
    ]);
  }
  expect((await send("GET", "/api/v1/agents")).status).toBe(200);
});

test.each(["OPTIONS", "PUT", "PATCH", "DELETE"])("%s on /trpc returns 405 with Allow", async (method) => {
  const response = await send(method, "/trpc/agents.list");
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET, HEAD, POST");
  expect(JSON.stringify(await response.json())).toContain("method_not_allowed");
});

test("a request with two different idempotency keys is refused with 400", async () => {
  const create = (headers: Record<string, string>) =>
    h.post("/webhooks", { url: "https://example.com/hook", eventTypes: ["call.*"] }, { headers });
  const refused = await create({ "idempotency-key": "a", "x-idempotency-key": "b" });
  expect(refused).toMatchObject({ status: 400, body: { error: { code: "header_invalid" } } });
  expect((await create({ "idempotency-key": "a", "x-idempotency-key": '"a"' })).status).toBe(201);
});
