import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { cloneDatabase } from "../support/database.ts";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let owner: postgres.Sql;

beforeAll(async () => {
  database = await cloneDatabase();
  owner = postgres(database.url, { max: 1, onnotice: () => {} });
});

afterAll(async () => {
  await owner.end();
  await database.drop();
});

/** One connection of a login, for hostile statements. */
async function as<T>(url: string, attack: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await attack(sql);
  } finally {
    await sql.end();
  }
}

/** A call of every SECURITY DEFINER function. */
const definers = {
  tenantUrl: [
    `select graphile_worker.patchbay_enqueue('[{"task": "webhooks.deliver", "body": {}, "runAt": "2026-01-01", "key": "k"}]')`,
    `select * from graphile_worker.patchbay_waiting('webhooks.deliver')`,
  ],
  systemUrl: [
    "select app.applied_migrations()",
    "select app.make_partitions()",
    "select app.make_partitions(now())",
    "select app.drop_partitions('events', now() - interval '10 years')",
    "select app.drop_partitions('events')",
    `select graphile_worker.patchbay_enqueue_all('webhooks.deliver', array['c'], array['{}'::json], array[now()])`,
    `select graphile_worker.patchbay_enqueue_for('c', '[{"task": "webhooks.deliver", "body": {}}]')`,
    `select graphile_worker.patchbay_enqueue_missing('[{"task": "webhooks.deliver", "clientId": "c", "body": {}, "key": "m"}]')`,
    "select graphile_worker.patchbay_oldest_due_seconds()",
    "select graphile_worker.patchbay_remove(1, 'pool')",
    "select * from graphile_worker.patchbay_take_exhausted(10)",
  ],
} as const;

describe.each(["tenantUrl", "systemUrl", "workerUrl"] as const)("the login of %s", (login) => {
  test("cannot make a temporary object of any kind, nor a schema", async () => {
    const attempts = [
      "create temp table t (a integer)",
      "create temp view pg_class as select 1 as oid",
      "create function pg_temp.evil() returns text language sql as 'select 1::text'",
      "create domain pg_temp.text as pg_catalog.text",
      "create schema postgres",
      "create table public.planted (a integer)",
      "create function app.now() returns timestamptz language sql as 'select pg_catalog.now()'",
    ];
    for (const text of attempts) {
      const refused = as(database.roles[login], (sql) => sql.unsafe(text));
      await expect(refused, text).rejects.toMatchObject({ code: expect.stringMatching(/^(42501|3F000)$/) });
    }
  });
});

describe("SECURITY DEFINER functions", () => {
  // Grants temporary objects: the functions must be safe without that protection.
  beforeEach(() =>
    owner.unsafe("do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$"),
  );

  test.each(["tenantUrl", "systemUrl"] as const)(
    "never use a table, view or type of the caller (%s)",
    async (login) => {
      const names = await owner<{ name: string }[]>`
        select distinct relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('public', 'graphile_worker', 'drizzle', 'pg_catalog') and c.relkind in ('r', 'p', 'v')`;
      const types = [
        "text",
        "json",
        "jsonb",
        "timestamptz",
        "int4",
        "int8",
        "float8",
        "bool",
        "name",
        "regclass",
        "job_spec",
      ];
      // All of them work. On another connection, since a connection keeps its plans.
      await as(database.roles[login], async (sql) => {
        await sql.unsafe("begin");
        await sql.unsafe("select set_config('app.client_id', 'client_none', true)");
        for (const text of definers[login]) await sql.unsafe(text);
        await sql.unsafe("rollback");
      });
      await as(database.roles[login], async (sql) => {
        await sql.unsafe("begin");
        await sql.unsafe(`create function pg_temp.trap() returns pg_catalog.int4 language plpgsql as
          'begin raise exception ''run as %'', current_user using errcode = ''TRAP1''; end'`);
        await sql.unsafe("select set_config('app.client_id', 'client_none', true)");
        for (const { name } of names)
          await sql.unsafe(`create temp view "${name}" as select pg_temp.trap() as id, pg_temp.trap() as oid`);
        for (const name of types)
          await sql.unsafe(`create domain pg_temp."${name}" as pg_catalog."${name === "job_spec" ? "text" : name}"
            check (pg_temp.trap() = 1)`);
        for (const text of definers[login]) {
          await sql.unsafe("savepoint before");
          // Literals in the caller's statement use the caller's types, so these must not match the planted ones.
          const safe = text.replaceAll("::json", "::pg_catalog.json");
          await expect(
            sql.unsafe(safe).then(() => "ran"),
            text,
          ).resolves.toBe("ran");
          await sql.unsafe("rollback to before");
        }
        await sql.unsafe("rollback");
      });
    },
  );

  test("the system login does not become the owner through a view named like a table of the catalogue", async () => {
    await as(database.roles.systemUrl, async (sql) => {
      await sql.unsafe(`create function pg_temp.evil() returns pg_catalog.text language plpgsql as $$
        begin execute 'create table app.taken as select current_user::text as by'; return 'nothing_209901'; end $$`);
      await sql.unsafe("create temp view pg_class as select 0::oid as oid, pg_temp.evil() as relname");
      await sql.unsafe(
        "create temp view pg_inherits as select 0::oid as inhrelid, 'public.events'::regclass::oid as inhparent",
      );
      await sql.unsafe("select app.drop_partitions('events', now() - interval '10 years')");
    });
    const [row] = await owner`select to_regclass('app.taken') as taken`;
    expect(row!.taken).toBeNull();
  });

  test("the tenant login does not become the worker through a domain named text", async () => {
    const seen: string[] = [];
    const sql = postgres(database.roles.tenantUrl, {
      max: 1,
      onnotice: ({ message }) => void seen.push(String(message)),
    });
    await sql.unsafe("begin");
    await sql.unsafe(`create function pg_temp.evil(v pg_catalog.text) returns boolean language plpgsql as $$
      begin raise notice 'runs as %', current_user; return true; end $$`);
    await sql.unsafe("create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value))");
    await sql.unsafe("select set_config('app.client_id', 'client_none', true)");
    seen.length = 0; // that literal belonged to the caller
    await sql.unsafe("select graphile_worker.patchbay_enqueue('[]'::pg_catalog.json)");
    await sql.unsafe("rollback");
    await sql.end();
    expect(seen).toEqual([]);
  });
});

describe("the queue", () => {
  test.each(["tenantUrl", "systemUrl"] as const)(
    "is not accessible to the callers of its functions (%s)",
    async (login) => {
      const attempts = [
        "select graphile_worker.add_job('x')",
        "select graphile_worker.complete_jobs(array[1])",
        "select graphile_worker.force_unlock_workers(array['x'])",
        "select graphile_worker.patchbay_add('client_other', '[]')",
        "select * from graphile_worker._private_jobs",
      ];
      for (const text of attempts)
        await expect(
          as(database.roles[login], (sql) => sql.unsafe(text)),
          text,
        ).rejects.toMatchObject({ code: "42501" });
    },
  );
});

describe("the worker's login", () => {
  test("can change nothing that others execute: no function, trigger, table or policy of the queue", async () => {
    const attempts = [
      "create or replace function graphile_worker.patchbay_enqueue(p_jobs json) returns void language sql as 'select'",
      "create function graphile_worker.evil() returns trigger language plpgsql as 'begin return new; end'",
      "alter function graphile_worker.patchbay_enqueue_all set search_path = graphile_worker",
      "drop function graphile_worker.patchbay_enqueue_for",
      "create trigger evil before insert on graphile_worker._private_jobs for each row execute function suppress_redundant_updates_trigger()",
      "drop trigger patchbay_only_the_holder_removes on graphile_worker._private_jobs",
      "alter table graphile_worker._private_jobs add column evil text default current_user",
      "create policy evil on graphile_worker._private_jobs using (true)",
      "drop table graphile_worker._private_jobs",
    ];
    for (const text of attempts)
      await expect(
        as(database.roles.workerUrl, (sql) => sql.unsafe(text)),
        text,
      ).rejects.toMatchObject({ code: "42501" });
  });
});

describe("partitions", () => {
  const drop = (table: string, before: string) =>
    as(database.roles.systemUrl, (sql) => sql.unsafe(`select app.drop_partitions('${table}', ${before}) as dropped`));
  const old = async (table: string, months: number) => {
    const [row] = await owner.unsafe(
      `select to_char(date_trunc('month', now(), 'UTC') - interval '${months} months', 'YYYY-MM-DD') as day`,
    );
    const name = `${table}_past_${months}`;
    await owner.unsafe(
      `create table ${name} partition of ${table} for values from ('${row!.day} 00:00+00') to ('${row!.day} 12:00+00')`,
    );
    return name;
  };
  const exists = async (name: string) => (await owner`select to_regclass(${name}) is not null as exists`)[0]!.exists;

  test.each(["audit_log", "call_messages"])("of %s are never dropped, at any age", async (table) => {
    const name = await old(table, 60);
    await expect(drop(table, "now() - interval '4 years'")).rejects.toThrow("never dropped");
    await expect(drop(table, "null")).rejects.toThrow("never dropped");
    expect(await exists(name)).toBe(true);
  });

  test.each(["clients", "ledger_entries", "pg_class", "events_", "events; drop table clients"])(
    "a table that has none is refused: %s",
    async (table) => {
      await expect(drop(table, "now() - interval '4 years'")).rejects.toThrow("never dropped");
    },
  );

  test("one younger than the table's retention is not dropped, whatever time the caller passes", async () => {
    const [young, past] = [await old("delivery_attempts", 2), await old("delivery_attempts", 5)];
    for (const before of ["now()", "'infinity'", "now() - interval '3 months' + interval '1 minute'"])
      await expect(drop("delivery_attempts", before), before).rejects.toThrow("3 months of delivery_attempts are kept");
    expect([await exists(young), await exists(past)]).toEqual([true, true]);
    const [row] = await drop("delivery_attempts", "null");
    expect(row!.dropped).toBeGreaterThanOrEqual(1);
    expect([await exists(young), await exists(past)]).toEqual([true, false]);
  });

  test("the caller's DateStyle has no effect", async () => {
    const [young, past] = [await old("ingress_events", 2), await old("ingress_events", 6)];
    await as(database.roles.systemUrl, async (sql) => {
      await sql.unsafe("set datestyle = 'SQL, DMY'; set timezone = 'Pacific/Kiritimati'");
      await sql.unsafe("select app.make_partitions()");
      await sql.unsafe("select app.drop_partitions('ingress_events')");
    });
    expect([await exists(young), await exists(past)]).toEqual([true, false]);
  });

  test("are created only for the present", async () => {
    for (const at of ["null", "'infinity'", "now() + interval '2 months'", "'1999-01-01'"])
      await expect(
        as(database.roles.systemUrl, (sql) => sql.unsafe(`select app.make_partitions(${at})`)),
        at,
      ).rejects.toThrow(/for the present|infinite timestamps/);
  });
});
