import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";
import { agentThat, artifactRow, lookFor, place, recorded } from "../support/artifacts.ts";
import { finished, storyOf } from "../support/calls.ts";

const h = await startTestApp({ speed: 100 });
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** Another process of the same installation runs the jobs. */
function startWorker() {
  const options = { env: h.env, role: "worker", transaction: 1e9 };
  const child = fork(new URL("../support/api-child.ts", import.meta.url), [JSON.stringify(options)]);
  children.push(child);
  return { child, gone: once(child, "exit") };
}

test("a worker killed during a copy leaves no visible file, and the next one finishes", async () => {
  const bytes = 44 + 1200 * 16_000;
  await h.simulator.faults({ recordings: "inline", recording: { cut: 1, holdMs: 300_000, seconds: 1200 } });
  const { child, gone } = startWorker();
  const id = await place(h, await agentThat(h, {}));
  await finished(h, id, 60);
  const key = `${h.ada.clientId}/recordings/${id}.wav`;
  // After the first of several parts, the provider stops in the middle of the file.
  await until(async () => h.storage.requests.includes(`PUT /patchbay/${key}`), 60);
  child.kill("SIGKILL");
  expect((await gone)[1]).toBe("SIGKILL");
  expect(await lookFor(h, key), "half a file").toBeNull();
  expect(await artifactRow(h, id)).toMatchObject({ recording_status: "pending", recording_key: null });
  expect(await storyOf(h, id)).not.toContain("call.recording.ready");

  // As the rescue does, half a minute later.
  await h.owner`delete from worker_heartbeats`;
  await h.owner`update graphile_worker._private_jobs set locked_by = null, locked_at = null`;
  const workers = await openWorkers(h.deps);
  try {
    expect(Number((await recorded(h, id, "ready", 60)).recording_bytes)).toBe(bytes);
    expect(await lookFor(h, key)).toMatchObject({ bytes });
    expect((await storyOf(h, id)).filter((type) => type === "call.recording.ready")).toHaveLength(1);
  } finally {
    await workers.stop();
  }
}, 240_000);
