import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { auditHash, chainAudit } from "../../jobs/audit-chain.ts";
import { busTimer } from "../../jobs/bus.ts";
import { canonicalJson } from "../../jobs/canonical-json.ts";
import { loopRecorder, watchLoops } from "../../jobs/runtime/loops.ts";
import { eachOrApart } from "../../jobs/runtime/set-apart.ts";
import { openShares } from "../../jobs/runtime/shares.ts";
import { sweepDeliveries } from "../../jobs/webhooks.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { startTestApp } from "../support/app.ts";
import { addDeliveries, addEndpoint } from "../support/dispatch.ts";

const h = await startTestApp();
const { db } = h.deps;
const lines: { msg: string; subject?: string }[] = [];
const log = pino({ level: "error" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
const signal = new AbortController().signal;
const ctx = { asSystem: db.asSystem, signal, log };
const operator = async () => ({ key: await h.operator() });
const apartOf = async (loop: string) =>
  (
    await h.owner<{ id: string; subject: string }[]>`select id, subject from set_apart where loop = ${loop} order by id`
  ).map((row) => row);

/** An audit row of some seconds ago. */
async function write(clientId: string, id: string, input: string, secondsAgo: number) {
  await h.owner`insert into audit_log (client_id, id, actor, action, input, request_id, created_at)
    values (${clientId}, ${id}, 'user', 'agents.create', ${input}::text::jsonb, 'req', now() - make_interval(secs => ${secondsAgo}))`;
}
const chained = async (id: string) => (await h.owner`select position::int, hash from audit_log where id = ${id}`)[0]!;

describe("the audit chain", () => {
  test("chains a row whose input is nested thousands deep, and those of everybody else", async () => {
    const deep = `${"[".repeat(2_500)}1${"]".repeat(2_500)}`;
    await write(h.ada.clientId, "aud_deep", `{"schema":${deep}}`, 60);
    await write(h.bob.clientId, "aud_bob", "{}", 50);
    await chainAudit({ db, signal, log });
    expect((await chained("aud_deep")).position).toEqual(expect.any(Number));
    expect((await chained("aud_bob")).position).toEqual(expect.any(Number));
    expect(await apartOf("audit.chain")).toEqual([]);
  });

  test("continues without a row that cannot be chained, logs it once, and chains it when an operator retries it", async () => {
    await h.owner.unsafe(`
      create function no_chain() returns trigger language plpgsql as $$ begin
        if new.id = 'aud_bad' and new.position is not null then raise exception 'not this one'; end if; return new; end $$;
      create trigger no_chain before update on audit_log for each row execute function no_chain()`);
    await write(h.ada.clientId, "aud_bad", "{}", 40);
    for (let n = 0; n < 5; n++) await write(n % 2 ? h.ada.clientId : h.bob.clientId, `aud_good${n}`, "{}", 30 - n);
    lines.length = 0;
    for (let runs = 0; runs < 2; runs++) await chainAudit({ db, signal, log });
    for (let n = 0; n < 5; n++) expect((await chained(`aud_good${n}`)).position).toEqual(expect.any(Number));
    expect((await chained("aud_bad")).position).toBeNull();
    expect(lines.map(({ msg, subject }) => [msg, subject])).toEqual([
      ["row set apart; its loop continues without it", "aud_bad"],
    ]);
    expect((await h.get("/health")).body).toMatchObject({ status: "degraded", setApart: 1 });

    const listed = await h.get("/admin/set-apart?loop=audit.chain", await operator());
    expect(listed.body.data).toMatchObject([
      { loop: "audit.chain", subject: "aud_bad", clientId: h.ada.clientId, reason: "not this one" },
    ]);
    const { id } = listed.body.data[0];
    expect((await h.post(`/admin/set-apart/${id}/retry`, {}, { key: h.ada.key })).status).toBe(403);
    await h.owner`drop trigger no_chain on audit_log`;
    expect((await h.post(`/admin/set-apart/${id}/retry`, {}, await operator())).status).toBeLessThan(300);
    expect((await h.post(`/admin/set-apart/${id}/retry`, {}, await operator())).body.error.code).toBe(
      "set_apart_not_found",
    );
    await chainAudit({ db, signal, log });
    const rows =
      await h.owner`select id, actor, action, subject_id as "subjectId", input, request_id as "requestId", hash,
      client_id as "clientId", to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdAt"
      from audit_log where client_id = ${h.ada.clientId} and position is not null order by position`;
    expect(rows.map((row) => row.id)).toContain("aud_bad");
    let previous = "";
    for (const { hash, ...row } of rows) {
      expect(hash).toBe(auditHash(previous, row as never));
      previous = hash;
    }
    expect((await h.get("/health")).body).toMatchObject({ setApart: 0 });
  });

  test("canonical JSON has the text that it always had", () => {
    const seen = { b: 1, "10": [true, null, {}], "9": { y: "ü", x: [] }, a: undefined, c: 1.5 };
    expect(canonicalJson(seen)).toBe('{"9":{"x":[],"y":"ü"},"10":[true,null,{}],"b":1,"c":1.5}');
  });
});

describe("a batch of a system loop", () => {
  const rows = Array.from({ length: 20 }, (_, n) => `row${n}`);
  const batch = (loop: string, work: (row: string) => void) => {
    const done: string[] = [];
    const run = eachOrApart(ctx, {
      loop,
      rows,
      subjectOf: (id) => ({ id, clientId: null }),
      work: async (some) => {
        for (const row of some) work(row);
        done.push(...some);
      },
    });
    return { run, done };
  };

  test("sets apart the rows that fail alone, and processes every other one once, in order", async () => {
    const { run, done } = batch("test.rows", (row) => {
      if (row === "row3" || row === "row17") throw new RangeError("too deep");
    });
    expect(await run).toEqual({ done: 18, apart: 2 });
    expect(done).toEqual(rows.filter((row) => row !== "row3" && row !== "row17"));
    expect((await apartOf("test.rows")).map(({ subject }) => subject)).toEqual(["row3", "row17"]);
  });

  test("sets nothing apart when the database or a provider is away for all of them", async () => {
    const lost = batch("test.lost", () => {
      throw Object.assign(new Error("terminating connection"), { code: "57P01" });
    });
    await expect(lost.run).rejects.toThrow("terminating connection");
    const away = batch("test.away", () => {
      throw new ProviderError("unavailable", "503");
    });
    await expect(away.run).rejects.toThrow("503");
    expect([...(await apartOf("test.lost")), ...(await apartOf("test.away"))]).toEqual([]);
  });

  test("sets apart what a provider will not do for one row, when it does it for others", async () => {
    const { run } = batch("test.one", (row) => {
      if (row === "row5") throw new ProviderError("unknown", "500");
    });
    expect(await run).toEqual({ done: 19, apart: 1 });
  });
});

test("a client whose deliveries cannot be swept does not delay the others, and is swept again when possible", async () => {
  const ids = await Promise.all(
    [h.ada, h.bob].map(async ({ clientId }) => {
      const endpoint = await addEndpoint(h.owner, clientId);
      await addDeliveries(h.owner, clientId, endpoint, { count: 3, dueSecondsAgo: 5 });
      return endpoint;
    }),
  );
  await h.owner.unsafe(`
    create function no_sweep() returns trigger language plpgsql as $$ begin
      if new.endpoint_id = '${ids[0]}' then raise exception 'not these'; end if; return new; end $$;
    create trigger no_sweep before update on deliveries for each row execute function no_sweep()`);
  const inFlight = async (id: string) =>
    (await h.owner`select from deliveries where endpoint_id = ${id} and admitted_until is not null`).length;
  await sweepDeliveries({ db, log });
  expect([await inFlight(ids[0]!), await inFlight(ids[1]!)]).toEqual([0, 3]);
  expect((await apartOf("deliveries.sweep")).map(({ subject }) => subject)).toEqual([h.ada.clientId]);
  await h.owner`drop trigger no_sweep on deliveries`;
  await sweepDeliveries({ db, log });
  expect(await inFlight(ids[0]!)).toBe(3);
  expect(await apartOf("deliveries.sweep")).toEqual([]);
});

test("an event that cannot be written for the bus is refused, and those behind it are published", async () => {
  const told: string[] = [];
  const bus = {
    name: "test-bus",
    publish: async (entries: readonly { detail: string }[]) => {
      told.push(...entries.map(({ detail }) => JSON.parse(detail).subject.id));
      return entries.map(() => ({ is: "accepted" }) as const);
    },
  };
  const providers = { bus } as unknown as Providers;
  const { run } = busTimer();
  await run({ db, log, signal, providers });
  const deep = `${"[".repeat(6_000)}1${"]".repeat(6_000)}`;
  for (const [subject, data] of [
    ["agent_1", "{}"],
    ["agent_2", `{"deep":${deep}}`],
    ["agent_3", "{}"],
  ] as const)
    await h.owner`insert into events (client_id, id, type, subject_type, subject_id, sequence, data)
      values (${h.ada.clientId}, ${newId("event")}, 'agent.created', 'agent', ${subject}, 1, ${data}::text::jsonb)`;
  // Events are published once no older transaction of the server is open, of any database.
  const publish = async () => {
    await run({ db, log, signal, providers });
    return told;
  };
  await expect.poll(publish, { timeout: 20_000 }).toEqual(expect.arrayContaining(["agent_1", "agent_3"]));
  expect(told).not.toContain("agent_2");
});

test("health names a loop that has not succeeded for long, and no longer once it has", async () => {
  await watchLoops(db, [{ name: "audit.chain", periodSeconds: 5 }]);
  await h.owner`update loop_heartbeats set last_success_at = now() - interval '10 minutes', watched_since = now() - interval '1 hour'`;
  expect((await h.get("/health")).body).toMatchObject({ status: "degraded", lateLoops: ["audit.chain"] });
  loopRecorder(db)("audit.chain");
  await expect.poll(async () => (await h.get("/health")).body.lateLoops, { timeout: 10_000 }).toEqual([]);
});

describe("the shares of a pool", () => {
  test("one client holds half of the slots, two hold a third each, and another finds one that is free", () => {
    const { enter } = openShares(12, () => 0);
    const begun = (clientId: string) => {
      let n = 0;
      while ("leave" in enter(clientId)) n += 1;
      return n;
    };
    expect(begun("a")).toBe(6);
    expect(begun("b")).toBe(3);
    expect(begun("c")).toBe(1);
    expect("leave" in enter("d")).toBe(true);
  });

  test("jobs beyond a share are tried again with spacing, and a free slot is passed on", () => {
    const { enter } = openShares(4, () => 0);
    const first = enter("a");
    enter("a");
    const again = [enter("a"), enter("a"), enter("a")].map((place) =>
      "againInSeconds" in place ? place.againInSeconds : 0,
    );
    expect(again.every((seconds) => seconds > 0 && seconds < 2)).toBe(true);
    expect(again.toSorted((one, other) => one - other)).toEqual(again);
    if ("leave" in first) first.leave();
    expect("leave" in enter("a")).toBe(true);
  });
});
