import { createHash, randomUUID } from "node:crypto";
import { connect } from "node:net";
import Stripe from "stripe";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DatabaseBusy, openDatabase } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { callControl, nowSeconds, telnyxAccount, telnyxHeaders } from "../../dev/simulators/telnyx.ts";
import { ingressWriter } from "../../edge/ingress/ingress-writer.ts";
import { reprocess } from "../../jobs/ingress-reprocess.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import { callRow, finished, hurry, makeAgent, postingsOf, shuffled, storyOf, waitingJobs } from "../support/calls.ts";

const secrets = ["whsec_present0123456789", "whsec_before0123456789"] as const;
const telnyx = telnyxAccount();
const h = await startTestApp({
  workers: true,
  speed: 200,
  env: { STRIPE_WEBHOOK_SECRETS: secrets.join(","), TELNYX_PUBLIC_KEYS: telnyx.publicKey },
});
const bare = await startTestApp();
const agentId = await makeAgent(h);
let operator: string;
beforeAll(async () => {
  operator = await h.operator();
});
afterEach(() => h.simulator.faults({}));

const door = `${h.url}/api/v1/webhooks/stripe`;

function stripeEvent(more: object = {}) {
  const id = `evt_${randomUUID().replaceAll("-", "")}`;
  const event = {
    id,
    object: "event",
    api_version: "2026-10-28.endive",
    created: nowSeconds(),
    livemode: false,
    type: "checkout.session.completed",
    data: { object: { id: "cs_test_1", object: "checkout.session", payment_status: "paid" } },
    ...more,
  };
  return JSON.stringify(event);
}

/** `offset`: seconds from now to the time of the signature. */
type Knock = { secret?: string; offset?: number; headers?: Record<string, string>; method?: string };

/** Signed with Stripe's own library. */
async function knock(payload: string, { secret = secrets[0], offset = 0, headers, method = "POST" }: Knock = {}) {
  const timestamp = nowSeconds() + offset;
  const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp });
  const response = await fetch(door, {
    method,
    headers: { "content-type": "application/json; charset=utf-8", "stripe-signature": signature, ...headers },
    ...(method === "POST" ? { body: payload } : {}),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
}

const ofStripe = () => h.owner`select * from ingress_events where provider = 'stripe' order by id`;
const settled = () =>
  until(async () => (await h.owner`select from ingress_events where status = 'received'`).length === 0);

const ask = () => ({ key: operator });
const listed = async (query: Record<string, string>) => {
  const { status, body } = await h.get(`/admin/ingress?${new URLSearchParams(query)}`, ask());
  expect(status).toBe(200);
  return body.data;
};

describe("Stripe", () => {
  test("every event five times in shuffled order is stored once, also one of an unused type", async () => {
    const events = ["checkout.session.completed", "refund.created", "a.type.of.next.year"].map((type) =>
      stripeEvent({ type, livemode: true }),
    );
    const five = [1, 2, 3, 4, 5].flatMap(() => events);
    const answers = await Promise.all(shuffled(five, 5).map((event) => knock(event)));
    expect(answers.map(({ status }) => status)).toEqual(five.map(() => 204));
    await settled();
    const rows = await ofStripe();
    expect(rows).toHaveLength(3);
    for (const event of events) {
      const { id, type } = JSON.parse(event);
      const row = rows.find(({ key }) => key === id);
      expect(row).toMatchObject({
        provider_account_id: "stripe",
        event_type: type,
        status: "ignored",
        note: `No handler for ${type}.`,
        attempts: 1,
        verified_by: "stripe#1",
        headers: { "api-version": "2026-10-28.endive", livemode: "true", "signed-at": expect.stringMatching(/^\d+$/) },
      });
      expect(row!.body.toString()).toBe(event);
    }
  });

  test("a secret during its rotation is valid, and so is a header with both signatures", async () => {
    const before = (await ofStripe()).length;
    expect((await knock(stripeEvent(), { secret: secrets[1] })).status).toBe(204);
    const payload = stripeEvent();
    const timestamp = nowSeconds();
    const [old, present] = ["whsec_unknown", secrets[0]].map((secret) =>
      Stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp }),
    );
    const both = `${old},${present!.split(",")[1]},v0=00`;
    expect((await knock(payload, { headers: { "stripe-signature": both } })).status).toBe(204);
    const rows = (await ofStripe()).slice(before);
    expect(rows.map(({ verified_by }) => verified_by)).toEqual(["stripe#2", "stripe#1"]);
  });

  test.each([
    ["with another secret", { secret: "whsec_guessed" }],
    ["six minutes ago", { offset: -360 }],
    ["six minutes ahead, which Stripe's own library lets in", { offset: 360 }],
    ["with an empty signature", { headers: { "stripe-signature": "" } }],
    ["without a time", { headers: { "stripe-signature": `v1=${"0".repeat(64)}` } }],
    ["with two times", { headers: { "stripe-signature": `t=1,t=2,v1=${"0".repeat(64)}` } }],
    ["with half a signature", { headers: { "stripe-signature": `t=${nowSeconds()},v1=00` } }],
  ] satisfies [string, Knock][])("signed %s: 401, and nothing is kept", async (_, how) => {
    const before = (await ofStripe()).length;
    const { status, body } = await knock(stripeEvent(), how);
    expect({ status, code: body.error.code }).toEqual({ status: 401, code: "unauthenticated" });
    expect((await ofStripe()).length).toBe(before);
  });

  test("an expired signature is reported as such; a forged one gets no details", async () => {
    expect((await knock(stripeEvent(), { offset: -360 })).body.error.message).toMatch(/300 seconds/);
    expect((await knock(stripeEvent(), { secret: "no" })).body.error.message).toBe("The signature does not match.");
  });

  test("a version that the database cannot store is stored in a changed form", async () => {
    expect((await knock(stripeEvent({ api_version: "\0\ud800" }))).status).toBe(204);
    expect((await ofStripe()).at(-1)!.headers).toMatchObject({ "api-version": "\ufffd\ufffd" });
  });

  test("an unreadable body with a valid signature is stored once, as failed", async () => {
    for (const payload of ["not json", '{"id":"evt_1"}', "[]"]) {
      for (let times = 0; times < 2; times++) expect((await knock(payload)).status).toBe(204);
      await settled();
      const key = `unreadable:${createHash("sha256").update(payload).digest("hex")}`;
      const rows = (await ofStripe()).filter((row) => row.key === key);
      expect(rows).toMatchObject([{ status: "failed", event_type: "" }]);
    }
  });

  test("without secrets in the environment the endpoint does not exist", async () => {
    const answer = await bare.post("/webhooks/stripe", stripeEvent(), { key: null });
    expect(answer).toMatchObject({ status: 404, body: { error: { code: "route_not_found" } } });
  });
});

describe("provider endpoints", () => {
  const paths = ["ultravox", "stripe", "telnyx"];

  /** The response to the head of a request and the start of its body. */
  function answerTo(path: string, contentLength: number, beginning: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(Number(new URL(h.url).port), "127.0.0.1");
      let text = "";
      socket.setTimeout(30_000, () => reject(new Error("nobody answered")));
      socket.on("data", (chunk) => {
        text += chunk.toString();
        if (!text.includes("docUrl")) return;
        resolve(text);
        socket.destroy();
      });
      socket.once("error", reject).once("close", () => resolve(text));
      const head = [
        `POST /api/v1/webhooks/${path} HTTP/1.1`,
        "Host: x",
        "Content-Type: application/json",
        `Content-Length: ${contentLength}`,
      ];
      socket.write(`${head.join("\r\n")}\r\n\r\n${beginning}`);
    });
  }

  test.each(paths)("%s: any method except POST is 405, with Allow", async (path) => {
    for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
      const answer = await fetch(`${h.url}/api/v1/webhooks/${path}`, { method });
      expect([method, answer.status, answer.headers.get("allow")]).toEqual([method, 405, "POST"]);
    }
  });

  test.each(["stripe", "telnyx"])("%s: a body that is not JSON, or is compressed, is 415", async (path) => {
    const body = stripeEvent();
    for (const headers of [
      { "content-type": "text/plain" },
      { "content-type": "multipart/form-data; boundary=x" },
      { "content-type": "application/json", "content-encoding": "gzip" },
    ]) {
      const answer = await fetch(`${h.url}/api/v1/webhooks/${path}`, { method: "POST", headers, body });
      const { error } = (await answer.json()) as { error: { code: string } };
      expect([answer.status, error.code]).toEqual([415, "media_type_unsupported"]);
    }
  });

  test.each(["stripe", "telnyx"])(
    "%s: more than five megabytes are 413, before the signature is checked",
    async (path) => {
      const answer = await answerTo(path, 5_000_001, "{");
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer).toContain("payload_too_large");
    },
  );

  test("an incomplete body ends with 408", { timeout: 40_000 }, async () => {
    const before = (await ofStripe()).length;
    const answer = await answerTo("stripe", 500, '{"id":');
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(answer).toContain("body_timeout");
    expect((await ofStripe()).length).toBe(before);
  });
});

describe("provider messages", () => {
  test("are listed for operators with filters; one message is returned in full", async () => {
    const callId = newId("call");
    const message = callControl({ type: "call.hangup", callControlId: "v3:inbox", callId });
    await fetch(`${h.url}/api/v1/webhooks/telnyx`, {
      method: "POST",
      headers: telnyxHeaders(telnyx, message),
      body: message.body,
    });
    await settled();
    const [found, ...more] = await listed({ provider: "telnyx", status: "ignored", eventType: "call.hangup" });
    expect(more).toEqual([]);
    expect(found).toMatchObject({
      provider: "telnyx",
      account: "pacc_platform",
      key: JSON.parse(message.body).data.id,
      eventType: "call.hangup",
      status: "ignored",
      stale: false,
      note: "No call of this account.",
      attempts: 1,
      verifiedBy: "pacc_platform#1",
      clientId: null,
      subjectId: null,
    });
    expect(found.body).toBeUndefined();
    const { body } = await h.get(`/admin/ingress/${found.id}`, ask());
    expect(body.data).toEqual({
      ...found,
      body: message.body,
      headers: { "content-type": "application/json", "telnyx-timestamp": expect.stringMatching(/^\d+$/) },
    });
    expect(await listed({ account: "pacc_nobody" })).toEqual([]);
    expect(await listed({ createdAfter: found.receivedAt, provider: "telnyx" })).toHaveLength(1);
    expect(await listed({ createdBefore: found.receivedAt, provider: "telnyx" })).toEqual([]);
    const missing = await h.get(`/admin/ingress/${newId("ingress")}`, ask());
    expect(missing).toMatchObject({ status: 404, body: { error: { code: "ingress_event_not_found" } } });
  });

  test("are paged newest first, without gaps", async () => {
    const all = await listed({ limit: "100" });
    const seen: string[] = [];
    for (let cursor = ""; ; ) {
      const { body } = await h.get(`/admin/ingress?limit=4${cursor}`, ask());
      seen.push(...body.data.map(({ id }: { id: string }) => id));
      if (!body.meta.hasMore) break;
      cursor = `&cursor=${body.meta.nextCursor}`;
    }
    expect(seen).toEqual(all.map(({ id }: { id: string }) => id));
    expect(seen).toEqual(seen.toSorted().toReversed());
  });

  test("are only for operators", async () => {
    for (const path of ["/admin/ingress", `/admin/ingress/${newId("ingress")}`]) {
      expect((await h.get(path)).body.error.code).toBe("platform_required");
      expect((await h.get(path, { key: null })).status).toBe(401);
    }
  });

  test("can be reprocessed without a second effect", async () => {
    const { body } = await h.post("/calls", { agentId, medium: phone("+14155550100") });
    const id = body.data.id;
    await finished(h, id);
    await until(async () => {
      await hurry(h, "calls.fetchRecording");
      return (await h.owner`select from calls where id = ${id} and recording_status = 'ready'`).length === 1;
    });
    const before = await callRow(h, id);
    const story = await storyOf(h, id);
    const postings = await postingsOf(h, id);
    const messages = await until(async () => {
      const found = await listed({ subjectId: id, clientId: h.ada.clientId, status: "applied" });
      return found.length === 4 ? found : null;
    });
    expect(messages.map(({ eventType }: { eventType: string }) => eventType).toSorted()).toEqual([
      "call.billed",
      "call.ended",
      "call.joined",
      "call.started",
    ]);
    for (const message of messages) {
      const answer = await h.post(`/admin/ingress/${message.id}/reprocess`, {}, ask());
      expect(answer).toMatchObject({ status: 202, body: { data: { id: message.id, status: "received" } } });
    }
    await settled();
    for (const { attempts, status } of await listed({ subjectId: id }))
      expect([attempts, status]).toEqual([2, "applied"]);
    expect({ ...(await callRow(h, id)), updated_at: null }).toEqual({ ...before, updated_at: null });
    expect(await storyOf(h, id)).toEqual(story);
    expect(await postingsOf(h, id)).toEqual(postings);
  });

  test("that match a filter are reprocessed in batches after a fix, and no others", async () => {
    const createdAfter = new Date().toISOString();
    await h.simulator.faults({ webhooks: { lose: ["call.ended", "call.billed"] } });
    const { body } = await h.post("/calls", { agentId, medium: phone("+14155550100") });
    const id = body.data.id;
    await until(async () => (await callRow(h, id)).provider_call_id !== null);
    const { provider_call_id: callId } = await callRow(h, id);
    // A bug of ours: no response of Ultravox can be parsed.
    const { readEvent } = h.deps.providers.ultravox;
    h.deps.providers.ultravox.readEvent = () => {
      throw new Error("broken");
    };
    try {
      await until(async () => (await h.simulator.status()).activeCalls.platform === 0);
      for (const event of ["call.ended", "call.billed"]) {
        await until(async () => {
          const { attempts } = await h.simulator
            .control("webhooks/resend", { callId, event })
            .catch(() => ({ attempts: [] }));
          return attempts.length > 0 && attempts[0].failure === null;
        });
      }
      await settled();
    } finally {
      h.deps.providers.ultravox.readEvent = readEvent;
    }
    expect((await callRow(h, id)).cost_micros).toBeNull();
    // Besides, more than two batches of unreadable messages of another provider.
    await h.owner`insert into ingress_events (id, provider, provider_account_id, key, event_type, body, headers, verified_by, status)
      select 'ing_0' || lpad(n::text, 25, '0'), 'stripe', 'stripe', 'evt_many_' || n, 'many', '{}', '{}', 'stripe#1', 'failed'
      from generate_series(1, 450) n`;
    const failed = await listed({ provider: "ultravox", status: "failed", createdAfter });
    expect(failed.length).toBeGreaterThanOrEqual(2);

    const only = await h.post("/admin/ingress/reprocess", { provider: "ultravox", createdAfter }, ask());
    expect(only).toMatchObject({
      status: 202,
      body: {
        data: { provider: "ultravox", eventType: null, statuses: ["failed"], createdAfter, found: failed.length },
      },
    });
    const row = await finished(h, id);
    expect(row).toMatchObject({ status: "ended", outcome: "completed", billing_revision: 1 });
    await settled();
    expect(await listed({ provider: "ultravox", status: "failed", createdAfter })).toEqual([]);
    const [untouched] =
      await h.owner`select count(*)::int as n from ingress_events where event_type = 'many' and attempts = 0`;
    expect(untouched!.n).toBe(450);

    const many = await h.post(
      "/admin/ingress/reprocess",
      { provider: "stripe", eventType: "many", createdAfter },
      ask(),
    );
    expect(many.body.data.found).toBe(450);
    await until(async () => {
      const [left] =
        await h.owner`select count(*)::int as n from ingress_events where event_type = 'many' and attempts = 0`;
      return left!.n === 0;
    });
    await settled();
    const [once] = await h.owner`select min(attempts)::int as least, max(attempts)::int as most
      from ingress_events where event_type = 'many'`;
    expect(once).toEqual({ least: 1, most: 1 });
    await until(async () => (await waitingJobs(h, "ingress.reprocess")).length === 0);
  });

  test("are all reprocessed once, although the process dies before and after each commit", async () => {
    await bare.owner`insert into ingress_events (id, provider, provider_account_id, key, event_type, body, headers, verified_by, status)
      select 'ing_0' || lpad(n::text, 25, '0'), 'stripe', 'stripe', 'evt_' || n, 'dying', '{}', '{}', 'stripe#1', 'failed'
      from generate_series(1, 650) n`;
    const asked = { eventType: "dying", createdAfter: new Date(Date.now() - 60_000).toISOString() };
    const platform = { key: await bare.operator() };
    expect((await bare.post("/admin/ingress/reprocess", asked, platform)).body.data.found).toBe(650);
    const context = (commits: boolean) =>
      ({
        log: bare.deps.log,
        asSystem: (work) =>
          bare.deps.db.asSystem(async (tx) => {
            const result = await work(tx);
            if (!commits) throw new Error("killed");
            return result;
          }),
      }) as JobContext;
    const left = async () => {
      const [row] = await bare.owner`select count(*)::int as n from ingress_events where status = 'failed'`;
      return row!.n;
    };
    let runs = 0;
    for (;;) {
      const [job] = await waitingJobs(bare, "ingress.reprocess");
      if (!job) break;
      const before = await left();
      await expect(reprocess.run(job.payload.body, context(false))).rejects.toThrow("killed");
      expect(await left()).toBe(before);
      await reprocess.run(job.payload.body, context(true));
      if (runs++ === 1) await reprocess.run(job.payload.body, context(true)); // done, but the queue did not record it
      await bare.owner`delete from graphile_worker._private_jobs where id = ${job.id}`;
      expect(runs).toBeLessThan(10);
    }
    expect(await left()).toBe(0);
    const applied = await waitingJobs(bare, "ingress.applyBatch");
    const ids = applied.flatMap(({ payload }) =>
      payload.body.messages.map(({ ingressId }: { ingressId: string }) => ingressId),
    );
    expect(ids).toHaveLength(650);
    expect(new Set(ids).size).toBe(650);
  });

  test("an empty time range is refused", async () => {
    const now = new Date().toISOString();
    const answer = await h.post("/admin/ingress/reprocess", { createdAfter: now, createdBefore: now }, ask());
    expect(answer).toMatchObject({
      status: 400,
      body: { error: { code: "input_invalid", details: [{ path: "createdAfter" }] } },
    });
  });
});

describe("concurrent messages", () => {
  const db = openDatabase({ ...h.database.roles, maxWaitMs: 60_000 });
  afterAll(() => db.close());
  const received = (key: string) => ({
    ...{ provider: "stripe" as const, providerAccountId: "stripe", key, eventType: "burst", headers: {} },
    ...{ body: Buffer.from("{}"), verifiedBy: "stripe#1", stale: false },
  });

  test("a message that the database rejects does not fail the others", async () => {
    const keep = ingressWriter(db);
    const keys = Array.from({ length: 40 }, (_, n) => (n === 20 ? "bad\0" : `alone-${n}`));
    const kept = await Promise.allSettled(keys.map((key) => keep(received(key), "req_burst")));
    expect(kept.map(({ status }) => status)).toEqual(keys.map((_, n) => (n === 20 ? "rejected" : "fulfilled")));
    const [rows] = await h.owner`select count(*)::int as n from ingress_events where key like 'alone-%'`;
    expect(rows!.n).toBe(39);
  });

  test("equal messages are stored once, and the repeated ones are acknowledged as duplicates", async () => {
    const keep = ingressWriter(db);
    const keys = shuffled(
      [1, 2, 3, 4, 5].flatMap(() => Array.from({ length: 60 }, (_, n) => `same-${n}`)),
      9,
    );
    const fresh = await Promise.all(keys.map((key) => keep(received(key), "req_burst")));
    expect(fresh.filter(Boolean)).toHaveLength(60);
    const rows = await h.owner`select key, count(*)::int as n from ingress_events where key like 'same-%' group by key`;
    expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: 60 }, () => 1));
    await settled();
  });

  test("beyond the queue limit the provider gets 503 to retry, and accepted messages are stored", async () => {
    const keep = ingressWriter(db);
    const sent = Array.from({ length: 2000 }, (_, n) => keep(received(`many-${n}`), "req_burst"));
    const kept = await Promise.allSettled(sent);
    const refused = kept.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused) expect(reason).toBeInstanceOf(DatabaseBusy);
    const [rows] = await h.owner`select count(*)::int as n from ingress_events where key like 'many-%'`;
    expect(rows!.n).toBe(2000 - refused.length);
    await until(async () => (await h.owner`select from ingress_events where status = 'received'`).length === 0, 120);
  }, 180_000);

  test("a key that is too long for an index is replaced by its hash", async () => {
    const payload = stripeEvent({ type: "x".repeat(300) });
    expect((await knock(payload)).status).toBe(204);
    const key = `unreadable:${createHash("sha256").update(payload).digest("hex")}`;
    expect((await ofStripe()).filter((row) => row.key === key)).toHaveLength(1);
  });
});
