import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { openWorkers } from "../../server/workers.ts";
import type { ChildOptions } from "../support/api-child.ts";
import { startTestApp, until } from "../support/app.ts";
import { expectSoundBooks, postingsOf, storyOf } from "../support/calls.ts";
import { cloneOf, inState, priceClones, sendSample, upstreamOf, voiceRow } from "../support/voices.ts";

const h = await startTestApp({});
const price = await priceClones(h);
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

async function makeClone(): Promise<string> {
  const { body } = await h.post("/voices", cloneOf(await sendSample(h)));
  return body.data.id;
}

/** Another process of the same installation works until it dies. */
function startChild(transaction: number): { child: ChildProcess; gone: Promise<unknown[]> } {
  const options: ChildOptions = { env: h.env, role: "worker", transaction };
  const child = fork(new URL("../support/api-child.ts", import.meta.url), [JSON.stringify(options)]);
  children.push(child);
  return { child, gone: once(child, "exit") };
}

/** As the rescue does, half a minute later. */
async function rescue() {
  await h.owner`update graphile_worker._private_jobs set locked_by = null, locked_at = null, run_at = least(run_at, now())
    where locked_at is not null`;
  await h.owner`delete from worker_heartbeats`;
}

async function withWorkers<T>(work: () => Promise<T>): Promise<T> {
  const workers = await openWorkers(h.deps);
  try {
    return await work();
  } finally {
    await workers.stop();
  }
}

async function expectMadeOnce(id: string) {
  const row = await inState(h, id, "active", 30);
  const there = await upstreamOf(h, id);
  expect(there.map((voice) => voice.id)).toEqual([row.provider_voice_id]);
  expect(await postingsOf(h, id)).toEqual([
    ["hold", -price],
    ["settlement", 0],
  ]);
  await until(async () => {
    const [run] = await h.owner`select status from workflow_runs where subject_id = ${id}`;
    return run?.status === "succeeded";
  });
  const expectedStory = ["voice.created", "voice.training.started", "voice.training.completed"];
  expect(await storyOf(h, id)).toEqual(expectedStory);
}

const uploads = async () =>
  (await h.simulator.requests()).requests.filter(
    ({ method, template }: { method: string; template: string }) => method === "POST" && template === "/api/voices",
  ).length as number;

// fetch-samples: started, done. train: started, training, created, done.
test.each([1, 2, 3, 4, 5, 6])(
  "a worker that dies in transaction %i leaves one voice there, charged once",
  {
    timeout: 60_000,
  },
  async (transaction) => {
    const before = await uploads();
    const id = await makeClone();
    const [, signal] = await startChild(transaction).gone;
    expect(signal).toBe("SIGKILL");
    expect((await voiceRow(h, id)).status).toBe(
      transaction < 5 ? "pending" : transaction === 5 ? "training" : "active",
    );
    await rescue();
    await withWorkers(() => expectMadeOnce(id));
    expect((await uploads()) - before, "one upload, and no second one to see").toBe(1);
    await expectSoundBooks(h);
  },
);

test("a worker that dies while the provider creates the voice leaves it to the next worker, which finds it by name", {
  timeout: 60_000,
}, async () => {
  await h.simulator.faults({ create: { timeoutAfterAccepting: 1, holdMs: 60_000 }, applyTo: "voices" });
  const before = await uploads();
  const id = await makeClone();
  const { child, gone } = startChild(1e9);
  await until(async () => (await upstreamOf(h, id)).length === 1, 30);
  child.kill("SIGKILL");
  await gone;
  expect((await voiceRow(h, id)).status).toBe("training");
  await rescue();
  await withWorkers(() => expectMadeOnce(id));
  expect((await uploads()) - before).toBe(1);
});

test("a voice deleted during a dead worker's upload costs nothing, and leaves nothing at the provider", {
  timeout: 60_000,
}, async () => {
  await h.simulator.faults({ create: { timeoutAfterAccepting: 1, holdMs: 60_000 }, applyTo: "voices" });
  const id = await makeClone();
  const { child, gone } = startChild(1e9);
  await until(async () => (await upstreamOf(h, id)).length === 1, 30);
  child.kill("SIGKILL");
  await gone;
  expect((await h.remove(`/voices/${id}`)).status).toBe(204);
  await rescue();
  await h.owner`update graphile_worker._private_jobs j set run_at = now() from graphile_worker._private_tasks t
    where t.id = j.task_id and t.identifier = 'voices.clear'`;
  await withWorkers(() => until(async () => (await upstreamOf(h, id)).length === 0, 30));
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "release"]);
  expect((await storyOf(h, id)).at(-1)).toBe("voice.deleted");
  await expectSoundBooks(h);
});
