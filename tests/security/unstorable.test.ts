import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp({ env: { RATE_LIMIT_MULTIPLIER: "100" } });
const operator = await h.operator();

test("a token whose subject or claims the database cannot store does not return 500", async () => {
  for (const sub of ["auth0|a\u0000b", "auth0|\ud800", "x".repeat(3_000)]) {
    const key = await h.identity.token({ sub, clients: [h.ada.clientId] });
    for (const response of [await h.get("/agents", { key }), await h.query("agents.list", {}, { key })]) {
      expect(response.status).toBe(401);
    }
  }
  for (const name of ["a\u0000b", "\ud800", "n".repeat(3_000)]) {
    const key = await h.token(h.ada, { name, email: `${name}@example.com`, email_verified: true });
    expect((await h.get("/agents", { key })).status).toBe(200);
  }
});

test("a header, a path and a query that the database cannot store return 4xx, not 500", async () => {
  const statuses = [
    await h.get("/agents", { headers: { "x-client-id": "x".repeat(3_000) } }),
    await h.get("/agents/%00"),
    await h.get("/agents?search=%00"),
    await h.get("/agents?metadata=a:%00"),
    await h.get("/calls?search=%00abc"),
    await h.get("/agents?cursor=%00"),
    await h.get("/events?cursor=%ED%A0%80"),
    await h.get("/trpc/agents.list?connectionParams=%7B"),
    await h.get("/trpc/agents.list?connectionParams=%22a%22"),
    await h.get("/trpc/%00"),
    await h.get("/trpc/agents.get?input=%7B%22id%22%3A%22%5Cu0000%22%7D"),
    await h.get(`/trpc/events.stream?lastEventId=${encodeURIComponent("\u0000")}`),
  ].map(({ status }) => status);
  expect(statuses.filter((status) => status >= 500)).toEqual([]);
});

test("credits that would exceed safe integers are refused, and the balance stays readable", async () => {
  const give = () =>
    h.post(`/admin/clients/${h.bob.clientId}/credits`, { amountMicros: 1e15, reason: "much" }, { key: operator });
  const statuses: number[] = [];
  for (let n = 0; n < 10; n += 1) statuses.push((await give()).status);
  expect(statuses.filter((status) => status >= 500)).toEqual([]);
  expect(statuses).toContain(400);
  const { status, body } = await h.get("/billing/balance", { key: h.bob.key });
  expect(status).toBe(200);
  expect(body.data.availableMicros).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER);
});

test("a price whose bill for a day would not fit into a balance is refused", async () => {
  const set = (price: object) => h.post(`/admin/clients/${h.bob.clientId}/prices`, price, { key: operator });
  for (const name of ["callMicrosPerMinute", "telephoneMicrosPerMinute", "voiceCloneMicros"])
    expect(await set({ [name]: 1e15 })).toMatchObject({ status: 400, body: { error: { code: "input_invalid" } } });
});
