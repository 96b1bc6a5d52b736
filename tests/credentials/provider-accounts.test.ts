import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import { accountFor } from "../../routers/credentials/accounts.ts";
import { agent, broughtKeys, phone, startTestApp, type TestResponse, until } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  hurry,
  makeAgent,
  sweepNow,
  sweepUntilBilled,
  waitingJobs,
} from "../support/calls.ts";

/** The public address of the installation, which receives the webhooks of accounts. */
const front = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const headers = Object.entries(request.headers).filter(
    ([name]) => !/^(host|connection|content-length|transfer-encoding)$/.test(name),
  );
  const answer = await fetch(h.url + request.url, {
    method: "POST",
    headers: headers as [string, string][],
    body: Buffer.concat(chunks),
  });
  response.writeHead(answer.status).end(await answer.text());
});
front.listen(0, "127.0.0.1");
await once(front, "listening");
const publicUrl = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
const h = await startTestApp({ env: { PUBLIC_URL: publicUrl }, workers: true, speed: 1 });
afterAll(() => {
  front.closeAllConnections();
  front.close();
});

const bobs = { key: h.bob.key };
const [first, second] = broughtKeys;
const bring = (apiKey: string, ask?: object) => h.send("PUT", "/auth/providers/ultravox", { secret: { apiKey } }, ask);
const fault = ({ status, body }: TestResponse) => ({ status, code: body?.error?.code });
const own = async (ask?: object) => (await h.get("/auth/providers", ask)).body.data[0];
/** Rings until the test makes a participant join. */
const ringing = phone("+14155550014");
const accounts = (who: SeededClient = h.ada) =>
  h.owner`select * from provider_accounts where client_id = ${who.clientId} order by created_at`;
const forClient = ({ clientId }: SeededClient) => h.deps.db.asClient({ clientId }, (tx) => accountFor(tx));

/** The webhooks of one account at the provider, with their secrets. */
async function webhooksAt(apiKey: string) {
  const answer = await fetch(`${h.simulator.url}/api/webhooks`, { headers: { "x-api-key": apiKey } });
  return (
    (await answer.json()) as { results: { webhookId: string; url: string; events: string[]; secrets: string[] }[] }
  ).results;
}

async function brought(apiKey: string, ask?: object) {
  const answer = await bring(apiKey, ask);
  expect(answer).toMatchObject({ status: 200 });
  await until(
    async () => (await webhooksAt(apiKey)).length > 0 && (await own(ask)).credential?.account?.webhook !== "pending",
  );
  return answer.body.data.account.id as string;
}

async function ttsAt(apiKey: string) {
  const answer = await fetch(`${h.simulator.url}/api/accounts/me/tts_api_keys`, { headers: { "x-api-key": apiKey } });
  return (await answer.json()) as Record<string, { prefix: string }>;
}

const post = (url: string, secret: string, body: object, at = new Date()) => {
  const text = JSON.stringify(body);
  const timestamp = at.toISOString();
  const signature = createHmac("sha256", secret).update(text).update(timestamp).digest("hex");
  const headers = { "x-ultravox-webhook-timestamp": timestamp, "x-ultravox-webhook-signature": signature };
  return fetch(url, { method: "POST", body: text, headers }).then(({ status }) => status);
};

describe("a client's own account", () => {
  test("is identified, gets our webhook, and contains all new resources", async () => {
    expect(await forClient(h.ada)).toBe("pacc_platform");
    expect(await own()).toMatchObject({ provider: "ultravox", credential: null, usesShared: true });
    const id = await brought(first);
    expect(id).toMatch(/^pacc_/);
    expect(await own()).toMatchObject({
      credential: { status: "verified", account: { id, webhookStatus: "registered" } },
      usesShared: false,
    });
    const [webhook, ...more] = await webhooksAt(first);
    expect(more).toEqual([]);
    expect(webhook).toMatchObject({
      url: `${publicUrl}/api/v1/webhooks/ultravox?account=${id}`,
      events: ["call.started", "call.joined", "call.ended", "call.billed"],
    });
    const [row] = await accounts();
    expect(row).toMatchObject({
      status: "active",
      provider_name: "brought-1",
      provider_webhook_id: webhook!.webhookId,
    });
    expect(await forClient(h.ada)).toBe(id);
    expect(await forClient(h.bob)).toBe("pacc_platform");
  });

  test("contains new agents, and its own webhooks update its calls", async () => {
    const made = await h.post("/agents", agent);
    expect(made).toMatchObject({ status: 201 });
    const [row] = await h.owner`select provider_account_id from agents where id = ${made.body.data.id}`;
    const [account] = await accounts();
    expect(row!.provider_account_id).toBe(account!.id);
    const placed = await h.post("/calls", { agentId: made.body.data.id, medium: ringing });
    expect(placed).toMatchObject({ status: 201 });
    const [call] = await h.owner`select provider_call_id from calls where id = ${placed.body.data.id}`;
    await h.simulator.control(`calls/${call!.provider_call_id}/join`);
    await until(async () => (await h.get(`/calls/${placed.body.data.id}`)).body.data.status === "active", 45);
    const kept = await h.owner`select distinct provider_account_id, verified_by from ingress_events`;
    expect(kept).toEqual([{ provider_account_id: account!.id, verified_by: `${account!.id}#1` }]);
    await h.simulator.control(`calls/${call!.provider_call_id}/end`);
    await until(async () => (await h.get(`/calls/${placed.body.data.id}`)).body.data.status === "ended", 45);
  });

  test("accepts another key of the same account without a second webhook", async () => {
    const [before] = await accounts();
    const asked = await Promise.all([bring(first), bring(first), bring(first)]);
    expect(asked.map(({ status }) => status)).toEqual([200, 200, 200]);
    await idle();
    expect(await webhooksAt(first)).toHaveLength(1);
    const rows = await accounts();
    expect(rows.map(({ id, status }) => [id, status])).toEqual([[before!.id, "active"]]);
    expect(rows[0]!.webhook_secret).toEqual(before!.webhook_secret);
  });

  test("cannot be the shared account of the installation", async () => {
    for (const key of [h.env.ULTRAVOX_API_KEY, h.env.ULTRAVOX_ACCOUNTS[0]!.apiKey])
      expect(fault(await bring(key, bobs))).toEqual({ status: 422, code: "provider_account_in_use" });
    expect(await accounts(h.bob)).toHaveLength(0);
    expect(await h.owner`select from credentials where client_id = ${h.bob.clientId}`).toHaveLength(0);
  });

  test("belongs to one client, under sequential and concurrent requests", async () => {
    expect(fault(await bring(first, bobs))).toEqual({ status: 422, code: "provider_account_in_use" });
    expect(await accounts(h.bob)).toHaveLength(0);
    expect(await h.owner`select from credentials where client_id = ${h.bob.clientId}`).toHaveLength(0);
    expect(await webhooksAt(first)).toHaveLength(1);
  });

  test("with an invalid key is refused; if the provider is unavailable, nothing is saved", async () => {
    const [before] = await accounts();
    expect(fault(await bring("nobodys0.0123456789abcdef0123456789abcdef"))).toEqual({
      status: 422,
      code: "credential_refused",
    });
    await h.simulator.faults({ applyTo: "all", reads: { errors: [{ status: 503, times: 20 }] } });
    expect(fault(await bring(second, bobs))).toEqual({ status: 503, code: "provider_unavailable" });
    await h.simulator.faults({});
    expect((await accounts())[0]).toEqual(before);
    expect(await accounts(h.bob)).toHaveLength(0);
  });
});

describe("the receiver", () => {
  test("accepts events of an account only with its own secret, and of the shared account with that of the environment", async () => {
    const { url, secrets } = (await webhooksAt(first))[0]!;
    const event = { event: "call.started", call: { callId: "x" } };
    const plain = `${publicUrl}/api/v1/webhooks/ultravox`;
    const unknown = `${plain}?account=${newId("providerAccount")}`;
    expect(await post(url, secrets[0]!, event)).toBe(204);
    expect(await post(url, "platform-webhook-secret", event)).toBe(401);
    expect(await post(plain, secrets[0]!, event)).toBe(401);
    expect(await post(plain, "platform-webhook-secret", event)).toBe(204);
    expect(await post(`${plain}?account=pacc_other`, "other-webhook-secret", event)).toBe(204);
    expect(await post(`${plain}?account=pacc_other`, "platform-webhook-secret", event)).toBe(401);
    for (const address of [unknown, `${plain}?account=`, `${plain}?account='--`, `${url}&account=pacc_platform`]) {
      expect([address, await post(address, secrets[0]!, event)]).toEqual([address, 401]);
      expect([address, await post(address, "", event)]).toEqual([address, 401]);
    }
    const wrong = await fetch(url, { method: "POST", body: "{}" });
    const nobody = await fetch(unknown, { method: "POST", body: "{}" });
    const said = async (answer: Response) => {
      const { error } = (await answer.json()) as { error: Record<string, unknown> };
      return { status: answer.status, ...error, requestId: "" };
    };
    expect(await said(wrong)).toEqual(await said(nobody));
  });

  test("does not let an account update another's calls", async () => {
    const made = await h.post("/agents", agent, bobs);
    const placed = await h.post("/calls", { agentId: made.body.data.id, medium: ringing }, bobs);
    const bobsCall = placed.body.data.id;
    const [row] = await h.owner`select * from calls where id = ${bobsCall}`;
    expect(row!.provider_account_id).toBe("pacc_platform");
    const seen = await fetch(`${h.simulator.url}/api/calls/${row!.provider_call_id}`, {
      headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
    });
    const call = {
      ...((await seen.json()) as object),
      ended: new Date().toISOString(),
      endReason: "hangup",
      joined: new Date().toISOString(),
    };
    const { url, secrets } = (await webhooksAt(first))[0]!;
    const notes = () =>
      h.owner`select status, note from ingress_events where provider_account_id <> 'pacc_platform' and key = ${`call.ended:${row!.provider_call_id}`}`;
    expect(await post(url, secrets[0]!, { event: "call.ended", call })).toBe(204);
    const [note] = await until(async () => ((await notes())[0]?.status === "received" ? null : await notes()));
    expect(note).toEqual({ status: "ignored", note: "No call of this provider account." });
    expect((await h.get(`/calls/${bobsCall}`, bobs)).body.data.status).toBe(placed.body.data.status);
    // The same event from its own account updates it.
    expect(
      await post(`${publicUrl}/api/v1/webhooks/ultravox`, "platform-webhook-secret", { event: "call.ended", call }),
    ).toBe(204);
    await until(async () => (await h.get(`/calls/${bobsCall}`, bobs)).body.data.status === "ended");
  });
});

describe("the bill of a call in a client's own account", () => {
  type Sent = { billingStatus: string; billedDuration: string | null };
  const atProvider = (path: string, method = "GET") =>
    fetch(`${h.simulator.url}/api/calls/${path}`, { method, headers: { "x-api-key": first } });
  /** Sends a billing event signed with the account's own secret, and waits until it is processed. */
  async function tell(upstream: string, bill: object, sent: object) {
    const { url, secrets } = (await webhooksAt(first))[0]!;
    expect(await post(url, secrets[0]!, { event: "call.billed", call: { ...sent, ...bill } })).toBe(204);
    await until(async () => {
      const rows = await h.owner`select status from ingress_events where key like ${`call.billed:${upstream}%`}`;
      return rows.length > 0 && rows.every(({ status }) => status === "applied");
    });
  }

  test("is read from the provider, whatever events claim, in any number and order", async () => {
    const [{ id: agentId }] = (await h.owner`
      select id from agents where client_id = ${h.ada.clientId} and status = 'active'`) as never as [{ id: string }];
    const [{ id: before }] = (await h.owner`
      select id from calls where client_id = ${h.ada.clientId} order by id limit 1`) as never as [{ id: string }];
    await until(async () => (await callRow(h, before)).cost_micros !== null); // its billing event must arrive
    await h.simulator.faults({ webhooks: { lose: ["call.billed"] } }); // as if its owner had removed the webhook
    const placed = await h.post("/calls", { agentId, medium: { type: "web" }, recordingEnabled: false });
    const { id } = placed.body.data;
    const upstream = (await callRow(h, id)).provider_call_id!;
    await h.simulator.control(`calls/${upstream}/join`).catch(() => {}); // it may have been joined by now
    await until(async () => (await callRow(h, id)).status === "active");
    const sent = (await (await atProvider(upstream)).json()) as Sent;
    const free = { billingStatus: "BILLING_STATUS_FREE_OTHER", billedDuration: "0s" };
    const ended = { ended: new Date().toISOString(), endReason: "hangup" };

    await tell(upstream, free, { ...sent, ...ended });
    await until(async () => (await waitingJobs(h, "calls.refresh")).length === 0);
    expect(await callRow(h, id)).toMatchObject({ status: "ended", cost_micros: null, check_at: expect.any(Date) });
    expect((await h.get(`/calls/${id}`)).body.data.heldMicros).toBeGreaterThan(0);

    await h.simulator.control(`calls/${upstream}/end`);
    await h.simulator.control(`calls/${upstream}/bill`).catch(() => {});
    const { billedDuration } = (await (await atProvider(upstream)).json()) as Sent;
    expect(billedDuration).not.toBe("0s");
    // Again, while the provider is unavailable at first.
    await h.simulator.faults({ reads: { errors: [{ status: 503, times: 2 }] }, webhooks: { lose: ["call.billed"] } });
    const system = { billingStatus: "BILLING_STATUS_FREE_SYSTEM_ERROR", billedDuration: "0s" };
    await Promise.all([tell(upstream, system, sent), tell(upstream, { ...free, billedDuration: "6000s" }, sent)]);
    const billed = await until(async () => ((await callRow(h, id)).cost_micros === null ? null : await callRow(h, id)));
    expect(`${billed.billed_seconds}s`).toBe(billedDuration);
    expect(billed).toMatchObject({ billing_revision: 1, check_at: null });
    expect(Number(billed.cost_micros)).toBeGreaterThan(0);

    await until(async () => (await callRow(h, id)).outcome_final);
    expect((await atProvider(upstream, "DELETE")).status).toBe(204);
    await tell(upstream, { billingStatus: "BILLING_STATUS_REFUNDED" }, sent);
    await until(async () => (await waitingJobs(h, "calls.refresh")).length === 0);
    expect(await callRow(h, id), "a refund neither").toMatchObject({
      billing_revision: 1,
      cost_micros: billed.cost_micros,
    });
    await h.simulator.faults({});
  });
});

describe("keys of TTS providers", () => {
  const tts = (apiKey: string | null, ask?: object) =>
    h.patch("/auth/providers/tts", { provider: "elevenlabs", apiKey }, ask);

  test("are published to the client's own account, updated there and deleted there", async () => {
    await tts("sk_one_0123456789abcdef0123456789");
    await until(async () => (await ttsAt(first)).elevenLabs?.prefix === "sk_one");
    await tts("sk_two_0123456789abcdef0123456789");
    await until(async () => (await ttsAt(first)).elevenLabs?.prefix === "sk_two");
    await tts(null);
    await until(async () => (await ttsAt(first)).elevenLabs === undefined);
  });

  test("are never published to the shared account", async () => {
    await tts("sk_bob_0123456789abcdef0123456789", bobs);
    await idle();
    expect(await ttsAt(h.env.ULTRAVOX_API_KEY)).toEqual({});
    const { requests: asked } = await h.simulator.requests();
    const set = asked.filter(
      ({ method, path }: { method: string; path: string }) => method === "PATCH" && path.endsWith("tts_api_keys"),
    );
    expect(new Set(set.map(({ account }: { account: string }) => account))).toEqual(new Set(["brought-1"]));
  });

  test("that were saved before are published to a later account", async () => {
    await brought(second, bobs);
    await until(async () => (await ttsAt(second)).elevenLabs?.prefix === "sk_bob");
  });
});

describe("deleting the account", () => {
  test("is refused during calls and while it contains resources; with force it removes webhook and key", async () => {
    const [account] = await accounts();
    const [made] =
      await h.owner`select id from agents where client_id = ${h.ada.clientId} and provider_account_id = ${account!.id}`;
    const placed = await h.post("/calls", { agentId: made!.id, medium: ringing });
    const live = await h.remove("/auth/providers/ultravox?force=true");
    expect(fault(live)).toEqual({ status: 409, code: "credential_in_use" });
    expect(live.body.error.details).toMatchObject([{ path: "calls" }]);
    const [call] = await h.owner`select provider_call_id from calls where id = ${placed.body.data.id}`;
    await h.simulator.control(`calls/${call!.provider_call_id}/join`);
    await h.simulator.control(`calls/${call!.provider_call_id}/end`);
    await until(async () => (await h.get(`/calls/${placed.body.data.id}`)).body.data.status === "ended", 45);

    const refused = await h.remove("/auth/providers/ultravox");
    expect(fault(refused)).toEqual({ status: 409, code: "credential_in_use" });
    expect(refused.body.error.details).toMatchObject([{ path: "agents", id: made!.id, name: "Reception" }]);
    expect(await webhooksAt(first)).toHaveLength(1);

    expect(await h.remove("/auth/providers/ultravox?force=true")).toMatchObject({ status: 204 });
    expect(await forClient(h.ada)).toBe("pacc_platform");
    await until(async () => (await webhooksAt(first)).length === 0);
    const gone = await until(async () => {
      const [row] = await accounts();
      return row!.api_key === null ? row : null;
    });
    expect(gone).toMatchObject({ status: "retired", webhook_secret: null, provider_webhook_id: null });
    expect(fault(await h.patch(`/agents/${made!.id}`, { name: "Later" }))).toMatchObject({
      status: 422,
      code: "provider_rejected",
    });
    expect(await h.post("/agents", agent)).toMatchObject({ status: 201 });
  });

  test("frees the account for another client", async () => {
    const again = await bring(first, bobs); // Bob has the other one, which is empty
    expect(again).toMatchObject({ status: 200 });
    await until(async () => (await webhooksAt(first)).length === 1 && (await webhooksAt(second)).length === 0);
    const rows = await accounts(h.bob);
    expect(rows.map(({ status, provider_name }) => [status, provider_name])).toEqual([
      ["retired", "brought-2"],
      ["active", "brought-1"],
    ]);
  });

  test("an account saved by two clients concurrently belongs to one", async () => {
    await h.remove("/auth/providers/ultravox?force=true");
    const answers = await Promise.all([bring(second), bring(second, bobs)]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 422]);
    const active =
      await h.owner`select client_id from provider_accounts where status = 'active' and provider_name = 'brought-2'`;
    expect(active).toHaveLength(1);
  });
});

describe("after an account is deleted", () => {
  const account = async (id: string) => (await h.owner`select * from provider_accounts where id = ${id}`)[0]!;
  const forgotten = (id: string) => until(async () => (await account(id)).api_key === null);
  const holdOf = async (id: string) => (await h.owner`select * from holds where subject_id = ${id}`)[0]!;
  const lostBills = { webhooks: { lose: ["call.billed"] } };
  let ask: { key: string };

  beforeAll(async () => {
    for (const who of [{}, bobs]) await h.remove("/auth/providers/ultravox?force=true", who);
    ask = { key: (await seedClient(h.deps, { name: "Carol", subject: "auth0|carol", credits: 1000 })).key };
  });
  afterAll(() => h.simulator.faults({}));

  /** An ended call without a billing event. */
  async function unbilledCall() {
    await h.simulator.faults(lostBills);
    const accountId = await brought(first, ask);
    const agentId = await makeAgent(h, {}, ask.key);
    const asked = { agentId, medium: ringing, recordingEnabled: false };
    const { id } = (await h.post("/calls", asked, ask)).body.data as { id: string };
    const { provider_call_id: upstream } = await callRow(h, id);
    await h.simulator.control(`calls/${upstream}/join`);
    const joined = Date.now();
    await until(async () => Date.now() - joined > 1_600); // talk time
    await h.simulator.control(`calls/${upstream}/end`);
    await until(async () => (await callRow(h, id)).outcome_final);
    expect((await callRow(h, id)).cost_micros).toBeNull();
    return { accountId, agentId, id, upstream: upstream! };
  }

  /** Skips to the last attempt. */
  async function lastAttempt(task: string) {
    await h.owner`update graphile_worker._private_jobs j set payload = jsonb_set(payload::jsonb, '{attempt}', '99')::json
      from graphile_worker._private_tasks t where t.id = j.task_id and t.identifier = ${task} and j.locked_at is null`;
    await hurry(h, task);
  }

  test("its calls are billed first, and pending deletions are done at the provider", async () => {
    const { accountId, agentId, id } = await unbilledCall();
    await h.simulator.faults({ ...lostBills, applyTo: "agents", changes: { errors: [{ status: 503, times: 50 }] } });
    expect(await h.remove(`/agents/${agentId}`, ask)).toMatchObject({ status: 204 });
    const refused = await h.remove("/auth/providers/ultravox", ask);
    expect(fault(refused)).toEqual({ status: 409, code: "credential_in_use" });
    expect(refused.body.error.details).toMatchObject([{ path: "calls", id, name: "ended" }]);

    await sweepUntilBilled(h, id);
    expect(await h.remove("/auth/providers/ultravox", ask)).toMatchObject({ status: 204 });
    await until(async () => (await waitingJobs(h, "accounts.disconnect")).some(({ payload }) => payload.attempt > 0));
    expect(await account(accountId)).toMatchObject({ status: "retired", api_key: expect.any(Buffer) });
    const [agentRow] = await h.owner`select provider_agent_id from agents where id = ${agentId}`;
    const there = () =>
      fetch(`${h.simulator.url}/api/agents/${agentRow!.provider_agent_id}`, { headers: { "x-api-key": first } });
    expect((await there()).status).toBe(200);
    await h.simulator.faults({});
    await hurry(h, "upstream.remove");
    await forgotten(accountId);
    expect((await there()).status).toBe(404);
  });

  test("with force the key is kept until calls are billed by the cost from the provider", async () => {
    const { accountId, id, upstream } = await unbilledCall();
    expect(await h.remove("/auth/providers/ultravox?force=true", ask)).toMatchObject({ status: 204 });
    await until(async () => (await waitingJobs(h, "accounts.disconnect")).some(({ payload }) => payload.attempt > 0));
    expect(await account(accountId)).toMatchObject({ status: "retired", api_key: expect.any(Buffer) });
    await h.simulator.control(`calls/${upstream}/bill`).catch(() => {}); // it may have been billed by now
    await sweepUntilBilled(h, id);
    await hurry(h, "accounts.disconnect");
    await forgotten(accountId);
    expect(await callRow(h, id)).toMatchObject({ billed_seconds: 6, billing_revision: 1, check_at: null });
    expect(await holdOf(id)).toMatchObject({ status: "settled" });
    await expectSoundBooks(h);
  });

  test("a call without a cost from the provider is billed by its talk time, with an audit entry", async () => {
    const { accountId, id } = await unbilledCall();
    expect(await h.remove("/auth/providers/ultravox?force=true", ask)).toMatchObject({ status: 204 });
    await until(async () => (await waitingJobs(h, "accounts.disconnect")).length > 0);
    await until(async () => {
      await lastAttempt("accounts.disconnect");
      return (await account(accountId)).api_key === null;
    });
    await expectClosed(id, accountId);
  });

  test("an unbilled call whose account key was deleted is billed by its talk time", async () => {
    const { accountId, id } = await unbilledCall();
    await h.owner`update provider_accounts set status = 'retired', api_key = null where id = ${accountId}`;
    await sweepNow(h);
    await until(async () => {
      await lastAttempt("calls.refresh");
      return (await callRow(h, id)).cost_micros !== null;
    });
    await expectClosed(id, accountId);
  });

  async function expectClosed(id: string, providerAccountId: string) {
    const row = await until(async () => ((await callRow(h, id)).cost_micros === null ? null : await callRow(h, id)));
    const [{ seconds }] = (await h.owner`
      select duration_seconds as seconds from calls where id = ${id}`) as never as [{ seconds: number }];
    expect(seconds).toBeGreaterThan(0);
    const costMicros = 900_000 + 150_000; // per started six seconds, for talk and telephony
    expect(row).toMatchObject({ billed_seconds: seconds, sip_billed_seconds: seconds, check_at: null });
    expect(Number(row.cost_micros)).toBe(costMicros);
    expect(await holdOf(id)).toMatchObject({ status: "settled", captured_micros: `${costMicros}` });
    const entries =
      await h.owner`select actor, action, input from audit_log where subject_id = ${id} and actor = 'system'`;
    const input = { reason: "account_forgotten", providerAccountId, seconds, costMicros };
    expect(entries).toEqual([{ actor: "system", action: "calls.settle", input }]);
    await expectSoundBooks(h);
  }
});

/** Waits until no job for accounts is left. */
const idle = () =>
  until(async () => {
    const left =
      await h.owner`select from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
      where t.identifier like 'accounts.%' or t.identifier = 'credentials.publish'`;
    return left.length === 0;
  });
