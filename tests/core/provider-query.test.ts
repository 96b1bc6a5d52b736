import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp();
const secret = { secret: { apiKey: "sk_good_elevenlabs_key_123456" } };
const put = (idempotencyKey: string, body: object = secret) =>
  h.send("PUT", "/auth/providers/elevenlabs", body, { idempotencyKey });
const keyRow = async (key: string) => (await h.owner`select * from idempotency_keys where key = ${key}`)[0];

test("one key sends one request, however many use it at the same moment", async () => {
  const answers = await Promise.all(Array.from({ length: 6 }, () => put("at-once")));
  const statuses = answers.map(({ status }) => status);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(0);
  for (const { status, body } of answers) if (status !== 200) expect(body.error.code).toBe("idempotency_in_progress");
  const [audit] = await h.owner`select count(*)::int as n from audit_log where action = 'credentials.put'`;
  expect(audit!.n).toBe(1);
  const again = await put("at-once");
  expect(again.headers.get("idempotency-replayed")).toBe("true");
});

test("a key without a result is released immediately", async () => {
  const refused = await put("refused", { secret: { surprise: "x" } });
  expect(refused.status).toBe(400);
  expect(await keyRow("refused")).toBeUndefined();
  expect(await put("refused")).toMatchObject({ status: 200 });
});

test("a key whose holder died is held for a minute, and then runs again; another request with it is refused", async () => {
  await put("dead");
  const dying = async (lease: string) => {
    await h.owner`update idempotency_keys set status = 'running', answer = null, intent_id = null,
      lease_until = now() + ${lease}::interval where key = 'dead'`;
  };
  await dying("30 seconds");
  expect((await put("dead")).body.error).toMatchObject({ code: "idempotency_in_progress" });
  await dying("-1 second");
  const anew = await put("dead");
  expect(anew.status).toBe(200);
  expect(anew.headers.get("idempotency-replayed")).toBeNull();
  expect(await keyRow("dead")).toMatchObject({ status: "answered" });
  const other = await put("dead", { secret: { apiKey: "sk_good_another_key_123456" } });
  expect(other.body.error).toMatchObject({ code: "idempotency_key_reused" });
});

test("an intent's key never runs again, however long its lease has expired", async () => {
  await put("intent");
  await h.owner`update idempotency_keys set status = 'running', answer = null, intent_id = 'int_x',
    lease_until = now() - interval '1 hour' where key = 'intent'`;
  expect((await put("intent")).body.error).toMatchObject({ code: "idempotency_in_progress" });
});
