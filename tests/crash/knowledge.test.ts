import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";
import {
  baseOf,
  fileOf,
  hurrySteps,
  ingest,
  letAnswersBeOverdue,
  makeBase,
  sourceNames,
  storyOf,
} from "../support/knowledge.ts";
import type { ChildOptions } from "../support/knowledge-child.ts";

const h = await startTestApp({ speed: 1000 });
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** Starts a separate worker process that dies at this point. */
async function workAndDie(after: ChildOptions["after"]) {
  const options: ChildOptions = { env: h.env, after };
  const child = fork(new URL("../support/knowledge-child.ts", import.meta.url), [JSON.stringify(options)], {
    execArgv: [],
  });
  children.push(child);
  const [, signal] = await once(child, "exit");
  expect(signal).toBe("SIGKILL");
}

/** Frees the jobs of the dead worker, as the rescue does after its timeout. */
const freeLocks = () =>
  h.owner`update graphile_worker._private_jobs set locked_at = null, locked_by = null where locked_at is not null`;

test("wherever the worker dies, one source is at the provider, and its file is ready", {
  timeout: 120_000,
}, async () => {
  const made: { id: string; fileId: string }[] = [];
  for (const after of ["uploadDocument", "createSource", "getSource"] as const) {
    const id = await makeBase(h);
    const fileId = await ingest(h, id);
    await workAndDie(after);
    expect(await sourceNames(h, id)).toEqual(after === "uploadDocument" ? [] : [fileId]);
    expect((await fileOf(h, id, fileId)).status).not.toBe("ready");
    await h.owner`update graphile_worker._private_jobs set run_at = now() + interval '1 hour', locked_at = null, locked_by = null`;
    made.push({ id, fileId });
  }

  await freeLocks();
  const workers = await openWorkers(h.deps);
  try {
    for (const { id, fileId } of made) {
      await until(async () => {
        await letAnswersBeOverdue(h);
        await hurrySteps(h);
        return (await fileOf(h, id, fileId)).status === "ready";
      }, 30);
      expect(await sourceNames(h, id)).toEqual([fileId]);
      expect(await baseOf(h, id)).toMatchObject({ status: "ready", readyFiles: 1 });
      expect(await storyOf(h, id)).toEqual(["created", "ingestion.started", "ingestion.completed"]);
    }
  } finally {
    await workers.stop();
  }
});

test("while a response may still arrive no other worker calls the provider, and a file deleted meanwhile leaves no source", {
  timeout: 120_000,
}, async () => {
  const id = await makeBase(h);
  const fileId = await ingest(h, id);
  await workAndDie("createSource");
  await freeLocks();
  const workers = await openWorkers(h.deps);
  try {
    // Postponed, not failed: a running attempt is due minutes later, and a failed one has an error.
    await until(async () => {
      const [putOff] = await h.owner`select s.run_id from workflow_steps s join workflow_runs r on r.id = s.run_id
        join graphile_worker._private_jobs j on j.payload->'body'->>'runId' = r.id
        where r.subject_id = ${fileId} and s.name = 'create-source' and s.status = 'running' and s.error is null
          and s.next_at between now() and now() + interval '15 seconds'
          and j.locked_at is null and j.run_at > now() + interval '1 second'`;
      if (!putOff) await hurrySteps(h);
      return putOff;
    });
    expect(await sourceNames(h, id)).toEqual([fileId]);
    expect((await fileOf(h, id, fileId)).status).toBe("ingesting");
    expect((await h.remove(`/kb/${id}/files/${fileId}`)).status).toBe(204);
    await until(async () => {
      await hurrySteps(h);
      return (await sourceNames(h, id)).length === 0;
    });
    expect(await baseOf(h, id)).toMatchObject({ status: "empty" });
  } finally {
    await workers.stop();
  }
});
