import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Tx, withCommit } from "../../db/client.ts";
import { command, query, router } from "../../routers/core/procedures.ts";
import { rest } from "../../routers/core/rest-metadata.ts";
import { startTestApp, until } from "../support/app.ts";

/** Takes the first lock, waits until it may continue, and takes the second; counts how often it starts. */
const gate = Promise.withResolvers<void>();
let begun = 0;
const shelf = async (tx: Tx) => (await tx.execute(sql`select shelf.* from shelf, pg_sleep(0.1)`))[0] ?? {};
const doors = router({
  agents: router({
    cross: command
      .meta(rest("POST", "/agents/{id}/cross", "agents:write", "Take two things"))
      .input(z.strictObject({ id: z.string() }))
      .output(z.strictObject({ id: z.string() }))
      .mutation(async ({ ctx, input }) => {
        begun += 1;
        await ctx.tx.execute(sql`select pg_advisory_xact_lock(1)`);
        await gate.promise;
        await ctx.tx.execute(sql`select pg_advisory_xact_lock(2)`);
        return input;
      }),
    lose: command
      .meta(rest("POST", "/agents/{id}/lose", "agents:write", "Be ended each time"))
      .input(z.strictObject({ id: z.string() }))
      .output(z.strictObject({ id: z.string() }))
      .mutation(async ({ ctx, input }) => {
        begun += 1;
        await ctx.tx.execute(sql`do $$ begin raise exception using errcode = 'deadlock_detected'; end $$`);
        return input;
      }),
    look: command
      .meta(rest("POST", "/agents/{id}/look", "agents:write", "Whatever columns there are"))
      .input(z.strictObject({ id: z.string() }))
      .output(z.record(z.string(), z.unknown()))
      .mutation(({ ctx }) => shelf(ctx.tx)),
    get: query
      .meta(rest("GET", "/agents/{id}", "agents:read", "Whatever columns there are"))
      .input(z.strictObject({ id: z.string() }))
      .output(z.record(z.string(), z.unknown()))
      .query(({ ctx }) => shelf(ctx.tx)),
  }),
});

const h = await startTestApp({ router: doors });

test("a command that deadlocks with another is retried, and executed once", async () => {
  const other = await h.owner.reserve();
  const [own] = await other<{ pid: number }[]>`select pg_backend_pid() as pid`;
  await other`set deadlock_timeout = '1min'`; // the command looks first, and is the one that Postgres ends
  await other`begin`;
  await other`select pg_advisory_xact_lock(2)`;
  const asked = h.post("/agents/agent_1/cross", undefined, { idempotencyKey: "crosswise" });
  await until(async () => begun === 1);
  await until(async () => (await h.owner`select from pg_locks where locktype = 'advisory' and objid = 1`).length === 1);
  const crossing = other`select pg_advisory_xact_lock(1)`.execute();
  await until(async () => (await h.owner`select from pg_locks where pid = ${own!.pid} and not granted`).length === 1);
  gate.resolve();
  await crossing;
  await until(async () => begun === 2);
  await other`commit`;
  other.release();

  const answer = await asked;
  expect([answer.status, answer.body.data]).toEqual([200, { id: "agent_1" }]);
  const again = await h.post("/agents/agent_1/cross", undefined, { idempotencyKey: "crosswise" });
  expect(again.body.data).toEqual(answer.body.data);
  expect(begun).toBe(2);
  expect(await h.owner`select from audit_log where action = 'agents.cross'`).toHaveLength(1);
});

test("one that is ended each time is refused, and nothing of it is left", async () => {
  begun = 0;
  const answer = await h.post("/agents/agent_2/lose");
  expect([answer.status, answer.body.error.code]).toEqual([503, "server_overloaded"]);
  expect(answer.headers.get("retry-after")).toBe("1");
  expect(begun).toBe(3);
  expect(await h.owner`select from audit_log where action = 'agents.lose'`).toEqual([]);
});

test("a stale plan on every connection is retried, for reads and writes", async () => {
  await h.owner.unsafe("create table shelf (a int); grant select on shelf to public; insert into shelf values (1)");
  const columns = async (asked: ReturnType<typeof h.get>) => Object.keys((await asked).body.data);
  const read = () => columns(h.get("/agents/agent_3"));
  const written = () => columns(h.post("/agents/agent_3/look"));
  const several = (look: () => Promise<string[]>) => Promise.all(Array.from({ length: 6 }, look));
  const names = ["a"];
  for (const [look, added] of [
    [read, "b"],
    [written, "c"],
  ] as const) {
    // Read or written, it is one statement: every connection has prepared it by then.
    for (const each of [read, written]) expect(await several(each)).toEqual(Array(6).fill(names));
    await h.owner.unsafe(`alter table shelf add ${added} int`);
    names.push(added);
    expect(await look()).toEqual(names);
  }
});

test("a statement that goes with the commit is not sent again after the rollback, when its plan is stale", async () => {
  await h.owner.unsafe("create table record (a int); grant select, insert on record to public");
  const { db } = h.deps;
  const write = () =>
    db.asSystem(async (tx) => {
      withCommit(tx, () => tx.execute(sql`insert into record (a) values (1) returning *`).execute());
    });
  for (let n = 0; n < 10; n++) await write();
  await h.owner.unsafe("alter table record add b int");
  await expect(write()).rejects.toMatchObject({ cause: { message: "cached plan must not change result type" } });
  expect(await h.owner`select count(*)::int as n from record`).toEqual([{ n: 10 }]);
});

test("of statements sent together, the first failure is reported, whichever is awaited first", async () => {
  const failing = h.deps.db.asSystem(async (tx) => {
    const [bad, next] = [tx.execute(sql`select 1 / 0`).execute(), tx.execute(sql`select 1`).execute()];
    bad.catch(() => {});
    await next;
  });
  await expect(failing).rejects.toMatchObject({ cause: { message: "division by zero" } });
});
