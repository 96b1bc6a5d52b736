import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { type Boundary, boundaries, type ChildNews, type ChildOptions } from "../support/api-child.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  acceptedFor,
  callRow,
  expectSoundBooks,
  expectStory,
  finished,
  letSafetyJobsRun,
  makeAgent,
  postingsOf,
  storyOf,
  sweepNow,
} from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 100 });
const agentId = await makeAgent(h);
const everything = ["call.started", "call.joined", "call.ended", "call.billed"];
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

const orderAt = (boundary: Boundary, keys: string) => ({
  agentId,
  medium: phone("+14155550100"),
  metadata: { boundary, keys },
});

/** Another process of the same installation places a call, and dies during it. */
async function placeAndDie(boundary: Boundary, keys: string) {
  const options: ChildOptions = { env: h.env, role: "api", boundary };
  const child = fork(new URL("../support/api-child.ts", import.meta.url), [JSON.stringify(options)]);
  children.push(child);
  const exited = once(child, "exit");
  const url = await new Promise<string>((resolve, reject) => {
    child.on("message", async (news: ChildNews) => {
      if ("url" in news) return resolve(news.url);
      // The request was sent. The provider accepts, but the response is lost.
      await until(async () => {
        const rows = await h.owner`select id from calls where metadata = ${h.owner.json({ boundary, keys })}`;
        return rows[0] && (await acceptedFor(h, rows[0].id)) === 1;
      });
      child.kill("SIGKILL");
    });
    exited.then(([code, signal]) => reject(new Error(`The child ended too soon: ${code} ${signal}`)), reject);
  });
  const request = fetch(`${url}/api/v1/calls`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${h.ada.key}`,
      "content-type": "application/json",
      "idempotency-key": `${keys} ${boundary}`.replaceAll(" ", "-"),
    },
    body: JSON.stringify(orderAt(boundary, keys)),
  });
  const cut = expect.stringMatching(/^(UND_ERR_SOCKET|ECONNRESET)$/);
  await expect(request, "a dead process sends no response").rejects.toMatchObject({ cause: { code: cut } });
  const [, signal] = await exited;
  expect(signal).toBe("SIGKILL");
}

const again = (boundary: Boundary, keys: string) =>
  h.post("/calls", orderAt(boundary, keys), { idempotencyKey: `${keys} ${boundary}`.replaceAll(" ", "-") });

async function callsOf(boundary: Boundary, keys: string): Promise<string[]> {
  const rows = await h.owner`select id from calls where metadata = ${h.owner.json({ boundary, keys })}`;
  return rows.map(({ id }) => id);
}

async function expectSettled(boundary: Boundary, keys: string) {
  const replay = await until(async () => {
    const response = await again(boundary, keys);
    return response.status === 409 || response.status === 202 ? null : response; // 202: its minute has passed, and it is not settled
  });
  const neverSent = boundary === "before the provider is called";
  const ids = (await callsOf(boundary, keys)).toSorted();
  expect(ids, "one call per key; a second one if the first never reached the provider").toHaveLength(neverSent ? 2 : 1);
  const id = ids[0]!;
  const row = await finished(h, id, 60);
  const postings = await postingsOf(h, id);
  const spent = postings.reduce((sum, [, available]) => sum + available, 0);

  if (neverSent) {
    expect(await acceptedFor(h, id)).toBe(0);
    expect(replay, "its key runs a new call").toMatchObject({ status: 201, body: { data: { id: ids[1] } } });
    await finished(h, ids[1]!, 60);
    expect(row).toMatchObject({ status: "failed", provider_call_id: null });
    expect(await storyOf(h, id)).toEqual(["call.failed"]);
    expect([postings.map(([kind]) => kind), spent]).toEqual([["hold", "release"], 0]);
  } else {
    expect(await acceptedFor(h, id)).toBe(1);
    expect(replay).toMatchObject({ status: 201, body: { data: { id } } });
    const fresh = boundary === "before the first commit";
    expect(replay.headers.get("idempotency-replayed"), "a new run, or a replay").toBe(fresh ? null : "true");
    expect(row).toMatchObject({ status: "ended", outcome: "completed", billing_revision: 1 });
    await expectStory(h, id, { joined: true, last: "call.completed" });
    expect([postings.map(([kind]) => kind), spent]).toEqual([["hold", "settlement"], -Number(row.cost_micros)]);
  }
  const audited = await h.owner`select id from audit_log where action = 'calls.create' and subject_id = ${id}`;
  expect(audited).toHaveLength(1);
  const later = await again(boundary, keys);
  expect({ status: later.status, body: later.body }).toEqual({ status: replay.status, body: replay.body });
  expect(await acceptedFor(h, id)).toBe(neverSent ? 0 : 1);
  if (neverSent) expect(await acceptedFor(h, ids[1]!)).toBe(1);
}

for (const keys of ["delivered", "lost"]) {
  const webhooks = keys === "delivered" ? "the provider's webhooks arrive" : "no webhook ever arrives";

  test(`${webhooks}: six processes die while they place a call`, { timeout: 180_000 }, async () => {
    await h.simulator.faults(keys === "lost" ? { webhooks: { lose: everything } } : {});
    await Promise.all(boundaries.map((boundary) => placeAndDie(boundary, keys)));
    expect(await callsOf("before the first commit", keys), "nothing was written").toEqual([]);
    for (const boundary of boundaries.slice(1)) expect(await callsOf(boundary, keys)).toHaveLength(1);
    if (keys === "lost") {
      const waiting = boundaries.slice(1, -1);
      for (const boundary of waiting) {
        expect(await again(boundary, keys)).toMatchObject({
          status: 409,
          body: { error: { code: "idempotency_in_progress" } },
        });
        const [id] = await callsOf(boundary, keys);
        expect(await callRow(h, id!), "the second transaction left nothing").toMatchObject({ status: "queued" });
        expect(await storyOf(h, id!)).toEqual([]);
      }
    }
    await letSafetyJobsRun(h, 60);
    const sweeping = setInterval(() => sweepNow(h).catch(() => {}), 500);
    try {
      await Promise.all(
        boundaries.map((boundary) =>
          expectSettled(boundary, keys).catch((cause) => {
            throw new Error(`killed ${boundary}, ${webhooks}: ${cause.message}`, { cause });
          }),
        ),
      );
    } finally {
      clearInterval(sweeping);
    }
    await expectSoundBooks(h);
  });
}
