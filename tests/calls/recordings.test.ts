import { afterEach, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { serviceToken, startTestApp, until } from "../support/app.ts";
import { agentThat, artifactRow, called, lookFor, place, recorded } from "../support/artifacts.ts";
import { hurry, queueSystemJob, storyOf, waitingJobs } from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100 });
const agentId = await agentThat(h, {});
const readyEvents = async (id: string) => (await storyOf(h, id)).filter((type) => type === "call.recording.ready");

afterEach(async () => {
  await h.simulator.faults({});
  h.storage.faults([]);
});

async function downloaded(id: string, more = ""): Promise<Buffer> {
  const { status, body } = await h.get(`/calls/${id}/recording${more}`);
  expect(status).toBe(200);
  const response = await fetch(body.data.url);
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "audio/wav"]);
  expect(response.headers.get("content-disposition")).toContain(`${id}.wav`);
  const bytes = Buffer.from(await response.arrayBuffer());
  expect(bytes.length).toBe(body.data.bytes);
  return bytes;
}

/** Runs all attempts of the schedule without their delays, until the recording has this status. */
const hurryUntil = (id: string, status: string) =>
  until(async () => {
    await hurry(h, "calls.fetchRecording");
    return (await artifactRow(h, id)).recording_status === status;
  });

test.for(["inline", "redirect"] as const)(
  "a recording sent %s is copied completely and emits one event",
  async (recordings) => {
    await h.simulator.faults({ recordings, recording: { seconds: 3 } });
    const { id } = await called(h, agentId);
    const row = await recorded(h, id);
    expect(row).toMatchObject({ recording_key: `${h.ada.clientId}/recordings/${id}.wav` });
    expect(Number(row.recording_bytes)).toBe(44 + 3 * 16_000);
    const wav = await downloaded(id);
    expect(wav.subarray(0, 4).toString()).toBe("RIFF");
    expect(wav.readUInt32LE(4)).toBe(wav.length - 8);
    expect(await readyEvents(id)).toHaveLength(1);
    expect((await h.get(`/calls/${id}`)).body.data).toMatchObject({ recordingStatus: "ready" });
  },
);

test("a recording of many parts is copied completely", async () => {
  await h.simulator.faults({ recording: { seconds: 1200 } });
  const { id } = await called(h, agentId);
  await recorded(h, id, "ready", 50);
  const wav = await downloaded(id);
  expect(wav.length).toBe(44 + 1200 * 16_000);
  expect(wav.readInt16LE(wav.length - 20) !== 0 || wav.readInt16LE(wav.length - 22) !== 0).toBe(true);
}, 90_000);

test("the link expires after the requested time, at most a day", async () => {
  const { id } = await called(h, agentId);
  await recorded(h, id);
  const before = Date.now();
  const { body } = await h.get(`/calls/${id}/recording?expiresInSeconds=60`);
  const after = Date.now();
  expect(Date.parse(body.data.expiresAt)).toBeGreaterThanOrEqual(before + 60_000);
  expect(Date.parse(body.data.expiresAt)).toBeLessThanOrEqual(after + 60_000);
  expect(new URL(body.data.url).searchParams.get("X-Amz-Expires")).toBe("60");
  const byDefault = await h.get(`/calls/${id}/recording`);
  expect(new URL(byDefault.body.data.url).searchParams.get("X-Amz-Expires")).toBe("900");
  for (const wrong of [59, 86_401]) {
    const refused = await h.get(`/calls/${id}/recording?expiresInSeconds=${wrong}`);
    expect(refused.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "expiresInSeconds" }] });
  }
  expect((await h.get(`/calls/${id}/recording`, { key: h.bob.key })).body.error.code).toBe("call_not_found");
});

test("a recording that is not ready, or missing too early, is requested again and stays pending", async () => {
  await h.simulator.faults({ recording: { notReady: 2, missing: 2 } });
  const { id } = await called(h, agentId);
  await until(async () => (await waitingJobs(h, "calls.fetchRecording")).some(({ payload }) => payload.attempt >= 1));
  expect((await h.get(`/calls/${id}/recording`)).body.error).toMatchObject({ code: "recording_not_ready" });
  expect(await artifactRow(h, id)).toMatchObject({ recording_status: "pending", recording_key: null });
  await hurryUntil(id, "ready");
  await downloaded(id);
  expect(await readyEvents(id)).toHaveLength(1);
});

test("a connection lost within the file leaves no partial file, and the file is fetched again", async () => {
  await h.simulator.faults({ recordings: "redirect", recording: { cut: 2, holdMs: 20, seconds: 3 } });
  const { id, client_id } = await called(h, agentId);
  await until(async () => (await waitingJobs(h, "calls.fetchRecording")).some(({ payload }) => payload.attempt >= 1));
  expect(await lookFor(h, `${client_id}/recordings/${id}.wav`)).toBeNull();
  await hurryUntil(id, "ready");
  expect((await downloaded(id)).length).toBe(44 + 3 * 16_000);
});

test("a storage failure costs one attempt, not the recording", async () => {
  h.storage.faults([{ method: "PUT", times: 20, status: 500 }]);
  const { id } = await called(h, agentId);
  await until(async () => (await waitingJobs(h, "calls.fetchRecording")).some(({ payload }) => payload.attempt >= 1));
  expect(await artifactRow(h, id)).toMatchObject({ recording_status: "pending" });
  h.storage.faults([]);
  await hurryUntil(id, "ready");
  await downloaded(id);
});

test("a recording that never arrives is missing; the backfill fetches it later, once", async () => {
  await h.simulator.faults({ recording: { notReady: 1_000_000 } });
  const { id, client_id } = await called(h, agentId);
  await hurryUntil(id, "missing");
  expect((await h.get(`/calls/${id}/recording`)).body.error).toMatchObject({ code: "recording_not_found" });
  expect(await readyEvents(id)).toEqual([]);

  const runs = () => h.owner`select id from workflow_runs where subject_id = ${id} and name = 'artifacts-backfill'`;
  await queueSystemJob(h, "artifacts.sweep");
  await until(async () => (await waitingJobs(h, "artifacts.sweep")).length === 0);
  expect(await runs(), "too soon after the end").toHaveLength(0);

  await h.owner`update calls set ended_at = now() - interval '2 hours' where id = ${id}`;
  const sweepTwice = async () => {
    for (let n = 0; n < 2; n++) await queueSystemJob(h, "artifacts.sweep");
    await until(
      async () =>
        (await waitingJobs(h, "artifacts.sweep")).length + (await waitingJobs(h, "artifacts.backfill")).length === 0,
    );
  };
  await sweepTwice();
  await until(
    async () =>
      (await h.owner`select from workflow_runs where subject_id = ${id} and status <> 'running'`).length === 1,
  );
  expect(await artifactRow(h, id)).toMatchObject({ recording_status: "missing" });
  await h.simulator.faults({});
  await sweepTwice();
  expect(await runs(), "not again within six hours").toHaveLength(1);

  await h.owner`update workflow_runs set created_at = now() - interval '7 hours' where subject_id = ${id}`;
  await sweepTwice();
  await recorded(h, id);
  expect(await runs()).toHaveLength(2);
  await downloaded(id);
  expect(await readyEvents(id)).toHaveLength(1);
  expect(await lookFor(h, `${client_id}/recordings/${id}.wav`)).not.toBeNull();
  await h.owner`update workflow_runs set created_at = now() - interval '7 hours' where subject_id = ${id}`;
  await sweepTwice();
  expect(await runs(), "nothing is missing").toHaveLength(2);
});

test("the backfill skips calls with ten runs or that ended a month ago", async () => {
  await h.simulator.faults({ recording: { notReady: 1_000_000 } });
  const [exhausted, old] = [await called(h, agentId), await called(h, agentId)];
  for (const { id } of [exhausted, old]) await hurryUntil(id, "missing");
  for (let n = 0; n < 10; n++) {
    await h.owner`insert into workflow_runs (client_id, id, name, subject_id, status, created_at)
      values (${exhausted.client_id}, ${newId("workflow")}, 'artifacts-backfill', ${exhausted.id}, 'succeeded', now() - interval '1 day')`;
  }
  await h.owner`update calls set ended_at = now() - interval '31 days' where id = ${old.id}`;
  await h.owner`update calls set ended_at = now() - interval '29 days' where id = ${exhausted.id}`;
  await queueSystemJob(h, "artifacts.sweep");
  await until(async () => (await waitingJobs(h, "artifacts.sweep")).length === 0);
  expect(await waitingJobs(h, "artifacts.backfill")).toHaveLength(0);
  expect(await h.owner`select id from workflow_runs where subject_id = ${old.id}`).toHaveLength(0);
  expect(await h.owner`select id from workflow_runs where subject_id = ${exhausted.id}`).toHaveLength(10);
});

test("an unanswered or unrecorded call has no recording and requests none", async () => {
  const unrecordedAgent = await agentThat(h, { recordingEnabled: false });
  const requestCount = async () => (await h.simulator.status()).requests["GET /api/calls/{call_id}/recording"] ?? 0;
  await until(async () => (await waitingJobs(h, "calls.fetchRecording")).length === 0);
  const before = await requestCount();
  const [unjoined, unrecorded] = [await called(h, agentId, {}, "+14155550001"), await called(h, unrecordedAgent)];
  for (const { id } of [unjoined, unrecorded]) {
    expect(await artifactRow(h, id)).toMatchObject({ recording_status: "none" });
    expect((await h.get(`/calls/${id}/recording`)).body.error).toMatchObject({ code: "recording_not_found" });
  }
  expect(await requestCount()).toBe(before);
  const ongoing = await place(h, agentId, {}, "+14155550015");
  expect((await h.get(`/calls/${ongoing}/recording`)).body.error).toMatchObject({ code: "recording_not_ready" });
});

test("two concurrent copies of a recording emit one event", async () => {
  await h.simulator.faults({ recording: { notReady: 1, seconds: 30 } });
  const { id } = await called(h, agentId);
  await h.post(`/internal/calls/${id}/sync-artifacts`, {}, { key: serviceToken });
  await hurryUntil(id, "ready");
  await until(async () => (await waitingJobs(h, "calls.fetchRecording")).length === 0);
  await until(
    async () => (await h.owner`select from workflow_runs where subject_id = ${id} and status = 'running'`).length === 0,
  );
  expect(await readyEvents(id)).toHaveLength(1);
  await downloaded(id);
});

test("a call erased while its recording is copied keeps no file", async () => {
  await h.simulator.faults({ recording: { notReady: 1_000_000 } });
  const { id, client_id } = await called(h, agentId);
  const key = `${client_id}/recordings/${id}.wav`;
  // As if the worker had died after the copy and before its commit.
  const { files } = h.deps.providers;
  const some = (async function* () {
    yield Buffer.from("RIFF");
  })();
  await files.put(key, some, { contentType: "audio/wav", maxBytes: 100 }, { signal: AbortSignal.timeout(5_000) });
  expect((await h.remove(`/calls/${id}`)).status).toBe(204);
  await until(async () => {
    await hurry(h, "calls.fetchRecording");
    return (await lookFor(h, key)) === null;
  });
  expect((await h.get(`/calls/${id}/recording`)).body.error.code).toBe("recording_not_found");
  expect(await readyEvents(id)).toEqual([]);
});

test("a service starts the backfill of an ended call of any client", async () => {
  await h.simulator.faults({ recording: { notReady: 1_000_000 } });
  const { id } = await called(h, agentId);
  await hurryUntil(id, "missing");
  await h.simulator.faults({});
  const started = await h.post(`/internal/calls/${id}/sync-artifacts`, {}, { key: serviceToken });
  expect(started).toMatchObject({ status: 202, body: { data: { name: "artifacts-backfill", subjectId: id } } });
  await recorded(h, id);
  const ongoing = await place(h, agentId, {}, "+14155550015");
  const early = await h.post(`/internal/calls/${ongoing}/sync-artifacts`, {}, { key: serviceToken });
  expect(early.body.error).toMatchObject({ code: "call_not_ended" });
  const unknown = await h.post(`/internal/calls/${newId("call")}/sync-artifacts`, {}, { key: serviceToken });
  expect(unknown.body.error).toMatchObject({ code: "call_not_found" });
});
