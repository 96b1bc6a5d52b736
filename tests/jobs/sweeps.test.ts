import { beforeAll, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import { agentThat, called } from "../support/artifacts.ts";
import { callRow, hurry, inTime, makeAgent, platformAccount, queueSystemJob, waitingJobs } from "../support/calls.ts";
import { makeBase } from "../support/knowledge.ts";
import { voiceRow } from "../support/voices.ts";

/*
 * A sweep takes so many at a time, the longest forgotten first. Before each of these stands a whole helping of what nobody
 * can do anything about: of an account at the provider that opens no more, or of a client that is suspended.
 */

const h = await startTestApp({ workers: true, speed: 100 });
const gone = "pacc_gone";
let sam: SeededClient;

beforeAll(async () => {
  sam = await seedClient(h.deps, { name: "Sam", subject: "auth0|sam", credits: 10 });
  await h.post(`/admin/clients/${sam.clientId}/suspend`, { reason: "Unpaid." }, { key: await h.operator() });
});

async function swept(task: string, times = 1) {
  for (let n = 0; n < times; n++) {
    await queueSystemJob(h, task);
    await until(async () => (await waitingJobs(h, task)).length === 0);
  }
}

/** A call with which nothing has happened since. */
async function placed(key: string): Promise<string> {
  const agentId = await makeAgent(h, {}, key);
  const { status, body } = await h.post("/calls", { agentId, medium: phone("+14155550100") }, { key });
  expect(status).toBe(201);
  return body.data.id;
}

/** Copies of a call that cannot be read from the provider: the account is gone. */
const deadCalls = (like: string, n: number) => h.owner`
  insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, variables, metadata,
    max_duration_seconds, join_timeout_seconds, recording_enabled, provider_account_id, provider_call_id, check_at)
  select client_id, id || '_' || n, agent_id, agent_version, direction, medium, 'ended', variables, metadata,
    max_duration_seconds, join_timeout_seconds, false, ${gone}, id || n, now() - interval '2 days'
  from calls, generate_series(1, ${n}::int) n where id = ${like}`;

test("a call whose webhooks are lost is read within two sweeps, however many calls of a removed account are due before it", async () => {
  await deadCalls(await placed(h.ada.key), 600);
  await h.simulator.faults({ webhooks: { lose: ["call.started", "call.joined", "call.ended", "call.billed"] } });
  const id = await placed(h.bob.key);
  const { provider_call_id: upstream } = await callRow(h, id);
  await until(async () => (await h.deps.providers.ultravox.getCall(platformAccount, upstream!, inTime()))?.endedAt);
  await h.owner`update calls set check_at = now() - interval '1 day' where id = ${id}`;
  await swept("calls.sweep", 2);
  await until(async () => (await callRow(h, id)).status === "ended", 40);
  await h.simulator.faults({});
  await h.owner`update calls set check_at = null where provider_account_id = ${gone}`;
  await h.owner`delete from graphile_worker._private_jobs where key like 'calls.refresh:%' and locked_at is null`;
}, 60_000);

test("a waiting retry keeps its attempt and its time when the sweep runs again", async () => {
  const like = await placed(h.ada.key);
  await deadCalls(like, 1);
  const id = `${like}_1`;
  const job = async () => (await waitingJobs(h, "calls.refresh")).filter(({ payload }) => payload.body.callId === id);
  await swept("calls.sweep");
  const third = await until(async () => {
    await h.owner`update graphile_worker._private_jobs set run_at = now()
      where payload->'body'->>'callId' = ${id} and (payload->>'attempt')::int < 2 and locked_at is null`;
    const [waiting] = await job();
    return waiting?.payload.attempt === 2 && waiting;
  });
  expect((await callRow(h, id)).check_at!.getTime(), "it has gone to the end of the line").toBeGreaterThan(Date.now());
  await h.owner`update calls set check_at = now() - interval '1 hour' where id = ${id}`;
  await swept("calls.sweep");
  expect(await job()).toEqual([third]);

  // So the schedule ends, and the call is read less and less often.
  await until(async () => {
    await hurry(h, "calls.refresh");
    const [row] = await h.owner`select checks from calls where id = ${id}`;
    return row!.checks === 1;
  });
});

test("an agent is compared although a helping of a suspended client's is due before it", async () => {
  await h.owner`insert into agents (client_id, id, name, status, version, provider_account_id, provider_agent_id, compared_at)
    select ${sam.clientId}, 'agent_sam' || n, 'Sam', 'active', 1, ${platformAccount}, 'sam' || n, now() - interval '3 days'
    from generate_series(1, 300) n`;
  const id = await makeAgent(h, {}, h.bob.key);
  await h.owner`update agents set compared_at = now() - interval '2 days' where id = ${id}`;
  await swept("agents.sweep", 2);
  await until(async () => {
    const [row] = await h.owner`select compared_at > now() - interval '1 minute' as fresh from agents where id = ${id}`;
    return row!.fresh;
  }, 10);
  const [jobs] = await h.owner`select count(*)::int as n from graphile_worker._private_jobs
    where payload->>'clientId' = ${sam.clientId} and key like 'agents.compare:%'`;
  expect(jobs!.n).toBe(0);
});

test("an open intent that lost its job is settled although a whole batch that cannot be settled is due before it", async () => {
  await h.owner`insert into intents (client_id, id, kind, subject_id, provider_account_id, principal, request_id, audit_input, deadline_at)
    select ${h.ada.clientId}, 'int_dead' || n, 'calls.create', 'call_none' || n, ${gone}, 'system', 'req_1', '{}',
      now() - interval '2 days' from generate_series(1, 200) n`;
  await h.simulator.faults({ applyTo: "agents", create: { resetAfterAccepting: 1 } });
  const lost = await h.post("/agents", { name: "Lost", systemPrompt: "Be brief." }, { key: h.bob.key });
  expect(lost.status).toBe(202);
  const { id } = lost.body.data;
  await h.owner`delete from graphile_worker._private_jobs where key like 'intents.resolve:%' and locked_at is null`;
  await h.owner`update intents set deadline_at = now() - interval '1 day' where subject_id = ${id}`;
  await swept("intents.sweep", 2);
  await until(async () => (await h.get(`/agents/${id}`, { key: h.bob.key })).body.data.status === "active", 10);
  await h.owner`update intents set status = 'settled' where provider_account_id = ${gone}`;
});

test("a run whose job is gone is taken up although a helping of a suspended client's is due before it", async () => {
  await h.owner`insert into workflow_runs (client_id, id, name, subject_id)
    select ${sam.clientId}, 'wf_sam' || n, 'artifacts-backfill', 'call_sam' || n from generate_series(1, 500) n`;
  await h.owner`insert into workflow_steps (client_id, run_id, position, name, status, next_at)
    select ${sam.clientId}, 'wf_sam' || n, 0, 'transcript', 'running', now() - interval '2 days'
    from generate_series(1, 500) n`;
  const { id } = await called(h, await agentThat(h, { recordingEnabled: false }));
  const run = newId("workflow");
  await h.owner`insert into workflow_runs (client_id, id, name, subject_id) values (${h.ada.clientId}, ${run}, 'artifacts-backfill', ${id})`;
  await h.owner`insert into workflow_steps (client_id, run_id, position, name, status, next_at)
    values (${h.ada.clientId}, ${run}, 0, 'transcript', 'running', now() - interval '1 day')`;
  await swept("workflows.sweep", 2);
  await until(
    async () => (await h.owner`select status from workflow_runs where id = ${run}`)[0]!.status === "succeeded",
    10,
  );
});

test("a file that was left while it was read in fails although a helping of a suspended client's is due before it", async () => {
  const addFiles = async (clientId: string, baseId: string, prefix: string, n: number, days: number) => h.owner`
    insert into knowledge_files (client_id, id, knowledge_base_id, kind, url, status, round, deadline_at)
    select ${clientId}, ${prefix} || n, ${baseId}, 'url', 'https://example.com', 'pending', 1, now() - make_interval(days => ${days})
    from generate_series(1, ${n}::int) n`;
  await h.owner`insert into knowledge_bases (client_id, id, name, status, provider_account_id, provider_corpus_id)
    values (${sam.clientId}, 'kb_sam', 'Sam', 'ingesting', ${platformAccount}, 'corpus-sam')`;
  await addFiles(sam.clientId, "kb_sam", "kbf_sam", 500, 2);
  const base = await makeBase(h);
  await addFiles(h.ada.clientId, base, "kbf_left", 1, 1);
  await swept("knowledge.sweep", 2);
  await until(
    async () => (await h.owner`select status from knowledge_files where id = 'kbf_left1'`)[0]!.status === "failed",
    10,
  );
});

test("a voice that was abandoned during creation is finished although a whole batch that cannot be is due before it", async () => {
  const addVoices = (prefix: string, n: number, account: string, status: string, days: number) => h.owner`
    insert into voices (client_id, id, name, language, kind, provider, status, provider_account_id, updated_at)
    select ${h.ada.clientId}, ${prefix} || n, 'Ada', 'en', 'clone', 'ultravox', ${status}, ${account}, now() - make_interval(days => ${days})
    from generate_series(1, ${n}::int) n`;
  await addVoices("voice_dead", 500, gone, "training", 2);
  await addVoices("voice_left", 1, platformAccount, "pending", 1);
  await swept("voices.sweep", 2);
  await until(async () => (await voiceRow(h, "voice_left1")).status === "failed", 20);
}, 40_000);

test("a call's artifacts are fetched although a whole batch of a suspended client's calls ended after it", async () => {
  const { id } = await called(h, await agentThat(h, {}));
  await h.owner`update calls set transcript_status = 'missing', ended_at = now() - interval '2 hours' where id = ${id}`;
  await h.owner`insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, variables, metadata,
      max_duration_seconds, join_timeout_seconds, recording_enabled, transcript_status, provider_account_id, provider_call_id, joined_at, ended_at)
    select ${sam.clientId}, 'call_late' || n, 'agent_sam1', 1, direction, medium, 'ended', variables, metadata,
      max_duration_seconds, join_timeout_seconds, false, 'missing', ${platformAccount}, 'sam' || n, joined_at, now() - interval '1 hour'
    from calls, generate_series(1, 500) n where id = ${id}`;
  await swept("artifacts.sweep", 2);
  await until(async () => (await h.owner`select from workflow_runs where subject_id = ${id}`).length === 1, 10);
});

test("a replay whose job is gone is taken up although a helping of a suspended client's has been silent before it", async () => {
  const addReplays = async (clientId: string, prefix: string, n: number, days: number) => {
    await h.owner`insert into webhook_endpoints (client_id, id, url, event_types, status, secret)
      select ${clientId}, ${prefix} || n, 'https://example.com', array['*'], 'enabled', '\\x00' from generate_series(1, ${n}::int) n`;
    await h.owner`insert into webhook_replays (client_id, id, endpoint_id, which, created_after, created_before, updated_at)
      select ${clientId}, 'rpl_' || ${prefix} || n, ${prefix} || n, 'dead', now() - interval '3 days', now(), now() - make_interval(days => ${days})
      from generate_series(1, ${n}::int) n`;
  };
  await addReplays(sam.clientId, "wh_sam", 500, 2);
  const tess = await seedClient(h.deps, { name: "Tess", subject: "auth0|tess", credits: 10 });
  await addReplays(tess.clientId, "wh_left", 1, 1);
  await swept("replays.sweep", 2);
  await until(async () => {
    const [row] = await h.owner`select status from webhook_replays where id = 'rpl_wh_left1'`;
    return row!.status === "completed";
  }, 10);
});
