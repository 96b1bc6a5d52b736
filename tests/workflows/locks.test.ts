import { expect, onTestFinished, test } from "vitest";
import { serviceToken, startTestApp, until } from "../support/app.ts";
import { baseOf, fileOf, hurrySteps, ingest, makeBase, settled, storyOf, upstream } from "../support/knowledge.ts";
import { cloneOf, sendSample, voiceRow } from "../support/voices.ts";

const h = await startTestApp({ workers: true, speed: 1000 });
const service = { key: serviceToken };

/*
 * A command or step that is ended by a deadlock is retried, so no response shows it. Therefore two transactions are made to
 * meet where they could deadlock, and PostgreSQL's counter shows whether one was ended. The counter is updated before the
 * retry.
 */
async function deadlocks(): Promise<number> {
  const [row] = await h.owner`select deadlocks from pg_stat_database where datname = current_database()`;
  return Number(row!.deadlocks);
}

/** Locks a run, or its current step, from outside the application: every other transaction waits for it. */
async function hold(what: "run" | "step", runId: string) {
  const holder = await h.owner.reserve();
  const [own] = await holder<{ pid: number }[]>`select pg_backend_pid() as pid`;
  await holder`begin`;
  const locked =
    what === "run"
      ? await holder`select from workflow_runs where id = ${runId} and status = 'running' for update`
      : await holder`select from workflow_steps where run_id = ${runId} and status = 'running' for update`;
  expect(locked).toHaveLength(1);
  let isHeld = true;
  const letGo = async () => {
    if (!isHeld) return;
    isHeld = false;
    await holder`commit`;
    holder.release();
  };
  onTestFinished(letGo);
  return { pid: own!.pid, letGo };
}

/** The connection that waits for this one. */
const waiterFor = (pid: number) =>
  until(async () => {
    const [waiter] = await h.owner<{ pid: number }[]>`
      select a.pid from pg_stat_activity a where datname = current_database() and ${pid} = any(pg_blocking_pids(a.pid))`;
    return waiter?.pid;
  });

/** Holds the next provider request of this kind back until it is released. Its step has started by then. */
function holdRequest(verb: "getSource" | "cloneVoice") {
  const { ultravox: provider } = h.deps.providers;
  const { [verb]: ask } = provider;
  const [reached, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const held = async (...given: never[]) => {
    Object.assign(provider, { [verb]: ask });
    reached.resolve();
    await gate.promise;
    return (ask as (...all: never[]) => Promise<unknown>)(...given);
  };
  Object.assign(provider, { [verb]: held });
  onTestFinished(() => {
    Object.assign(provider, { [verb]: ask });
    gate.resolve();
  });
  return { reached: reached.promise, letGo: gate.resolve };
}

const look = async (runId: string) => (await h.get(`/internal/workflows/${runId}`, service)).body.data;

async function runOf(subjectId: string): Promise<string> {
  const [run] = await h.owner`select id from workflow_runs where subject_id = ${subjectId} and status = 'running'`;
  return run!.id;
}

/** Waits until no job of the run is queued or running. */
const noJobs = (runId: string) =>
  until(async () => {
    await hurrySteps(h);
    const jobs = await h.owner`select from graphile_worker._private_jobs where payload->'body'->>'runId' = ${runId}`;
    return jobs.length === 0;
  });

const fileNames = { finishes: "prices.txt", fails: "empty.txt" };

/** A file whose last step is about to call the provider, which is ready: the response ends the step. */
async function inLastStep(ending: keyof typeof fileNames) {
  const request = holdRequest("getSource");
  const id = await makeBase(h);
  const fileId = await ingest(h, id, { fileName: fileNames[ending] });
  await request.reached;
  const [at] = await h.owner`select provider_corpus_id as corpus, provider_source_id as source
    from knowledge_files f join knowledge_bases b on b.id = f.knowledge_base_id where f.id = ${fileId}`;
  await until(async () => {
    const { body } = await upstream(h, `/corpora/${at!.corpus}/sources/${at!.source}`);
    return body.stats.status === "SOURCE_STATUS_READY";
  });
  return { id, fileId, runId: await runOf(fileId), letGo: request.letGo };
}

const stateOf = async (fileId: string) =>
  (await h.owner`select status from knowledge_files where id = ${fileId}`)[0]!.status;

test.each([
  ["a file", "finishes"],
  ["a file", "fails"],
  ["a knowledge base", "fails"],
] as const)("a delete of %s while its workflow %s a step waits for it, without a deadlock", async (what, ending) => {
  const before = await deadlocks();
  const { id, fileId, runId, letGo } = await inLastStep(ending);
  const held = await hold("step", runId);
  letGo();
  const engine = await waiterFor(held.pid);
  const deleting = h.remove(what === "a file" ? `/kb/${id}/files/${fileId}` : `/kb/${id}`);
  await waiterFor(engine);
  await held.letGo();
  expect((await deleting).status).toBe(204);
  await noJobs(runId);
  expect(await deadlocks()).toBe(before);
  const [run, step, error, told] =
    ending === "finishes"
      ? ["succeeded", "done", null, "ingestion.completed"]
      : ["failed", "failed", expect.stringMatching(/no readable content/), "ingestion.failed"];
  expect(await look(runId)).toMatchObject({ status: run, steps: [{}, {}, { status: step, attempts: 1, error }] });
  expect(await stateOf(fileId)).toBe("deleted");
  const story = ["created", "ingestion.started", told, ...(what === "a file" ? [] : ["deleted"])];
  expect(await storyOf(h, id)).toEqual(story);
});

test.each(["finishes", "fails"] as const)(
  "a step that %s while its file is being deleted waits for that, and changes nothing",
  async (ending) => {
    const before = await deadlocks();
    const { id, fileId, runId, letGo } = await inLastStep(ending);
    const run = await hold("run", runId);
    const deleting = h.remove(`/kb/${id}/files/${fileId}`);
    const deletion = await waiterFor(run.pid);
    letGo();
    await waiterFor(deletion);
    await run.letGo();
    expect((await deleting).status).toBe(204);
    await noJobs(runId);
    expect(await deadlocks()).toBe(before);
    const failed = { status: "failed", attempts: 1, error: null };
    expect(await look(runId)).toMatchObject({ status: "failed", steps: [{}, {}, failed] });
    expect(await stateOf(fileId)).toBe("deleted");
    expect(await baseOf(h, id)).toMatchObject({ status: "empty", readyFiles: 0 });
    expect(await storyOf(h, id)).toEqual(["created", "ingestion.started", "ingestion.completed"]);
  },
);

test.each([
  ["deletes", (id: string) => h.remove(`/voices/${id}`), 204],
  ["fails", (id: string) => h.post(`/internal/voices/${id}/update-status`, { status: "failed" }, service), 200],
] as const)(
  "a request that %s a voice while its workflow fails waits for it, without a deadlock",
  async (does, settle, status) => {
    const before = await deadlocks();
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "voices" });
    const request = holdRequest("cloneVoice");
    const { id } = (await h.post("/voices", cloneOf(await sendSample(h)))).body.data;
    await request.reached;
    const runId = await runOf(id);
    const step = await hold("step", runId);
    request.letGo();
    const engine = await waiterFor(step.pid);
    const settling = settle(id);
    await waiterFor(engine);
    await step.letGo();
    expect((await settling).status).toBe(status);
    await noJobs(runId);
    expect(await deadlocks()).toBe(before);
    expect(await look(runId)).toMatchObject({
      status: "failed",
      steps: [{ status: "done" }, { status: "failed", attempts: 1 }],
    });
    expect((await voiceRow(h, id)).status).toBe(does === "deletes" ? "deleted" : "failed");
    const told = await h.owner`select type from events where subject_id = ${id} order by sequence`;
    const story = ["created", "training.started", "training.failed", ...(does === "deletes" ? ["deleted"] : [])];
    expect(told.map(({ type }) => type.replace("voice.", ""))).toEqual(story);
  },
);

test("a step that fails after its run has ended elsewhere changes nothing", async () => {
  const { id, fileId, runId, letGo } = await inLastStep("fails");
  // A service makes another worker check, which gets the same response and ends the run. Then the file is retried.
  expect((await h.post(`/internal/knowledge/${id}/refresh`, {}, service)).status).toBe(200);
  await settled(h, id, fileId, "failed");
  await h.owner`update uploads set file_name = 'stuck.txt' where subject_id = ${id}`;
  expect((await h.post(`/kb/${id}/files/${fileId}/retry`)).status).toBe(202);
  const ended = await look(runId);
  expect(ended).toMatchObject({ status: "failed", steps: [{}, {}, { status: "failed", attempts: 2 }] });

  letGo();
  await noJobs(runId);
  expect(await look(runId)).toEqual(ended);
  const round = ["ingestion.started", "ingestion.failed"];
  expect(await storyOf(h, id)).toEqual(["created", ...round, "ingestion.started"]);
  expect(await runOf(fileId)).not.toBe(runId);
  await until(async () => (await fileOf(h, id, fileId)).status === "ingesting");
});
