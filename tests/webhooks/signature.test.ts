import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { describe, expect, test, vi } from "vitest";
import { eventTypes } from "../../db/events.ts";
import { verifyWebhook, WebhookRefused } from "../../edge/client.ts";
import { canMatch, matchesAny } from "../../routers/core/event-pattern.ts";
import { isPublicAddress, objectionTo } from "../../routers/ports/addresses.ts";
import { attemptAfterSeconds, nextAttemptInSeconds } from "../../routers/webhooks/deliveries/schedule.ts";
import { newSecret, publicKeyOf, sign } from "../../routers/webhooks/endpoints/signature.ts";
import { bodyOf, readVectors } from "../support/webhook-vectors.ts";

const { refusals, signing, vectors } = readVectors();

describe("signature", () => {
  const [known] = signing;

  test.each(signing.map((each) => [each.name, each] as const))(
    "the signature matches the known one: %s",
    (_, answer) => {
      const { name, signature, ...message } = answer;
      expect(sign(message)).toBe(signature);
    },
  );

  test("the public key of a private key matches RFC 8032 and Standard Webhooks", () => {
    const keys = signing.flatMap(({ secrets }) => secrets).filter((secret) => secret.startsWith("whsk_"));
    const shown = vectors.flatMap(({ secrets }) => secrets);
    expect(new Set(keys).size).toBe(2);
    for (const key of keys) expect(shown).toContain(publicKeyOf(key));
  });

  test("the receiver's library verifies everything that we sign, and rejects a changed byte", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const { secret } = newSecret();
        const body = JSON.stringify({ text });
        const timestampSeconds = Math.floor(Date.now() / 1000);
        const headers = {
          "webhook-id": "evt_1",
          "webhook-timestamp": String(timestampSeconds),
          "webhook-signature": sign({ id: "evt_1", timestampSeconds, body, secrets: [secret] }),
        };
        expect(new Webhook(secret).verify(body, headers)).toEqual({ text });
        expect(() => new Webhook(secret).verify(`${body} `, headers)).toThrow();
        expect(() => new Webhook(secret).verify(body, { ...headers, "webhook-id": "evt_2" })).toThrow();
      }),
    );
  });

  test("the public key verifies everything that we sign with v1a, and rejects a changed byte", async () => {
    const now = new Date();
    const { secret, publicKey } = newSecret("v1a");
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "grapheme" }), async (text) => {
        const payload = JSON.stringify({ text });
        const timestampSeconds = Math.floor(now.getTime() / 1000);
        const headers = {
          "webhook-id": "evt_1",
          "webhook-timestamp": String(timestampSeconds),
          "webhook-signature": sign({ id: "evt_1", timestampSeconds, body: payload, secrets: [secret] }),
        };
        const message = { payload, headers, secret: publicKey!, now };
        expect(await verifyWebhook(message)).toEqual({ text });
        await expect(verifyWebhook({ ...message, payload: `${payload} ` })).rejects.toBeInstanceOf(WebhookRefused);
      }),
    );
  });

  test("a secret is 32 random bytes, different each time", () => {
    expect(newSecret().secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(newSecret().secret).not.toBe(newSecret().secret);
    expect(newSecret("v1a").publicKey).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/);
    expect(newSecret("v1a").secret).not.toBe(newSecret("v1a").secret);
  });

  test("signing fails with an invalid key, and with an id that contains a separator", () => {
    expect(() => sign({ ...known!, secrets: [""] })).toThrow();
    expect(() => sign({ ...known!, secrets: ["whsec_"] })).toThrow();
    expect(() => sign({ ...known!, secrets: ["whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="] })).toThrow();
    expect(() => sign({ ...known!, id: "msg.1" })).toThrow();
  });
});

describe("vectors", () => {
  test("there is one for every refusal and every valid form", () => {
    expect(vectors.length).toBeGreaterThan(60);
    expect(new Set(vectors.flatMap(({ refusal }) => refusal ?? []))).toEqual(new Set(refusals));
  });

  test.each(vectors.map((each) => [each.verdict, each.name, each] as const))("%s: %s", async (_, __, vector) => {
    const { secrets, headers, toleranceSeconds, now } = vector;
    const verdict = await verifyWebhook({
      payload: bodyOf(vector),
      headers: Object.fromEntries(headers),
      secret: secrets,
      toleranceSeconds,
      now: new Date(now * 1000),
    }).then(
      (event) => ({ verdict: "accepted", event }),
      (error: unknown) => {
        if (error instanceof WebhookRefused) return { verdict: "refused", refusal: error.reason };
        if (error instanceof TypeError) return { verdict: "misconfigured" };
        throw error;
      },
    );
    expect(verdict).toEqual(
      vector.verdict === "accepted"
        ? { verdict: "accepted", event: JSON.parse(vector.body!) }
        : { verdict: vector.verdict, ...(vector.refusal ? { refusal: vector.refusal } : {}) },
    );
  });

  const symmetric = vectors.filter(
    ({ secrets, toleranceSeconds, verdict }) =>
      verdict !== "misconfigured" &&
      secrets.length === 1 &&
      !secrets[0]!.startsWith("whpk_") &&
      toleranceSeconds === 300,
  );

  test("most of them apply to the library of Standard Webhooks too", () => {
    expect(symmetric.length).toBeGreaterThan(40);
  });

  test.each(symmetric.map((each) => [each.name, each] as const))("the library agrees: %s", (_, vector) => {
    vi.useFakeTimers({ toFake: ["Date"], now: vector.now * 1000 });
    try {
      const webhook = new Webhook(vector.secrets[0]!);
      const verify = () => webhook.verify(bodyOf(vector), Object.fromEntries(vector.headers));
      if ((vector.library ?? vector.verdict) === "accepted") expect(verify).not.toThrow();
      else expect(verify).toThrow();
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("schedule", () => {
  const plain = { retryAfterSeconds: null, random: 0 };

  test("ten attempts over three days, then no more", () => {
    expect(attemptAfterSeconds).toEqual([0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]);
    expect([1, 2, 9].map((made) => nextAttemptInSeconds(made, plain))).toEqual([5, 300, 86400]);
    expect(nextAttemptInSeconds(10, plain)).toBeNull();
  });

  test("jitter is never early and never more than a fifth", () => {
    const cases = fc.record({
      made: fc.integer({ min: 1, max: 9 }),
      random: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(cases, ({ made, random }) => {
        const pause = attemptAfterSeconds[made]!;
        const seconds = nextAttemptInSeconds(made, { retryAfterSeconds: null, random })!;
        expect(seconds).toBeGreaterThanOrEqual(pause);
        expect(seconds).toBeLessThanOrEqual(pause * 1.2);
      }),
    );
  });

  test("Retry-After counts, within bounds", () => {
    const pauseFor = (retryAfterSeconds: number, made: number) =>
      nextAttemptInSeconds(made, { retryAfterSeconds, random: 0 });
    expect(pauseFor(30, 1)).toBe(30);
    expect(pauseFor(86_400, 1)).toBe(60);
    expect(pauseFor(0, 2)).toBe(300);
    expect(pauseFor(400, 2)).toBe(400);
    expect(pauseFor(86_400, 2)).toBe(600);
  });
});

describe("match", () => {
  test("a type, a kind, or all", () => {
    expect(matchesAny(["call.ended"], "call.ended")).toBe(true);
    expect(matchesAny(["call.*"], "call.transcript.ready")).toBe(true);
    expect(matchesAny(["call.transcript.*"], "call.transcript.ready")).toBe(true);
    expect(matchesAny(["*"], "agent.created")).toBe(true);
    expect(matchesAny(["call.*"], "callback.ended")).toBe(false);
    expect(matchesAny(["call"], "call.ended")).toBe(false);
    expect(matchesAny(["*.ended"], "call.ended")).toBe(false);
    expect(matchesAny([], "call.ended")).toBe(false);
  });

  test("a pattern that cannot match any type is detected", () => {
    expect(canMatch("call.*", eventTypes)).toBe(true);
    expect(canMatch("cal.*", eventTypes)).toBe(false);
    expect(canMatch("call.finished", eventTypes)).toBe(false);
  });
});

describe("addresses", () => {
  const open =
    "1.1.1.1 8.8.8.8 93.184.216.34 192.88.98.255 192.88.100.1 223.255.255.255 2606:4700:4700::1111 2001:4860:4860::8888 2001:200::1 3fff:1000::1";
  const closed =
    "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 " +
    "192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 " +
    "168.63.129.16 :: ::1 ::ffff:127.0.0.1 ::ffff:1.1.1.1 ::7f00:1 ::5efe:7f00:1 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 " +
    "2001::1 2001:1::1 2001:db8::1 2002:7f00:1:: 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 nonsense";

  test.each(open.split(" "))("%s is public", (address) => expect(isPublicAddress(address)).toBe(true));
  test.each(closed.split(" "))("%s is not", (address) => expect(isPublicAddress(address)).toBe(false));

  test.each([
    "https://example.com/hook",
    "https://example.com:8443/hook?token=1",
    "https://1.1.1.1/",
    "https://[2606:4700:4700::1111]/",
  ])("%s may be a webhook", (url) => expect(objectionTo(url, { allowPrivate: false })).toBeNull());

  test.each([
    "http://example.com/",
    "ftp://example.com/",
    "javascript:alert(1)",
    "https://user:pass@example.com/",
    "https://user@example.com/",
    "https://example.com/#part",
    "https://example.com/#",
    "https://example.com:22/",
    "https://127.0.0.1/",
    "https://0x7f.1/",
    "https://2130706433/",
    "https://0177.0.0.1/",
    "https://１２７.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://169.254.169.254/latest/meta-data",
    "https://localhost/",
    "https://localhost./",
    "https://app.localhost/",
    "https://db.internal/",
    "https://intranet/",
    "not a url",
  ])("%s may not", (url) => expect(objectionTo(url, { allowPrivate: false })).not.toBeNull());

  test("in development http and loopback may be, credentials still not", () => {
    expect(objectionTo("http://127.0.0.1:3000/hook", { allowPrivate: true })).toBeNull();
    expect(objectionTo("http://a:b@127.0.0.1/hook", { allowPrivate: true })).not.toBeNull();
    expect(objectionTo("file:///etc/passwd", { allowPrivate: true })).not.toBeNull();
  });
});
