import { afterEach, expect, test } from "vitest";
import { finaliseCall } from "../../routers/calls/service.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  expectStory,
  finished,
  hurry,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
  queueSystemJob,
  storyOf,
  waitingJobs,
} from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100 });
const agentId = await makeAgent(h);
const provider = h.deps.providers.ultravox;

afterEach(() => h.simulator.faults({}));

const place = async (medium: object, more: object = {}): Promise<string> => {
  const { status, body } = await h.post("/calls", { agentId, medium, ...more });
  expect(status).toBe(201);
  return body.data.id;
};

/** The cost by the provider's bill: 9 credits per minute of conversation, 1.5 per minute of line. */
async function costBy(providerCallId: string): Promise<number> {
  const seen = (await provider.getCall(platformAccount, providerCallId, inTime()))!;
  expect(seen.billing).toBe("final");
  return ((seen.billedSeconds ?? 0) * 9_000_000 + (seen.sipBilledSeconds ?? 0) * 1_500_000) / 60;
}

const reached = { joined: true, last: "call.completed" };
const dropped = { joined: true, last: "call.failed" };
const unanswered = { joined: false, last: "call.failed" };
const silent = { joined: true, last: "call.failed", said: false };

const table = [
  ["0000", "completed", "agent_hangup", reached],
  ["0001", "busy", "unjoined", unanswered],
  ["0002", "no_answer", "unjoined", unanswered],
  ["0003", "voicemail", "agent_hangup", reached],
  ["0004", "invalid_number", "unjoined", unanswered],
  ["0005", "failed", "connection_error", dropped],
  ["0008", "completed", "timeout", reached],
  ["0009", "no_answer", "hangup", silent],
  ["0010", "completed", "hangup", reached],
  ["0011", "failed", "system_error", dropped],
  ["0012", "rejected", "unjoined", unanswered],
  ["0013", "no_answer", "unjoined", unanswered],
] as const;

test.for(table)("a number ending in %s: %s (%s)", async ([ending, outcome, endReason, story]) => {
  const id = await place(phone(`+1415555${ending}`));
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", outcome, end_reason: endReason, failure_reason: null, check_at: null });
  await expectStory(h, id, story);
  const due = await costBy(row.provider_call_id!);
  expect(Number(row.cost_micros)).toBe(due);
  if (!story.joined) expect(row.billed_seconds, "an unanswered call costs only its line").toBe(0);
  const postings = await postingsOf(h, id);
  expect(postings.map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  expect(postings.reduce((sum, [, available]) => sum + available, 0)).toBe(-due);
  const transcript = await h.get(`/calls/${id}/transcript`);
  const isSpoken = story.joined && row.joined_at! < row.ended_at!;
  expect(transcript.body.data.messages.length > 0).toBe(isSpoken);
  expect(transcript.body.data.status).toBe(isSpoken ? "ready" : "missing");
  const shown = await h.get(`/calls/${id}`);
  expect(shown.body.data).toMatchObject({
    status: "ended",
    outcome,
    outcomeFinal: true,
    costMicros: due,
    heldMicros: null,
  });
  const [last] = await h.owner`select data from events where subject_id = ${id} and type = ${story.last}`;
  expect(last!.data).toMatchObject({ outcome, outcomeFinal: true });
  await expectSoundBooks(h);
});

test("a call that is rejected, one that rings until it is ended, and one that talks until it is ended", async () => {
  const refused = await h.post("/calls", { agentId, medium: phone("+14155550006") });
  expect(refused).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });

  const ringing = await place(phone("+14155550014"));
  const { provider_call_id } = await callRow(h, ringing);
  expect((await callRow(h, ringing)).status).toBe("ringing");
  await h.simulator.control(`calls/${provider_call_id}/end`);
  expect(await finished(h, ringing)).toMatchObject({ status: "ended", outcome: "no_answer" });
  await expectStory(h, ringing, unanswered);

  const talking = await place(phone("+14155550015"));
  await until(async () => (await callRow(h, talking)).status === "active");
  expect((await h.get(`/calls/${talking}/transcript`)).body.error.code).toBe("call_not_ended");
  const { provider_call_id: live } = await callRow(h, talking);
  await h.simulator.control(`calls/${live}/end`, { endReason: "connection_error" });
  expect(await finished(h, talking)).toMatchObject({
    status: "ended",
    outcome: "failed",
    end_reason: "connection_error",
  });
  await expectStory(h, talking, dropped);
});

test.for(["twilio", "telnyx", "plivo"])(
  "%s gives no reason for an unanswered call: no_answer, and no line is billed",
  async (carrier) => {
    const id = await place({ ...phone("+14155550001"), carrier });
    const row = await finished(h, id);
    expect(row).toMatchObject({ outcome: "no_answer", end_reason: "unjoined", sip_billed_seconds: 0 });
    expect(Number(row.cost_micros)).toBe(0);
    expect(await postingsOf(h, id)).toEqual([
      ["hold", -26_250_000],
      ["settlement", 26_250_000],
    ]);
    expect((await storyOf(h, id)).at(-1)).not.toBe("call.completed");
  },
);

test("a web call is joined at its URL, and no line is billed", async () => {
  const id = await place({ type: "web" });
  const row = await finished(h, id);
  expect(row).toMatchObject({ outcome: "completed", end_reason: "hangup", sip_billed_seconds: 0 });
  expect(Number(row.cost_micros)).toBe(await costBy(row.provider_call_id!));
  expect((await h.get(`/calls/${id}`)).body.data.joinUrl).toContain("/join/");
});

/** Who answers, the voicemail setting, whether hanging up is allowed, the tool that the agent used, and the result. */
const machines = [
  ["a machine", { behaviour: "hang_up" }, false, "hangUp", "voicemail", "call.failed"],
  ["a machine", { behaviour: "hang_up" }, true, "hangUpOnVoicemail", "voicemail", "call.failed"],
  ["a machine", { behaviour: "leave_message" }, false, "leaveVoicemail", "voicemail", "call.completed"],
  ["a machine", { behaviour: "leave_message" }, true, "leaveVoicemail", "voicemail", "call.completed"],
  ["a machine", { behaviour: "ignore" }, false, "leaveVoicemail", "voicemail", "call.completed"],
  ["a person", { behaviour: "hang_up" }, false, null, "completed", "call.completed"],
  ["a person", { behaviour: "hang_up" }, true, "hangUp", "completed", "call.completed"],
  ["a person", { behaviour: "leave_message" }, true, "hangUp", "completed", "call.completed"],
  ["a person", { behaviour: "ignore" }, true, "hangUp", "completed", "call.completed"],
] as const;

test.for(machines)("%s answers an agent with %j, hanging up allowed: %s, tool used: %s", async (row) => {
  const [who, voicemail, hangUpEnabled, tool, outcome, last] = row;
  const own = await makeAgent(h, { voicemail, hangUpEnabled, recordingEnabled: false });
  const place = (to: string) => h.post("/calls", { agentId: own, medium: phone(to) });
  let id: string;
  if (who === "a machine") id = (await place("+14155550003")).body.data.id;
  else {
    id = (await place("+14155550015")).body.data.id;
    await until(async () => (await callRow(h, id)).status === "active");
    const { provider_call_id } = await callRow(h, id);
    if (tool) await h.simulator.control(`calls/${provider_call_id}/tool`, { name: tool });
    await h.simulator.control(`calls/${provider_call_id}/end`, { endReason: "agent_hangup" });
  }
  expect(await finished(h, id)).toMatchObject({ status: "ended", outcome });
  await expectStory(h, id, { joined: true, last });
  const messages = (await h.get(`/calls/${id}/transcript`)).body.data.messages;
  const tools = messages.flatMap(({ toolName }: { toolName: string | null }) => toolName ?? []);
  expect(tools.includes(tool ?? "none")).toBe(tool !== null);
});

test("an agent that hangs up on a machine with its hangUp tool has reached a voicemail", async () => {
  const own = await makeAgent(h, { voicemail: { behaviour: "hang_up" }, recordingEnabled: false });
  const { body } = await h.post("/calls", { agentId: own, medium: phone("+14155550015") });
  const { id } = body.data;
  await until(async () => (await callRow(h, id)).status === "active");
  const { provider_call_id } = await callRow(h, id);
  await h.simulator.control(`calls/${provider_call_id}/tool`, { name: "hangUp" });
  await h.simulator.control(`calls/${provider_call_id}/end`, { endReason: "agent_hangup" });
  expect(await finished(h, id)).toMatchObject({ outcome: "voicemail", outcome_final: true });
  expect(await storyOf(h, id)).not.toContain("call.completed");
  const [failed] = await h.owner`select data from events where subject_id = ${id} and type = 'call.failed'`;
  expect(failed!.data).toMatchObject({ outcome: "voicemail", outcomeFinal: true });
});

test("an unanswered call has no transcript, emits no transcript event and starts no backfill", async () => {
  const id = await place(phone("+14155550002"), { recordingEnabled: false });
  await finished(h, id);
  expect((await h.get(`/calls/${id}`)).body.data.transcriptStatus).toBe("missing");
  expect(await storyOf(h, id)).not.toContain("call.transcript.ready");
  await h.owner`update calls set ended_at = now() - interval '1 hour' where id = ${id}`;
  await queueSystemJob(h, "artifacts.sweep");
  await until(async () => (await waitingJobs(h, "artifacts.sweep")).length === 0);
  await until(async () => (await waitingJobs(h, "artifacts.backfill")).length === 0);
  expect(await h.owner`select id from workflow_runs where subject_id = ${id}`).toEqual([]);
});

test("a voicemail is known only after the messages were read", async () => {
  const { listMessages } = provider;
  const { promise: read, resolve: letRead } = Promise.withResolvers<void>();
  provider.listMessages = async (...args) => {
    await read;
    return listMessages(...args);
  };
  try {
    const id = await place(phone("+14155550003"));
    await until(async () => (await callRow(h, id)).cost_micros !== null);
    expect(await callRow(h, id)).toMatchObject({ outcome: "completed", outcome_final: false });
    expect(await storyOf(h, id)).not.toContain("call.completed");
    expect((await h.get(`/calls/${id}/transcript`)).body.error.code).toBe("call_not_ended");
    letRead();
    expect(await finished(h, id)).toMatchObject({ outcome: "voicemail", outcome_final: true });
    await expectStory(h, id, reached);
  } finally {
    provider.listMessages = listMessages;
  }
});

test("unreadable messages are retried on the schedule; then the provisional outcome is final", async () => {
  const { listMessages } = provider;
  let [reads, allowed] = [0, 1];
  provider.listMessages = async (account, providerCallId, deadline) => {
    await until(async () => reads < allowed);
    reads++;
    // The response is 404, which is not retried within the request.
    return listMessages(account, `${providerCallId}-gone`, deadline);
  };
  try {
    const id = await place(phone("+14155550003"));
    await until(async () => (await callRow(h, id)).cost_micros !== null);
    for (let attempt = 1; attempt < 8; attempt++) {
      await until(async () => {
        const [job] = await waitingJobs(h, "calls.finalise");
        return job?.payload.attempt === attempt;
      });
      expect(reads).toBe(attempt);
      expect(await callRow(h, id)).toMatchObject({ outcome: "completed", outcome_final: false });
      allowed++;
      await hurry(h, "calls.finalise");
    }
    expect(await finished(h, id)).toMatchObject({ outcome: "completed", outcome_final: true });
    expect(reads).toBe(8);
    const story = await storyOf(h, id);
    expect(story).not.toContain("call.transcript.ready");
    expect(story.filter((type) => type === "call.completed")).toHaveLength(1);
  } finally {
    provider.listMessages = listMessages;
  }
});

test("messages read at the second attempt are stored once", async () => {
  const { listMessages } = provider;
  let reads = 0;
  provider.listMessages = async (account, providerCallId, deadline) => {
    reads++;
    return listMessages(account, reads === 1 ? `${providerCallId}-gone` : providerCallId, deadline);
  };
  try {
    const id = await place(phone("+14155550003"));
    await until(async () => {
      await hurry(h, "calls.finalise");
      return (await callRow(h, id)).outcome_final;
    });
    expect(reads).toBe(2);
    expect(await finished(h, id)).toMatchObject({ outcome: "voicemail" });
    const [stored] = await h.owner`select count(*)::int as messages from call_messages where call_id = ${id}`;
    expect(stored!.messages).toBe(4);
    await expectStory(h, id, reached);
  } finally {
    provider.listMessages = listMessages;
  }
});

test("finalising a call again changes nothing", async () => {
  const id = await place(phone("+14155550003"), { recordingEnabled: false });
  await finished(h, id);
  const [before, story] = [await callRow(h, id), await storyOf(h, id)];
  const clientId = h.ada.clientId;
  await h.deps.db.asClient({ clientId }, (tx) => finaliseCall(tx, id, null));
  await h.deps.db.asClient({ clientId }, (tx) => finaliseCall(tx, id, []));
  expect(await callRow(h, id)).toEqual(before);
  expect(await storyOf(h, id)).toEqual(story);
});
