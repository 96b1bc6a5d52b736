import { afterEach, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  finished,
  hurry,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
  storyOf,
  sweepUntilBilled,
  waitingJobs,
} from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100, credits: 50_000 });
const agentId = await makeAgent(h);
const provider = h.deps.providers.ultravox;
const everything = ["call.started", "call.joined", "call.ended", "call.billed"] as const;

afterEach(() => h.simulator.faults({}));

async function place(to = "+14155550100", more: object = {}): Promise<string> {
  const { body } = await h.post("/calls", { agentId, medium: phone(to), ...more });
  if (!body.data) throw new Error(JSON.stringify(body));
  return body.data.id;
}
const shown = async (id: string) => (await h.get(`/calls/${id}`)).body.data;
const active = (id: string) => until(async () => (await callRow(h, id)).status === "active");

describe("refresh", () => {
  test("applies the provider's state after lost webhooks, and returns the call", async () => {
    await h.simulator.faults({ webhooks: { lose: everything } });
    const id = await place();
    const { provider_call_id } = await callRow(h, id);
    await until(
      async () => (await provider.getCall(platformAccount, provider_call_id!, inTime()))?.billing === "final",
    );
    expect((await callRow(h, id)).status).toBe("ringing");
    const answers = await Promise.all([1, 2, 3].map(() => h.post(`/calls/${id}/refresh`, {})));
    for (const { status, body } of answers) {
      expect(status).toBe(200);
      expect(body.data).toMatchObject({ id, status: "ended", endReason: "agent_hangup", heldMicros: null });
      expect(body.data.costMicros).toBeGreaterThan(0);
    }
    expect((await finished(h, id)).billing_revision).toBe(1);
    expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "settlement"]);
    expect((await storyOf(h, id)).filter((type) => type === "call.ended")).toHaveLength(1);
  });

  test("returns 503 and changes nothing if the provider is unavailable; a call that never reached the provider is returned unchanged", async () => {
    const id = await place("+14155550014");
    await h.simulator.faults({ reads: { errors: [{ status: 503, times: 50 }] } });
    const refused = await h.post(`/calls/${id}/refresh`, {});
    expect(refused).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
    await h.simulator.faults({});
    expect(await shown(id)).toMatchObject({ status: "ringing" });
    await h.post("/calls", { agentId, medium: phone("+14155550006") });
    const [failed] = (await h.get("/calls?status=failed&limit=1")).body.data;
    expect((await h.post(`/calls/${failed.id}/refresh`, {})).body.data).toEqual(failed);
  });
});

describe("hanging up", () => {
  test("ends an active call, once per idempotency key", async () => {
    const id = await place("+14155550015");
    await active(id);
    const once = await h.post(`/calls/${id}/hangup`, {}, { idempotencyKey: "hang-1" });
    expect(once).toMatchObject({ status: 200, body: { data: { id } } });
    const again = await h.post(`/calls/${id}/hangup`, {}, { idempotencyKey: "hang-1" });
    expect(again.body.data).toEqual(once.body.data);
    expect(await finished(h, id)).toMatchObject({ outcome: "completed", end_reason: "agent_hangup" });
    expect(await h.post(`/calls/${id}/hangup`, {})).toMatchObject({
      status: 409,
      body: { error: { code: "call_not_joined" } },
    });
    const audited = await h.owner`select action from audit_log where subject_id = ${id} and action = 'calls.hangUp'`;
    expect(audited).toHaveLength(1);
  });

  test("a ringing call cannot be ended, but with whenJoined it is ended when answered", async () => {
    const id = await place("+14155550014");
    const refused = await h.post(`/calls/${id}/hangup`, {});
    expect(refused).toMatchObject({ status: 409, body: { error: { code: "call_not_joined" } } });
    expect(refused.body.error.message).toMatch(/whenJoined/);
    const { provider_call_id } = await callRow(h, id);
    expect((await h.post(`/calls/${id}/hangup`, { whenJoined: true })).status).toBe(200);
    expect(await callRow(h, id)).toMatchObject({ status: "ringing", hang_up_when_joined: true });
    const hangUpRequests = async () => {
      const { requests } = await h.simulator.requests();
      return requests.filter(({ path }: { path: string }) => path.endsWith(`${provider_call_id}/send_data_message`))
        .length;
    };
    const before = await hangUpRequests();
    // If it ends by itself meanwhile, no event reports it.
    await h.simulator.faults({ webhooks: { lose: ["call.ended", "call.billed"] } });
    await h.simulator.control(`calls/${provider_call_id}/join`);
    await until(async () => (await hangUpRequests()) === before + 1);
    await sweepUntilBilled(h, id);
    expect(await finished(h, id)).toMatchObject({ status: "ended", end_reason: "agent_hangup" });
    await expectSoundBooks(h);
  });

  test("a call answered at the provider before its event arrives is hung up immediately", async () => {
    await h.simulator.faults({ webhooks: { lose: ["call.joined"] } });
    const id = await place("+14155550015");
    const { provider_call_id } = await callRow(h, id);
    await until(async () => (await provider.getCall(platformAccount, provider_call_id!, inTime()))?.joinedAt);
    expect(await callRow(h, id)).toMatchObject({ status: "ringing" });
    expect((await h.post(`/calls/${id}/hangup`, {})).status).toBe(200);
    expect(await finished(h, id)).toMatchObject({ status: "ended", end_reason: "agent_hangup" });
  });

  test("a provider failure returns an error, and the call continues", async () => {
    const id = await place("+14155550015");
    await active(id);
    const { hangUp } = provider;
    provider.hangUp = async (account, _call, deadline) =>
      hangUp(account, "00000000-0000-4000-8000-00000000dead", deadline);
    try {
      const failed = await h.post(`/calls/${id}/hangup`, {});
      expect(failed).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });
    } finally {
      provider.hangUp = hangUp;
    }
    expect(await callRow(h, id)).toMatchObject({ status: "active" });
    expect((await h.post(`/calls/${id}/hangup`, {})).status).toBe(200);
    await finished(h, id);
  });
});

describe("erasing", () => {
  const contentOf = (id: string) => h.owner`
    select (select count(*) from call_messages where call_id = ${id})::int as messages,
           (select count(*) from call_words where call_id = ${id})::int as words,
           (select count(*) from call_pairs where call_id = ${id})::int as pairs`;

  test("removes the content and the parties, keeps the cost, and is idempotent", async () => {
    const id = await place("+14155550100", { metadata: { order: "erase-me" } });
    const before = await finished(h, id);
    await until(async () => (await shown(id)).recordingStatus !== "pending");
    expect((await contentOf(id))[0]).toMatchObject({ messages: expect.any(Number), pairs: 1 });
    const [postings, story] = [await postingsOf(h, id), await storyOf(h, id)];
    expect((await h.remove(`/calls/${id}`)).status).toBe(204);
    expect((await h.remove(`/calls/${id}`)).status).toBe(204);
    expect((await contentOf(id))[0]).toEqual({ messages: 0, words: 0, pairs: 0 });
    const after = await shown(id);
    expect(after).toMatchObject({
      to: "+14*******00",
      from: "+14*******99",
      metadata: {},
      variables: {},
      summary: null,
      transcriptStatus: "erased",
      output: null,
      status: "ended",
      costMicros: Number(before.cost_micros),
      erasedAt: expect.any(String),
    });
    expect(["erased", "none"]).toContain(after.recordingStatus);
    const transcript = await h.get(`/calls/${id}/transcript`);
    expect(transcript).toMatchObject({ status: 200, body: { data: { status: "erased", messages: [], text: "" } } });
    const [row] = await h.owner`select to_jsonb(c)::text as text from calls c where id = ${id}`;
    for (const gone of ["14155550100", "erase-me"]) expect(row!.text).not.toContain(gone);
    expect((await h.get("/calls?metadata=order:erase-me")).body.data).toEqual([]);
    expect(await postingsOf(h, id)).toEqual(postings);
    expect(await storyOf(h, id)).toEqual(story);
    const audited = await h.owner`select 1 from audit_log where subject_id = ${id} and action = 'calls.remove'`;
    expect(audited).toHaveLength(2);
    await until(async () => (await provider.getCall(platformAccount, before.provider_call_id!, inTime())) === null);
    await expectSoundBooks(h);
  });

  test("returns 409 for a call that has not ended or is still being read, and changes nothing", async () => {
    const ringing = await place("+14155550014");
    const talking = await place("+14155550015");
    await active(talking);
    for (const id of [ringing, talking]) {
      expect(await h.remove(`/calls/${id}`)).toMatchObject({
        status: 409,
        body: { error: { code: "call_not_ended" } },
      });
      expect(await shown(id)).toMatchObject({ erasedAt: null, to: expect.stringMatching(/^\+1415555/) });
    }
    await h.owner`update calls set status = 'ended' where id = ${ringing}`;
    expect((await h.remove(`/calls/${ringing}`)).status).toBe(409);
    await h.post(`/calls/${talking}/hangup`, {});
    await h.post("/calls", { agentId, medium: phone("+14155550006") });
    const [failed] = (await h.get("/calls?status=failed&limit=1")).body.data;
    expect((await h.remove(`/calls/${failed.id}`)).status).toBe(204);
  });

  test("a later bill is settled, restores nothing, and only then the provider's copy is erased", async () => {
    await h.simulator.faults({ webhooks: { lose: ["call.billed"] } });
    const id = await place();
    await until(async () => (await callRow(h, id)).outcome_final);
    const { provider_call_id } = await callRow(h, id);
    await until(
      async () => (await provider.getCall(platformAccount, provider_call_id!, inTime()))?.billing === "final",
    );
    expect((await h.remove(`/calls/${id}`)).status).toBe(204);
    expect(await waitingJobs(h, "calls.eraseUpstream")).toEqual([]);
    expect(await provider.getCall(platformAccount, provider_call_id!, inTime())).not.toBeNull();
    await h.simulator.control("webhooks/resend", { callId: provider_call_id, event: "call.billed" });
    const row = await finished(h, id);
    expect(Number(row.cost_micros)).toBeGreaterThan(0);
    expect(row.summary).toBeNull();
    await until(async () => (await provider.getCall(platformAccount, provider_call_id!, inTime())) === null);
    expect(await shown(id)).toMatchObject({ transcriptStatus: "erased", summary: null });
    await expectSoundBooks(h);
  });

  test("an unavailable provider is retried until its copy is erased", async () => {
    const id = await place();
    const { provider_call_id } = await finished(h, id);
    const { deleteCall } = provider;
    let attempts = 0;
    provider.deleteCall = async (...of) => {
      attempts += 1;
      if (attempts < 3) return attempts === 1 ? "ongoing" : Promise.reject(new Error("away"));
      return deleteCall(...of);
    };
    try {
      await h.remove(`/calls/${id}`);
      await until(async () => {
        await hurry(h, "calls.eraseUpstream");
        return attempts >= 3 && (await provider.getCall(platformAccount, provider_call_id!, inTime())) === null;
      });
    } finally {
      provider.deleteCall = deleteCall;
    }
  });
});

test("the cost lines of a call, one per service, add up to its cost", async () => {
  const id = await place();
  await finished(h, id);
  const { costMicros, costLines, billedSeconds, durationSeconds } = await shown(id);
  expect(costLines).toMatchObject([
    { kind: "conversation", seconds: billedSeconds, microsPerMinute: 9_000_000 },
    { kind: "telephone", microsPerMinute: 1_500_000 },
  ]);
  expect(costLines.reduce((sum: number, line: { amountMicros: number }) => sum + line.amountMicros, 0)).toBe(
    costMicros,
  );
  expect(durationSeconds).toBeGreaterThan(30);
  const unanswered = await place("+14155550001");
  await finished(h, unanswered);
  expect(await shown(unanswered)).toMatchObject({ durationSeconds: 0, costLines: [{ kind: "telephone" }] });
  const [listed] = (await h.get("/calls?limit=1")).body.data;
  expect(listed).toEqual(await shown(unanswered));
});

test("a call of another client cannot be refreshed, hung up, erased or exported", async () => {
  const id = await place("+14155550015");
  await active(id);
  const key = { key: h.bob.key };
  for (const response of [
    await h.post(`/calls/${id}/refresh`, {}, key),
    await h.post(`/calls/${id}/hangup`, { whenJoined: true }, key),
    await h.remove(`/calls/${id}`, key),
  ]) {
    expect(response).toMatchObject({ status: 404, body: { error: { code: "call_not_found" } } });
  }
  expect((await h.get("/calls/export", key)).body).not.toContain(id);
  expect(await callRow(h, id)).toMatchObject({ status: "active" });
  expect((await h.get(`/calls/export?agentId=${newId("agent")}`, key)).status).toBe(404);
  await h.post(`/calls/${id}/hangup`, {});
});
