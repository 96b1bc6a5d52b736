import { createHmac, randomBytes } from "node:crypto";
import { expect, expectTypeOf, test } from "vitest";
import {
  createPatchbayClient,
  type PatchbayClient,
  verifyWebhook,
  type WebhookEvent,
  WebhookRefused,
} from "../../edge/client.ts";
import { sign } from "../../routers/webhooks/signature.ts";

/** Never called: the compiler reads it. A directive without an error under it is an error itself. */
async function typed(client: PatchbayClient) {
  const call = await client.calls.get.query({ id: "call_1" });
  expectTypeOf(call.heldMicros).toEqualTypeOf<number | null>();
  expectTypeOf(call.status).toEqualTypeOf<"queued" | "ringing" | "active" | "ended" | "failed" | "unknown">();
  const page = await client.agents.list.query({ limit: 5 });
  expectTypeOf(page.items[0]!.name).toEqualTypeOf<string>();
  // @ts-expect-error there is no such procedure
  client.calls.destroy;
  // @ts-expect-error there is no such field
  await client.calls.get.query({ id: "call_1", more: true });
  // @ts-expect-error the field is not a number
  await client.calls.get.query({ id: 1 });
  // @ts-expect-error what reads is not a mutation
  client.calls.get.mutate;
  // @ts-expect-error an agent has no such property
  page.items[0]!.nope;
  const event: WebhookEvent = await verifyWebhook({ payload: "", headers: {}, secret: "" });
  if (event.type === "call.ended") expectTypeOf(event.data.endReason).toEqualTypeOf<string | null>();
  // @ts-expect-error there is no such event
  if (event.type === "call.exploded") return;
}

test("the client is typed by the procedures: the compiler has read the above", () => {
  expectTypeOf(typed).parameter(0).toEqualTypeOf<PatchbayClient>();
});

test("the client says who it is, for whom it acts, and sends what is asked at once in one request", async () => {
  const { client, asked } = recorder({ apiKey: async () => "pb_test_x", clientId: "client_1" });
  await Promise.all([client.calls.get.query({ id: "a" }), client.calls.get.query({ id: "b" })]);
  expect(asked).toHaveLength(1);
  expect(asked[0]!.url).toMatch(/^https:\/\/api\.test\/trpc\/calls\.get,calls\.get\?batch=1&input=/);
  expect(asked[0]!.headers.get("authorization")).toBe("Bearer pb_test_x");
  expect(asked[0]!.headers.get("x-client-id")).toBe("client_1");
  expect(asked[0]!.headers.has("idempotency-key")).toBe(false);
});

test("a mutation with an idempotency key travels alone", async () => {
  const { client, asked } = recorder({ token: "jwt" });
  await Promise.all(
    ["k1", "k2"].map((idempotencyKey) =>
      client.webhooks.create.mutate({ url: "https://example.com" }, { context: { idempotencyKey } }),
    ),
  );
  expect(asked.map(({ headers }) => headers.get("idempotency-key"))).toEqual(["k1", "k2"]);
  expect(asked.map(({ url }) => url)).toEqual(Array(2).fill("https://api.test/trpc/webhooks.create"));
});

test("a client without a credential is refused where it is made", () => {
  expect(() => createPatchbayClient({ url: "https://api.test" })).toThrow("Give a token or an apiKey.");
});

function recorder(who: { token?: string; apiKey?: () => Promise<string>; clientId?: string }) {
  const asked: { url: string; headers: Headers }[] = [];
  const client = createPatchbayClient({
    ...{ url: "https://api.test/", ...who },
    fetch: async (input, init) => {
      asked.push({ url: String(input), headers: new Headers(init?.headers) });
      const answer = { result: { data: {} } };
      return Response.json(String(input).includes("batch=1") ? [answer, answer] : answer);
    },
  });
  return { client, asked };
}

const secret = `whsec_${randomBytes(32).toString("base64")}`;
const event = { id: "evt_1", type: "call.ended", data: { endReason: "hangup", of: "Zoë" } };
const now = () => Math.floor(Date.now() / 1000);

function signed({ by = secret, at = now() }: { by?: string; at?: number } = {}) {
  const payload = JSON.stringify(event);
  const signature = sign({ id: "evt_1", timestampSeconds: at, body: payload, secret: by });
  return {
    payload,
    headers: { "webhook-id": "evt_1", "webhook-timestamp": String(at), "webhook-signature": signature },
  };
}

test("what Patchbay signs is verified, as text and as bytes, however the headers come", async () => {
  const { payload, headers } = signed();
  const shouted = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]]));
  expect(await verifyWebhook({ payload, headers, secret })).toEqual(event);
  expect(await verifyWebhook({ payload: Buffer.from(payload), headers: new Headers(headers), secret })).toEqual(event);
  expect(await verifyWebhook({ payload, headers: shouted, secret })).toEqual(event);
});

test("one of several signatures is enough, and one of several secrets", async () => {
  const { payload, headers } = signed();
  const other = `v1,${createHmac("sha256", "x").update("y").digest("base64")}`;
  const several = { ...headers, "webhook-signature": `v1a,abc ${other} v1,%% ${headers["webhook-signature"]}` };
  expect(await verifyWebhook({ payload, headers: several, secret })).toEqual(event);
  const another = `whsec_${randomBytes(32).toString("base64")}`;
  expect(await verifyWebhook({ payload, headers, secret: [another, secret] })).toEqual(event);
});

test.each<[string, () => Parameters<typeof verifyWebhook>[0]]>([
  ["a changed body", () => ({ ...signed(), payload: `${signed().payload} `, secret })],
  ["another secret", () => ({ ...signed(), secret: `whsec_${randomBytes(32).toString("base64")}` })],
  ["an old signature", () => ({ ...signed({ at: now() - 301 }), secret })],
  ["one of the future", () => ({ ...signed({ at: now() + 302 }), secret })],
  ["a malformed time", () => ({ ...signed(), headers: { ...signed().headers, "webhook-timestamp": "1e9" }, secret })],
  ["another message's id", () => ({ ...signed(), headers: { ...signed().headers, "webhook-id": "evt_2" }, secret })],
  ["no signature", () => ({ ...signed(), headers: { "webhook-id": "evt_1", "webhook-timestamp": "1" }, secret })],
  [
    "an unknown version",
    () => ({ ...signed(), headers: { ...signed().headers, "webhook-signature": "v2,abcd" }, secret }),
  ],
])("%s is refused", async (_, message) => {
  await expect(verifyWebhook(message())).rejects.toBeInstanceOf(WebhookRefused);
});

test("a secret that is none is a mistake of the receiver's, and said so", async () => {
  await expect(verifyWebhook({ ...signed(), secret: "" })).rejects.toBeInstanceOf(TypeError);
  await expect(verifyWebhook({ ...signed(), secret: "whsec_%" })).rejects.toBeInstanceOf(TypeError);
});
