import { beforeEach, expect, test } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { ultravox } from "../../server/adapters/ultravox/index.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  acceptedFor,
  callRow,
  expectSoundBooks,
  expectStory,
  finished,
  hurry,
  inTime,
  letSafetyJobsRun,
  makeAgent,
  platformAccount,
  postingsOf,
  storyOf,
  sweepUntilBilled,
  waitingJobs,
} from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100 });
// Without recordings: reading one would use up the errors that a test has planned for another read.
const agentId = await makeAgent(h, { recordingEnabled: false });
const provider = h.deps.providers.ultravox;
const everything = ["call.started", "call.joined", "call.ended", "call.billed"];

beforeEach(() => h.simulator.faults({}));

const order = (to: string) => ({ agentId, medium: phone(to) });
const place = (to: string, idempotencyKey: string, key?: string) =>
  h.post("/calls", order(to), { idempotencyKey, ...(key ? { key } : {}) });

/** The one call that was written since. */
async function newCall(before: Date) {
  const rows = await h.owner<{ id: string }[]>`select id from calls where created_at > ${before}`;
  expect(rows).toHaveLength(1);
  return rows[0]!.id;
}

async function now(): Promise<Date> {
  const [row] = await h.owner<{ now: Date }[]>`select clock_timestamp() as now`;
  return row!.now;
}

async function expectOneCallChargedOnce(id: string) {
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "ended", outcome: "completed", billing_revision: 1 });
  expect(await acceptedFor(h, id)).toBe(1);
  const postings = await postingsOf(h, id);
  expect(postings.map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  expect(postings.reduce((sum, [, available]) => sum + available, 0)).toBe(-Number(row.cost_micros));
  await expectStory(h, id, { joined: true, last: "call.completed" });
  await expectSoundBooks(h);
}

async function expectNothingPlaced(id: string) {
  const row = await finished(h, id);
  expect(row).toMatchObject({ status: "failed", outcome: "failed", outcome_final: true, check_at: null });
  expect(await acceptedFor(h, id)).toBe(0);
  const postings = await postingsOf(h, id);
  expect(postings.map(([kind]) => kind)).toEqual(["hold", "release"]);
  expect(postings.reduce((sum, [, available]) => sum + available, 0)).toBe(0);
  expect(await storyOf(h, id)).toEqual(["call.failed"]);
  await expectSoundBooks(h);
}

test("response and webhooks lost: 202, one call, found by the recovery job and charged once", async () => {
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, webhooks: { lose: everything } });
  const first = await place("+14155550100", "reset-safety");
  expect(first).toMatchObject({ status: 202, body: { data: { status: "unknown", outcome: null } } });
  const { id } = first.body.data;
  const early = await place("+14155550100", "reset-safety");
  expect(early).toMatchObject({ status: 409, body: { error: { code: "idempotency_in_progress" } } });

  await letSafetyJobsRun(h);
  expect((await callRow(h, id)).status).not.toBe("unknown");
  const replay = await place("+14155550100", "reset-safety");
  expect(replay).toMatchObject({ status: 201, body: { data: { id } } });
  expect(replay.headers.get("idempotency-replayed")).toBe("true");
  await sweepUntilBilled(h, id);
  await expectOneCallChargedOnce(id);
});

test("response lost: the provider's webhook settles the intent", async () => {
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, webhooks: { delaySeconds: 300 } });
  const first = await place("+14155550100", "reset-webhook");
  expect(first).toMatchObject({ status: 202, body: { data: { status: "unknown" } } });
  const { id } = first.body.data;
  await expectOneCallChargedOnce(id);
  const replay = await place("+14155550100", "reset-webhook");
  expect(replay).toMatchObject({ status: 201, body: { data: { id }, meta: first.body.meta } });
  expect(await acceptedFor(h, id)).toBe(1);
});

test("the provider accepts and does not respond before the deadline: the same", async () => {
  await h.simulator.faults({ create: { timeoutAfterAccepting: 1 }, webhooks: { lose: everything } });
  const { createCall } = provider;
  provider.createCall = async (account, call) => {
    const deadline = new AbortController();
    const accepted = until(async () => (await acceptedFor(h, call.callId)) === 1);
    const [answer] = await Promise.all([
      createCall(account, call, { signal: deadline.signal }),
      accepted.then(() => deadline.abort()),
    ]);
    return answer;
  };
  try {
    const first = await place("+14155550100", "timeout");
    expect(first).toMatchObject({ status: 202, body: { data: { status: "unknown" } } });
    await letSafetyJobsRun(h);
    const { id } = first.body.data;
    expect(await place("+14155550100", "timeout")).toMatchObject({ status: 201, body: { data: { id } } });
    await sweepUntilBilled(h, id);
    await expectOneCallChargedOnce(id);
  } finally {
    provider.createCall = createCall;
  }
});

test("a request that never came to the provider fails only after two looks a minute apart", async () => {
  await h.simulator.faults({ create: { hangBeforeAccepting: 1, holdMs: 50 } });
  const first = await place("+14155550100", "hang");
  expect(first).toMatchObject({ status: 202, body: { data: { status: "unknown" } } });
  const { id } = first.body.data;
  const intent = async () => (await h.owner`select * from intents where subject_id = ${id}`)[0]!;

  await hurry(h, "intents.resolve");
  await until(async () => (await intent()).absences === 1);
  await until(async () => (await waitingJobs(h, "intents.resolve")).length === 1);
  await hurry(h, "intents.resolve"); // too soon: this look does not count
  await until(async () => {
    const [job] = await waitingJobs(h, "intents.resolve");
    return job && job.run_at > (await now());
  });
  expect(await intent()).toMatchObject({ status: "open" });
  expect((await callRow(h, id)).status).toBe("unknown");

  await letSafetyJobsRun(h);
  expect(await intent()).toMatchObject({ status: "settled", outcome: "absent" });
  await expectNothingPlaced(id);
  const again = await place("+14155550100", "hang");
  expect(again, "its key runs again").toMatchObject({ status: 201 });
  expect(again.body.data.id).not.toBe(id);
  await expectOneCallChargedOnce(again.body.data.id);
  await expectNothingPlaced(id);
});

test.for([
  ["server_overloaded", { create: { errors: [{ status: 503, times: 3 }] } }, 503, "provider_unavailable"],
  ["slow down", { create: { errors: [{ status: 429, times: 3 }] } }, 503, "provider_unavailable"],
] as const)("%s, three times over: nothing is placed, the credits are back", async ([name, faults, status, code]) => {
  await h.simulator.faults(faults);
  const before = await now();
  const first = await place("+14155550100", name.replace(" ", "-"));
  expect(first).toMatchObject({ status, body: { error: { code } } });
  const id = await newCall(before);
  expect(first.body.error.details).toEqual([{ path: "id", message: expect.any(String), id }]);
  await expectNothingPlaced(id);
  expect(Number(first.headers.get("retry-after"))).toBeGreaterThan(0);
  await h.simulator.faults({});
  const again = await place("+14155550100", name.replace(" ", "-"));
  expect(again, "its key runs again").toMatchObject({ status: 201 });
  await expectOneCallChargedOnce(again.body.data.id);
  await expectNothingPlaced(id);
});

test("overloaded once: retried, one call", async () => {
  await h.simulator.faults({ create: { errors: [{ status: 503, times: 1 }] } });
  const placed = await place("+14155550100", "once-overloaded");
  expect(placed.status).toBe(201);
  await expectOneCallChargedOnce(placed.body.data.id);
});

test("the provider's address has no listener: nothing is placed", async () => {
  const { createCall } = provider;
  const nowhere = ultravox({ baseUrl: "http://127.0.0.1:9", apiKeyOf: async () => "key", sipTrunk: "trunk.example" });
  provider.createCall = nowhere.createCall;
  const before = await now();
  try {
    const refused = await place("+14155550100", "refused-connection");
    expect(refused).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
  } finally {
    provider.createCall = createCall;
  }
  await expectNothingPlaced(await newCall(before));
});

test("a number that the provider refuses: 422 with its reason, and again under the same key", async () => {
  const before = await now();
  const refused = await place("+14155550006", "rejected");
  expect(refused).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });
  expect(refused.body.error.message).toContain("rejected this call");
  await expectNothingPlaced(await newCall(before));
  const again = await place("+14155550006", "rejected");
  expect({ ...again, headers: null }).toEqual({ ...refused, headers: null });
});

test("call.started comes before the response: one call, and the replay returns the same response", async () => {
  const { createCall } = provider;
  provider.createCall = async (account, call, deadline) => {
    const answer = await createCall(account, call, deadline);
    // Only the webhook can have done it: the simulator has not sent the response.
    await until(
      async () =>
        (await h.owner`select status from intents where subject_id = ${call.callId}`)[0]?.status === "settled",
    );
    return answer;
  };
  try {
    const placed = await place("+14155550007", "slow-answer");
    expect(placed.status).toBe(201);
    const replay = await place("+14155550007", "slow-answer");
    expect({ ...replay, headers: null }).toEqual({ ...placed, headers: null });
    await expectOneCallChargedOnce(placed.body.data.id);
  } finally {
    provider.createCall = createCall;
  }
});

test("the response comes after the webhook has settled the intent: the same call continues", async () => {
  const { createCall, hangUp } = provider;
  const hungUp: string[] = [];
  provider.createCall = async (account, call, deadline) => {
    const answer = await createCall(account, call, deadline);
    await until(async () => (await callRow(h, call.callId)).status === "active");
    return answer;
  };
  provider.hangUp = (account, providerCallId, deadline) => {
    hungUp.push(providerCallId);
    return hangUp(account, providerCallId, deadline);
  };
  try {
    const placed = await place("+14155550015", "late-answer");
    expect(placed.status).toBe(201);
    const { id } = placed.body.data;
    const { provider_call_id } = await callRow(h, id);
    expect([...hungUp, ...(await waitingJobs(h, "calls.hangUpStray"))], "it does not count as a stray").toEqual([]);
    expect((await provider.getCall(platformAccount, provider_call_id!, inTime()))!.endedAt).toBeNull();
    await h.simulator.control(`calls/${provider_call_id}/end`);
    await expectOneCallChargedOnce(id);
    const [ended] = await h.owner`select end_reason from calls where id = ${id}`;
    expect(ended!.end_reason, "and was not hung up by us").toBe("hangup");
    expect(hungUp).toEqual([]);
  } finally {
    Object.assign(provider, { createCall, hangUp });
  }
});

const strays = async (id: string) => {
  const { provider_call_id } = await callRow(h, id);
  const all = await provider.findCalls(platformAccount, id, new Date(Date.now() - 3_600_000), inTime());
  return all.filter(({ providerCallId }) => providerCallId !== provider_call_id);
};

test("overloaded after accepting: the call is found by our id, and not dialled again", async () => {
  await h.simulator.faults({
    create: { errors: [{ status: 503, times: 2, afterAccepting: true }] },
    webhooks: { lose: everything },
  });
  const placed = await place("+14155550100", "found-after-503");
  expect(placed.status).toBe(201);
  const { id } = placed.body.data;
  await sweepUntilBilled(h, id);
  await expectOneCallChargedOnce(id);
});

/** The provider's lists do not show yet what was made a moment ago. */
async function whileListsLag<T>(work: () => Promise<T>, onLook = async () => {}): Promise<T> {
  const { findCalls } = provider;
  provider.findCalls = async () => {
    await onLook();
    return [];
  };
  try {
    return await work();
  } finally {
    provider.findCalls = findCalls;
  }
}

test("given up after one look: what shows up later is hung up, and only the call under the repeated key counts", async () => {
  const create = { errors: [{ status: 503, times: 1, afterAccepting: true, retryAfterSeconds: 60 }] };
  await h.simulator.faults({ create, webhooks: { lose: everything } });
  const before = await now();
  const first = await whileListsLag(() => place("+14155550015", "late-list"));
  expect(first).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
  expect(first.headers.get("retry-after")).toBe("60");
  const id = await newCall(before);
  expect(await acceptedFor(h, id)).toBe(1);
  await h.simulator.faults({});
  await hurry(h, "intents.resolve");
  await until(async () => {
    await hurry(h, "calls.hangUpOrphan");
    return (await strays(id)).every(({ endedAt }) => endedAt !== null);
  });
  const again = await place("+14155550015", "late-list");
  expect(again.status).toBe(201);
  expect(await acceptedFor(h, again.body.data.id)).toBe(1);
  const { provider_call_id } = await callRow(h, again.body.data.id);
  await until(async () => (await callRow(h, again.body.data.id)).status === "active");
  await h.simulator.control(`calls/${provider_call_id}/end`);
  await finished(h, again.body.data.id);
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "release"]);
  await expectSoundBooks(h);
});

test("overloaded after accepting, while lists lag: of three calls one is ours, the others are hung up and not charged", async () => {
  await h.simulator.faults({ create: { errors: [{ status: 503, times: 2, afterAccepting: true }] } });
  const placed = await whileListsLag(() => place("+14155550015", "strays"));
  expect(placed.status).toBe(201);
  const { id } = placed.body.data;
  expect(await acceptedFor(h, id)).toBe(3);
  await until(async () => {
    await hurry(h, "calls.hangUpOrphan");
    return (await strays(id)).every(({ endedAt }) => endedAt !== null);
  });
  expect((await strays(id)).map(({ endReason }) => endReason)).toEqual(["agent_hangup", "agent_hangup"]);
  const { provider_call_id, ...ours } = await callRow(h, id);
  expect(ours).toMatchObject({ ended_at: null });
  await until(async () => (await callRow(h, id)).status === "active");
  await h.simulator.control(`calls/${provider_call_id}/end`);
  const row = await finished(h, id);
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  const bill = await provider.getCall(platformAccount, provider_call_id!, inTime());
  expect(row).toMatchObject({ billed_seconds: bill!.billedSeconds, billing_revision: 1 });
  await expectStory(h, id, { joined: true, last: "call.completed" });
  await expectSoundBooks(h);
});

test("a second call that only the request learns of is hung up too", async () => {
  await h.simulator.faults({
    create: { errors: [{ status: 503, times: 1, afterAccepting: true, retryAfterSeconds: 1 }] },
  });
  const before = await now();
  const placing = whileListsLag(() => place("+14155550015", "stray-by-answer"));
  const id = await until(async () => {
    const rows = await h.owner`select subject_id from intents where created_at > ${before} and status = 'settled'`;
    return rows[0]?.subject_id as string | undefined;
  });
  await h.simulator.faults({ webhooks: { lose: everything } });
  expect(await placing).toMatchObject({ status: 201, body: { data: { id } } });
  expect(await acceptedFor(h, id)).toBe(2);
  await until(async () => {
    await hurry(h, "calls.hangUpOrphan");
    return (await strays(id)).every(({ endedAt }) => endedAt !== null);
  });
  const { provider_call_id } = await callRow(h, id);
  const ours = await provider.getCall(platformAccount, provider_call_id!, inTime());
  expect(ours!.endedAt, "ours goes on").toBeNull();
  await h.simulator.control(`calls/${provider_call_id}/end`);
  await sweepUntilBilled(h, id);
});

/** The provider did it behind a 503, its lists lag, and no webhook arrives: only the second look can find it. */
const acceptedBehind503 = { status: 503, times: 1, afterAccepting: true };

test("a second attempt is refused: the call of the first is hung up, and costs the client nothing", async () => {
  const webhooks = { lose: everything };
  await h.simulator.faults({ create: { errors: [acceptedBehind503] }, webhooks });
  const refuse = () => h.simulator.faults({ create: { errors: [{ status: 422, times: 1 }] }, webhooks });
  const before = await now();
  const first = await whileListsLag(() => place("+14155550015", "refused-after-503"), refuse);
  expect(first).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });
  const id = await newCall(before);
  expect(await acceptedFor(h, id)).toBe(1);
  await hurry(h, "intents.resolve");
  await until(async () => {
    await hurry(h, "calls.hangUpStray");
    return (await strays(id)).every(({ endedAt }) => endedAt !== null);
  });
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "release"]);
  await expectSoundBooks(h);
});

test("a second attempt is accepted: the call of the first is hung up, and ours goes on", async () => {
  await h.simulator.faults({ create: { errors: [acceptedBehind503] }, webhooks: { lose: everything } });
  const placed = await whileListsLag(() => place("+14155550015", "accepted-after-503"));
  expect(placed.status).toBe(201);
  const { id } = placed.body.data;
  expect(await acceptedFor(h, id)).toBe(2);
  const { provider_call_id } = await callRow(h, id);
  await hurry(h, "intents.resolve");
  await until(async () => {
    await hurry(h, "calls.hangUpStray");
    const others = (await strays(id)).filter(({ providerCallId }) => providerCallId !== provider_call_id);
    return others.length === 1 && others[0]!.endedAt !== null;
  });
  const ours = await provider.getCall(platformAccount, provider_call_id!, inTime());
  expect(ours!.endedAt, "ours goes on").toBeNull();
  await h.simulator.control(`calls/${provider_call_id}/end`);
  await sweepUntilBilled(h, id);
});

test("a call that shows up after it was given up is hung up, and costs the client nothing", async () => {
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, webhooks: { lose: everything } });
  const { findCalls } = provider;
  provider.findCalls = async () => []; // the provider's lists lag behind
  try {
    const first = await place("+14155550015", "late-shower");
    expect(first.status).toBe(202);
    const { id } = first.body.data;
    await letSafetyJobsRun(h);
    provider.findCalls = findCalls;
    expect(await callRow(h, id)).toMatchObject({ status: "failed", provider_call_id: null });
    await h.simulator.faults({});
    const [late] = await strays(id);
    await h.simulator.control("webhooks/resend", { callId: late!.providerCallId, event: "call.started" });
    await until(async () => {
      await hurry(h, "calls.hangUpOrphan");
      return (await strays(id)).every(({ endedAt }) => endedAt !== null);
    });
    await until(async () => {
      const rows = await h.owner`select key from ingress_events where subject_id = ${id} and status = 'applied'`;
      return rows.some(({ key }) => key.startsWith("call.billed:"));
    });
    expect(await storyOf(h, id)).toEqual(["call.failed"]);
    expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "release"]);
    await expectSoundBooks(h);
  } finally {
    provider.findCalls = findCalls;
  }
});

test("settled by another process during the request: it returns the settled outcome", async () => {
  await h.simulator.faults({ create: { hangBeforeAccepting: 1, holdMs: 60_000 } });
  const { createCall } = provider;
  const stop = new AbortController();
  provider.createCall = (account, call) => createCall(account, call, { signal: stop.signal });
  try {
    const before = await now();
    const placing = place("+14155550100", "overtaken");
    const id = await until(async () => (await h.owner`select id from calls where created_at > ${before}`)[0]?.id);
    await letSafetyJobsRun(h);
    stop.abort();
    expect(await placing).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
    await expectNothingPlaced(id);
  } finally {
    stop.abort();
    provider.createCall = createCall;
  }
});

test("a provider that does not let us look has not refused the call", async () => {
  await h.simulator.faults({
    create: { resetAfterAccepting: 1 },
    reads: { errors: [{ status: 403, times: 1_000 }] },
    webhooks: { lose: everything },
  });
  const first = await place("+14155550100", "forbidden-look");
  const { id } = first.body.data;
  expect(first.status).toBe(202);
  await hurry(h, "intents.resolve");
  await until(async () => (await waitingJobs(h, "intents.resolve")).some(({ payload }) => payload.attempt >= 1));
  expect((await callRow(h, id)).status).toBe("unknown");
  await h.simulator.faults({ webhooks: { lose: everything } });
  await letSafetyJobsRun(h);
  await sweepUntilBilled(h, id);
  await expectOneCallChargedOnce(id);
});

test("a safety job that has used up its attempts begins again: a hold never lapses by the clock", async () => {
  await h.simulator.faults({ create: { resetAfterAccepting: 1 }, webhooks: { lose: everything } });
  const first = await place("+14155550100", "outage");
  const { id } = first.body.data;
  await h.owner`update graphile_worker._private_jobs j
    set payload = (jsonb_set(payload::jsonb, '{attempt}', '9'))::json from graphile_worker._private_tasks t
    where t.id = j.task_id and t.identifier = 'intents.resolve'
      and payload->'body'->>'intentId' = (select id from intents where subject_id = ${id})`;
  const { findCalls } = provider;
  provider.findCalls = () => Promise.reject(new ProviderError("unavailable", "The provider cannot be reached."));
  try {
    await hurry(h, "intents.resolve");
    await until(async () => (await h.owner`select id from dead_jobs where task = 'intents.resolve'`).length === 1);
  } finally {
    provider.findCalls = findCalls;
  }
  expect((await callRow(h, id)).status).toBe("unknown");
  await letSafetyJobsRun(h);
  await sweepUntilBilled(h, id);
  await expectOneCallChargedOnce(id);
});

test("many concurrent calls at the limit of the balance: exactly as many as it covers", async () => {
  // 150 s at 9 credits a minute and 1.5 for the line: 26.25 credits each.
  const eve = await seedClient(h.deps, { name: "Eve", subject: "auth0|eve", credits: 200 });
  const eves = await makeAgent(h, {}, eve.key);
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      h.post(
        "/calls",
        { agentId: eves, medium: phone("+14155550014") },
        { key: eve.key, ...(index % 2 ? { idempotencyKey: `edge-${index}` } : {}) },
      ),
    ),
  );
  const placed = answers.filter(({ status }) => status === 201);
  const refused = answers.filter(({ status }) => status !== 201);
  expect(placed).toHaveLength(7);
  for (const { status, body } of refused) {
    expect({ status, code: body.error.code }).toEqual({ status: 402, code: "credits_insufficient" });
  }
  const { body } = await h.get("/billing/balance", { key: eve.key });
  expect(body.data).toEqual({ availableMicros: 200_000_000 - 7 * 26_250_000, heldMicros: 7 * 26_250_000 });
  const [counted] = await h.owner`select count(*)::int as calls from calls where client_id = ${eve.clientId}`;
  expect(counted!.calls, "a refused call leaves nothing behind").toBe(7);
  for (const { body } of placed) {
    const { provider_call_id } = await callRow(h, body.data.id);
    await h.simulator.control(`calls/${provider_call_id}/end`);
  }
  for (const { body } of placed) await finished(h, body.data.id);
  await expectSoundBooks(h);
});
