import { randomBytes } from "node:crypto";
import { expect, expectTypeOf, test } from "vitest";
import {
  createPatchbayClient,
  type PatchbayClient,
  type ThinWebhookEvent,
  verifyWebhook,
  type WebhookEvent,
  WebhookRefused,
} from "../../edge/client.ts";
import { newSecret, sign } from "../../routers/webhooks/endpoints/signature.ts";

/** Never called: the compiler checks it. A directive without an error under it is an error. */
async function typed(client: PatchbayClient) {
  const call = await client.calls.get.query({ id: "call_1" });
  expectTypeOf(call.heldMicros).toEqualTypeOf<number | null>();
  expectTypeOf(call.status).toEqualTypeOf<"queued" | "ringing" | "active" | "ended" | "failed" | "unknown">();
  const page = await client.agents.list.query({ limit: 5 });
  expectTypeOf(page.items[0]!.name).toEqualTypeOf<string>();
  // @ts-expect-error no such procedure
  client.calls.destroy;
  // @ts-expect-error no such field
  await client.calls.get.query({ id: "call_1", more: true });
  // @ts-expect-error the field is not a number
  await client.calls.get.query({ id: 1 });
  // @ts-expect-error a query is not a mutation
  client.calls.get.mutate;
  // @ts-expect-error an agent has no such property
  page.items[0]!.nope;
  client.events.stream.subscribe(
    { types: ["call.*"] },
    {
      onData: ({ id, data }) =>
        expectTypeOf([id, data?.subject.sequence]).toEqualTypeOf<(string | number | undefined)[]>(),
    },
  );
  // @ts-expect-error a subscription is not a query
  client.events.stream.query;
  const event: WebhookEvent = await verifyWebhook({ payload: "", headers: {}, secret: "" });
  if (event.type === "call.ended") expectTypeOf(event.data.endReason).toEqualTypeOf<string | null>();
  // @ts-expect-error no such event
  if (event.type === "call.exploded") return;

  const thin = await verifyWebhook<ThinWebhookEvent>({ payload: "", headers: {}, secret: [""] });
  if (thin.type === "call.ended") expectTypeOf(thin.subject.sequence).toEqualTypeOf<number>();
  // @ts-expect-error a thin event has no data
  thin.data;
  const either = await verifyWebhook<WebhookEvent | ThinWebhookEvent>({ payload: "", headers: {}, secret: "" });
  // @ts-expect-error it may be a thin event
  either.data;
  if ("data" in either && either.type === "call.ended") {
    expectTypeOf(either.data.endReason).toEqualTypeOf<string | null>();
  }
  // @ts-expect-error this is not an event
  await verifyWebhook<{ id: number }>({ payload: "", headers: {}, secret: "" });
}

test("the client's types come from the procedures: the code above compiles", () => {
  expectTypeOf(typed).parameter(0).toEqualTypeOf<PatchbayClient>();
});

test("the client sends its credential and client id, and batches concurrent calls in one request", async () => {
  const { client, requests } = recorder({ apiKey: async () => "pb_test_x", clientId: "client_1" });
  await Promise.all([client.calls.get.query({ id: "a" }), client.calls.get.query({ id: "b" })]);
  expect(requests).toHaveLength(1);
  expect(requests[0]!.url).toMatch(/^https:\/\/api\.test\/trpc\/calls\.get,calls\.get\?batch=1&input=/);
  expect(requests[0]!.headers.get("authorization")).toBe("Bearer pb_test_x");
  expect(requests[0]!.headers.get("x-client-id")).toBe("client_1");
  expect(requests[0]!.headers.has("idempotency-key")).toBe(false);
});

test("a mutation with an idempotency key is not batched", async () => {
  const { client, requests } = recorder({ token: "jwt" });
  await Promise.all(
    ["k1", "k2"].map((idempotencyKey) =>
      client.webhooks.create.mutate({ url: "https://example.com" }, { context: { idempotencyKey } }),
    ),
  );
  expect(requests.map(({ headers }) => headers.get("idempotency-key"))).toEqual(["k1", "k2"]);
  expect(requests.map(({ url }) => url)).toEqual(Array(2).fill("https://api.test/trpc/webhooks.create"));
});

test("createPatchbayClient without a credential throws", () => {
  expect(() => createPatchbayClient({ url: "https://api.test" })).toThrow("Pass a token or an apiKey.");
});

function recorder(credential: { token?: string; apiKey?: () => Promise<string>; clientId?: string }) {
  const requests: { url: string; headers: Headers }[] = [];
  const client = createPatchbayClient({
    ...{ url: "https://api.test/", ...credential },
    fetch: async (input, init) => {
      requests.push({ url: String(input), headers: new Headers(init?.headers) });
      const body = { result: { data: {} } };
      return Response.json(String(input).includes("batch=1") ? [body, body] : body);
    },
  });
  return { client, requests };
}

const secret = `whsec_${randomBytes(32).toString("base64")}`;
const event = { id: "evt_1", type: "call.ended", data: { endReason: "hangup", of: "Zoë" } };
const nowSeconds = () => Math.floor(Date.now() / 1000);

function signed({ by = [secret], at = nowSeconds() }: { by?: string[]; at?: number } = {}) {
  const payload = JSON.stringify(event);
  const signature = sign({ id: "evt_1", timestampSeconds: at, body: payload, secrets: by });
  return {
    payload,
    headers: { "webhook-id": "evt_1", "webhook-timestamp": String(at), "webhook-signature": signature },
  };
}

// tests/support/webhook-vectors.json lists what is accepted and refused; tests/webhooks/signature.test.ts checks it.
// These tests cover what the vectors cannot express.

test("a signed event verifies as text and as bytes, with any form of headers", async () => {
  const { payload, headers } = signed();
  const upperCase = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]]));
  expect(await verifyWebhook({ payload, headers, secret })).toEqual(event);
  expect(await verifyWebhook({ payload: Buffer.from(payload), headers: new Headers(headers), secret })).toEqual(event);
  expect(await verifyWebhook({ payload, headers: upperCase, secret })).toEqual(event);
});

test("a receiver can move from a secret to a key pair, with the secrets in any order", async () => {
  const { secret: privateKey, publicKey } = newSecret("v1a");
  const both = signed({ by: [privateKey, secret] });
  for (const candidate of [secret, publicKey!, [secret, publicKey!], [publicKey!, secret]]) {
    expect(await verifyWebhook({ ...both, secret: candidate })).toEqual(event);
  }
  const after = signed({ by: [privateKey] });
  expect(await verifyWebhook({ ...after, secret: [secret, publicKey!] })).toEqual(event);
  await expect(verifyWebhook({ ...after, secret })).rejects.toMatchObject({ reason: "signature_mismatch" });
});

test("a header of several lines is read whole", async () => {
  const { payload, headers } = signed();
  const lines = new Headers({ ...headers, "webhook-signature": `v1,${Buffer.alloc(32).toString("base64")}` });
  lines.append("webhook-signature", headers["webhook-signature"]);
  expect(await verifyWebhook({ payload, headers: lines, secret })).toEqual(event);
});

test("the current time is the clock's, unless `now` is given", async () => {
  const old = signed({ at: nowSeconds() - 301 });
  await expect(verifyWebhook({ ...old, secret })).rejects.toMatchObject({ reason: "timestamp_too_old" });
  expect(await verifyWebhook({ ...old, secret, now: new Date(Date.now() - 60_000) })).toEqual(event);
  const early = signed({ at: nowSeconds() + 400 });
  await expect(verifyWebhook({ ...early, secret })).rejects.toMatchObject({ reason: "timestamp_too_new" });
});

test("a tolerance or a time that is not a number verifies nothing", async () => {
  const message = { ...signed(), secret };
  await expect(verifyWebhook({ ...message, toleranceSeconds: Number.NaN })).rejects.toBeInstanceOf(WebhookRefused);
  await expect(verifyWebhook({ ...message, now: new Date("soon") })).rejects.toBeInstanceOf(WebhookRefused);
});

test("only the first 32 signatures of a header are checked", async () => {
  const { payload, headers } = signed();
  const wrong = `v1,${Buffer.alloc(32).toString("base64")} `;
  const behind = (many: number) => ({
    ...headers,
    "webhook-signature": wrong.repeat(many) + headers["webhook-signature"],
  });
  expect(await verifyWebhook({ payload, headers: behind(31), secret })).toEqual(event);
  await expect(verifyWebhook({ payload, headers: behind(32), secret })).rejects.toBeInstanceOf(WebhookRefused);
});

test("a wrong argument of the receiver throws a TypeError before the message is checked", async () => {
  const nothing = { payload: "", headers: {} };
  const { secret: privateKey } = newSecret("v1a");
  await expect(verifyWebhook({ ...nothing, secret: "" })).rejects.toThrow(TypeError);
  await expect(verifyWebhook({ ...nothing, secret: [secret, "whsec_%"] })).rejects.toThrow(TypeError);
  await expect(verifyWebhook({ ...nothing, secret: privateKey })).rejects.toThrow(/private key.*whpk_/);
  const parsed = JSON.parse(signed().payload) as never;
  await expect(verifyWebhook({ ...signed(), payload: parsed, secret })).rejects.toThrow(/as received/);
});
