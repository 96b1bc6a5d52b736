import { expect, test } from "vitest";
import { serviceToken, startTestApp, until } from "../support/app.ts";
import { agentThat, called } from "../support/artifacts.ts";
import { queueSystemJob } from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 400, credits: 100_000 });
const service = { key: serviceToken };
const agentId = await agentThat(h, { recordingEnabled: false });

type Run = {
  id: string;
  status: string;
  steps: { name: string; status: string; attempts: number; error: string | null }[];
};
const look = async (id: string): Promise<Run> => (await h.get(`/internal/workflows/${id}`, service)).body.data;
/** Makes every job of the run due now; otherwise steps wait between attempts. */
const hurry = (id: string) => h.owner`update graphile_worker._private_jobs set run_at = now()
  where payload->'body'->>'runId' = ${id} and locked_at is null and run_at > now()`;

const ended = (id: string) =>
  until(async () => {
    await hurry(id);
    const run = await look(id);
    return run.status !== "running" && run;
  }, 40);

async function begin(): Promise<{ callId: string; runId: string }> {
  const { id: callId } = await called(h, agentId);
  await h.owner`update calls set transcript_status = 'missing' where id = ${callId}`;
  const { body } = await h.post(`/internal/calls/${callId}/sync-artifacts`, {}, service);
  return { callId, runId: body.data.id };
}

test("a run goes step by step to its end, and shows its progress", async () => {
  const { runId, callId } = await begin();
  const run = await ended(runId);
  expect(run).toMatchObject({
    status: "succeeded",
    name: "artifacts-backfill",
    subjectId: callId,
    clientId: h.ada.clientId,
    steps: [
      { name: "transcript", status: "done", attempts: 1, error: null },
      { name: "recording", status: "done", error: null },
    ],
  });
  const listed = (await h.get(`/internal/workflows?subjectId=${callId}&status=succeeded`, service)).body;
  expect(listed.data.map(({ id }: Run) => id)).toEqual([runId]);
});

test("a failed step is retried on its schedule, then the run fails; a retry continues at that step", async () => {
  const { id: callId } = await called(h, agentId);
  await h.simulator.faults({ reads: { errors: [{ status: 429, times: 1_000_000 }] }, applyTo: "calls" });
  await h.owner`update calls set transcript_status = 'missing' where id = ${callId}`;
  const { body } = await h.post(`/internal/calls/${callId}/sync-artifacts`, {}, service);
  const runId = body.data.id;
  const failed = await ended(runId);
  expect(failed.status).toBe("failed");
  expect(failed.steps[0]).toMatchObject({ status: "failed", error: expect.stringContaining("Ultravox") });
  expect(failed.steps[0]!.attempts).toBeGreaterThan(1);
  expect(failed.steps[1]).toMatchObject({ status: "waiting", attempts: 0 });

  await h.simulator.faults({});
  const again = await h.post(`/internal/workflows/${runId}/retry`, {}, service);
  expect(again).toMatchObject({ status: 200, body: { data: { status: "running" } } });
  expect(await ended(runId)).toMatchObject({ status: "succeeded" });
  const twice = await h.post(`/internal/workflows/${runId}/retry`, {}, service);
  expect(twice.body.error).toMatchObject({ code: "workflow_not_failed" });
}, 60_000);

test("a run whose job is lost is found, and a second run for the same subject is not started", async () => {
  const { runId, callId } = await begin();
  await ended(runId);
  // As after a worker that crashes between two jobs, with its row lost too.
  await h.owner`update calls set transcript_status = 'missing' where id = ${callId}`;
  await h.owner`update workflow_runs set status = 'running', finished_at = null where id = ${runId}`;
  await h.owner`update workflow_steps set status = 'running', next_at = now() - interval '1 hour' where run_id = ${runId} and position = 0`;
  await h.owner`update workflow_steps set status = 'waiting' where run_id = ${runId} and position = 1`;
  const second = await h.post(`/internal/calls/${callId}/sync-artifacts`, {}, service);
  expect(second.body.data.id).toBe(runId);
  await queueSystemJob(h, "workflows.sweep");
  expect(await ended(runId)).toMatchObject({ status: "succeeded" });
  const [runs] = await h.owner`select count(*)::int as n from workflow_runs where subject_id = ${callId}`;
  expect(runs!.n).toBe(1);
});

test("a step in which every process crashes finally fails", async () => {
  const { runId, callId } = await begin();
  await ended(runId);
  await h.owner`update calls set transcript_status = 'missing' where id = ${callId}`;
  await h.owner`update workflow_runs set status = 'running', finished_at = null where id = ${runId}`;
  await h.owner`update workflow_steps set status = 'running', attempts = 100, next_at = now() - interval '1 hour'
    where run_id = ${runId} and position = 0`;
  await queueSystemJob(h, "workflows.sweep");
  expect(await ended(runId)).toMatchObject({ status: "failed", steps: [{ status: "failed" }, {}] });
});

test("only services can call the internal endpoints", async () => {
  const { runId } = await begin();
  for (const key of [h.ada.key, await h.token(h.ada), await h.operator(), `${serviceToken}x`]) {
    const answers = [
      await h.get("/internal/workflows", { key }),
      await h.get(`/internal/workflows/${runId}`, { key }),
      await h.post(`/internal/workflows/${runId}/retry`, {}, { key }),
    ];
    for (const { status } of answers) expect([401, 403]).toContain(status);
    expect([401, 404]).toContain((await h.query("internal.workflows.list", {}, { key })).status);
  }
  const inside = [
    await h.get("/agents", service),
    await h.get("/auth/me", service),
    await h.get("/admin/clients", service),
  ];
  expect(inside.map(({ status }) => status)).toEqual([403, 403, 403]);
  const outside = await fetch(`${h.url}/api/v1/internal/workflows`, {
    headers: { authorization: `Bearer ${serviceToken}` },
  });
  expect(outside.status).toBe(404);
  const document = await (await fetch(`${h.url}/openapi.json`)).text();
  expect(document).not.toContain("/internal/");
});
