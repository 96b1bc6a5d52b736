import { afterEach, expect, test } from "vitest";
import { startTestApp, until } from "../support/app.ts";
import { agentThat, artifactRow, called, calledWith, lookFor, recorded } from "../support/artifacts.ts";
import { hurry, queueSystemJob, storyOf, waitingJobs } from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100, credits: 10_000 });
afterEach(() => h.simulator.faults({}));

const outputSchema = { type: "object", properties: { x: {} } };
const words = async (id: string) => (await h.owner`select from call_words where call_id = ${id}`).length;
const messages = async (id: string) => (await h.owner`select from call_messages where call_id = ${id}`).length;

/** Simulates that days have passed. */
async function later(days: number, ...ids: string[]) {
  await h.owner`update calls set transcript_until = transcript_until - make_interval(days => ${days}),
    recording_until = recording_until - make_interval(days => ${days}) where id = any(${ids})`;
}

async function sweep() {
  await queueSystemJob(h, "retention.sweep");
  await until(
    async () =>
      (await waitingJobs(h, "retention.sweep")).length + (await waitingJobs(h, "retention.erase")).length === 0,
  );
}

const upstream = async (id: string) => {
  const { provider_call_id } = await artifactRow(h, id);
  return h.deps.providers.ultravox.getCall("pacc_platform", provider_call_id, { signal: AbortSignal.timeout(5_000) });
};

test("transcript and recording are erased after their retention, not before; the call and its cost stay", async () => {
  const agentId = await agentThat(h, { outputSchema, retention: { transcriptDays: 3, recordingDays: 10 } });
  const { id } = await calledWith(h, agentId, [{ name: "t", arguments: { x: 1 }, state: { s: 1 } }]);
  const call = await recorded(h, id);
  const days = (until: Date | null) => (until!.getTime() - call.ended_at!.getTime()) / 86_400_000;
  expect([days(call.transcript_until), days(call.recording_until)]).toEqual([3, 10]);
  expect(call).toMatchObject({ output: { x: 1 }, final_state: { s: 1 }, summary: expect.any(String) });
  const story = await storyOf(h, id);

  // The simulator's calls end slightly in the future.
  await later(2, id);
  await sweep();
  expect(await artifactRow(h, id)).toMatchObject({
    transcript_status: "ready",
    recording_status: "ready",
    output: { x: 1 },
  });
  expect(await messages(id)).toBeGreaterThan(0);

  await later(2, id);
  await sweep();
  expect(await artifactRow(h, id)).toMatchObject({
    ...{ transcript_status: "erased", transcript_until: null, summary: null, short_summary: null, final_state: null },
    ...{ output: null, output_status: "none", outcome: "completed", recording_status: "ready" },
  });
  expect([await messages(id), await words(id)]).toEqual([0, 0]);
  expect((await h.get(`/calls/${id}/transcript`)).body.data).toMatchObject({
    status: "erased",
    messages: [],
    text: "",
  });
  expect((await h.get(`/calls/${id}/recording`)).status).toBe(200);
  const shown = (await h.get(`/calls/${id}`)).body.data;
  expect(shown).toMatchObject({ transcriptStatus: "erased", costMicros: expect.any(Number), erasedAt: null });

  await later(7, id);
  await sweep();
  expect(await artifactRow(h, id)).toMatchObject({
    recording_status: "erased",
    recording_key: null,
    recording_bytes: null,
  });
  await until(async () => (await lookFor(h, call.recording_key!)) === null);
  expect((await h.get(`/calls/${id}/recording`)).body.error.code).toBe("recording_not_found");
  expect(await storyOf(h, id), "no new events").toEqual(story);
});

test("a call erased here is erased at the provider once everything has been fetched from there", async () => {
  const agentId = await agentThat(h, { retention: { transcriptDays: 1, recordingDays: null } });
  await h.simulator.faults({ recording: { notReady: 1_000_000 } });
  const { id } = await called(h, agentId);
  await later(2, id);
  await sweep();
  expect(await artifactRow(h, id)).toMatchObject({ transcript_status: "erased", recording_status: "pending" });
  await until(async () => (await waitingJobs(h, "calls.eraseUpstream")).length === 0);
  expect(await upstream(id), "its recording is pending").not.toBeNull();
  await h.simulator.faults({});
  await until(async () => {
    await hurry(h, "calls.fetchRecording");
    return (await artifactRow(h, id)).recording_status === "ready";
  });
  await until(async () => (await upstream(id)) === null);
  expect((await h.get(`/calls/${id}/recording`)).status, "our copy stays").toBe(200);
  expect(await artifactRow(h, id)).toMatchObject({ transcript_status: "erased", summary: null });
});

test("an agent without retention keeps everything; a change applies to later calls", async () => {
  const agentId = await agentThat(h, {});
  const before = await called(h, agentId);
  expect((await artifactRow(h, before.id)).transcript_until).toBeNull();
  expect((await h.patch(`/agents/${agentId}`, { retention: { transcriptDays: 1, recordingDays: 1 } })).status).toBe(
    200,
  );
  const after = await called(h, agentId);
  await recorded(h, after.id);
  await later(5, before.id, after.id);
  await sweep();
  expect(await artifactRow(h, before.id)).toMatchObject({ transcript_status: "ready" });
  expect(await artifactRow(h, after.id)).toMatchObject({ transcript_status: "erased", recording_status: "erased" });
});

test("calls of several clients are erased in batches per client, and a locked call is skipped", async () => {
  const clients = [h.ada, h.bob];
  const templates = await Promise.all(
    clients.map(async ({ key }) => {
      const made = await h.post("/agents", { name: "R", systemPrompt: "Be brief." }, { key });
      const call = await h.post("/calls", { agentId: made.body.data.id, medium: { type: "web" } }, { key });
      await until(async () => (await artifactRow(h, call.body.data.id)).outcome_final);
      const rows = await h.owner<{ id: string; client_id: string }[]>`
        select * from calls where id = ${call.body.data.id}`;
      return rows[0]!;
    }),
  );
  const copies = templates.flatMap((row) =>
    Array.from({ length: 120 }, (_, n) => ({
      ...row,
      id: `${String(row.id).slice(0, -4)}${String(n).padStart(4, "0")}`,
      ...{ provider_call_id: null, transcript_status: "ready", recording_status: "none", check_at: null },
      ...{
        transcript_until: new Date(Date.now() - n * 3_600_000 - 60_000),
        created_at: new Date(Date.now() - n * 60_000),
      },
    })),
  );
  const [held] = copies;
  const holder = await h.owner.reserve();
  await h.owner`insert into calls ${h.owner(copies)}`;
  await holder`begin`; // locked immediately, since the sweep also runs on schedule; `no key` still allows inserts for the call
  await holder`select from calls where id = ${held!.id} for no key update`;
  for (const { client_id, id, created_at } of copies) {
    await h.owner`insert into call_messages (client_id, call_id, index, role, text, created_at)
      values (${client_id}, ${id}, 0, 'user', 'secret', ${created_at})`;
    await h.owner`insert into call_words (client_id, word, call_id) values (${client_id}, 'secret', ${id})`;
  }
  await sweep();
  const remaining = () => h.owner`select id from calls where transcript_until is not null and provider_call_id is null`;
  expect((await remaining()).map(({ id }) => id)).toEqual([held!.id]);
  await holder`commit`;
  holder.release();
  await sweep();
  expect(await remaining()).toHaveLength(0);
  const ids = copies.map(({ id }) => id);
  expect(await h.owner`select from call_messages where call_id = any(${ids})`).toHaveLength(0);
  expect(await h.owner`select from call_words where call_id = any(${ids})`).toHaveLength(0);
}, 90_000);

test("a run that dies before its commit erases nothing, and the next run erases everything", async () => {
  const agentId = await agentThat(h, { retention: { transcriptDays: 0, recordingDays: 0 } });
  const { id } = await called(h, agentId);
  const { recording_key: key } = await recorded(h, id);
  await later(1, id);
  // The last statement of the batch fails, as if the process had died there.
  await h.owner.unsafe(`create function fail_erasure() returns trigger language plpgsql as
    $$ begin if new.recording_status = 'erased' then raise exception 'died here'; end if; return new; end $$`);
  await h.owner`create trigger fail_erasure before update on calls for each row execute function fail_erasure()`;
  await queueSystemJob(h, "retention.sweep");
  await until(async () => (await waitingJobs(h, "retention.erase")).some(({ payload }) => payload.attempt >= 1));
  expect(await artifactRow(h, id)).toMatchObject({ transcript_status: "ready", recording_status: "ready" });
  expect(await messages(id)).toBeGreaterThan(0);
  expect(await lookFor(h, key!)).not.toBeNull();
  await h.owner`drop trigger fail_erasure on calls`;
  await until(async () => {
    await hurry(h, "retention.erase");
    return (await artifactRow(h, id)).recording_status === "erased" && (await lookFor(h, key!)) === null;
  });
  expect([await messages(id), await words(id)]).toEqual([0, 0]);
});

test("a late correction of the bill does not restore an erased summary", async () => {
  const agentId = await agentThat(h, { retention: { transcriptDays: 1, recordingDays: 1 } });
  const { id } = await called(h, agentId);
  await recorded(h, id);
  await later(2, id);
  await sweep();
  const { applyCall, lockCall } = await import("../../routers/calls/service.ts");
  const row = await artifactRow(h, id);
  await h.deps.db.asClient({ clientId: h.ada.clientId }, async (tx) => {
    const call = await lockCall(tx, id);
    const refund = {
      billing: "refunded",
      billedSeconds: 0,
      sipBilledSeconds: 0,
      summary: "They spoke.",
      shortSummary: "Spoke.",
    };
    await applyCall(tx, call, {
      ...(call as never as object),
      ...refund,
      providerCallId: row.provider_call_id,
    } as never);
  });
  expect(await artifactRow(h, id)).toMatchObject({ summary: null, short_summary: null, output: null });
});
