import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { and, eq, sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  ConnectionLost,
  type OpenDatabase,
  openDatabase,
  SessionRefused,
  TransactionEnded,
  type Tx,
} from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { clients } from "../../db/schema/clients.ts";
import { eventCounters } from "../../db/schema/events.ts";
import { getAgent } from "../../routers/agents/service.ts";
import type { ApiError } from "../../routers/core/errors.ts";
import { cloneDatabase } from "../support/database.ts";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let owner: postgres.Sql;
let db: OpenDatabase;
const names = Array.from({ length: 12 }, () => newId("client"));

beforeAll(async () => {
  database = await cloneDatabase();
  owner = postgres(database.url, { max: 4, onnotice: () => {} });
  db = openDatabase({ ...database.roles, size: 4, maxWaitMs: 20_000, maxWaiting: 5000 });
  await db.asSystem((tx) => tx.insert(clients).values(names.map((id) => ({ id, name: id }))));
  for (const clientId of names) await db.asClient({ clientId }, (tx) => put(tx, "mine", 1));
});

afterAll(async () => {
  await db.close();
  await owner.end();
  await database.drop();
});

const put = (tx: Tx, subjectId: string, sequence: number) =>
  tx
    .insert(eventCounters)
    .values({ subjectId, sequence })
    .onConflictDoUpdate({ target: [eventCounters.clientId, eventCounters.subjectId], set: { sequence } });
const all = (tx: Tx) => tx.select().from(eventCounters);
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const clientOf = (index: number) => names[index % names.length]!;

/** Database sessions of the application that are inside a transaction. */
async function inTransaction(): Promise<number> {
  const [row] = await owner`
    select count(*)::int as n from pg_stat_activity
    where application_name like 'patchbay-%' and datname = current_database() and state like 'idle in transaction%'`;
  return row!.n;
}

async function killAll() {
  await owner`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name like 'patchbay-%' and datname = current_database()`;
}

describe("the catalogue", () => {
  const global = [
    "loop_heartbeats",
    "set_apart",
    "clients",
    "users",
    "roles",
    "prices",
    "ingress_events",
    "ingress_keys",
    "bus_positions",
    "delivery_pauses",
    "worker_heartbeats",
    "dead_jobs",
  ];

  test("every table has forced row level security, and no application login bypasses it", async () => {
    const tables = await owner`
      select c.relname as name, c.relrowsecurity and c.relforcerowsecurity as walled from pg_class c
      join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind in ('r', 'p')`;
    expect(tables.length).toBeGreaterThan(20);
    expect(tables.filter(({ walled }) => !walled).map(({ name }) => name)).toEqual([]);
    const roles =
      await owner`select rolname, rolsuper or rolbypassrls as passes from pg_roles where rolname like 'patchbay_%'`;
    expect(roles.filter(({ passes }) => passes)).toEqual([]);
    const members = await owner`
      select 1 from pg_auth_members m join pg_roles a on a.oid = m.roleid join pg_roles b on b.oid = m.member
      where a.rolname like 'patchbay_%' and b.rolname like 'patchbay_%'`;
    expect(members).toHaveLength(0);
  });

  test("every tenant table has keys that begin with the client, a WITH CHECK, and composite foreign keys", async () => {
    const tables = await owner`
      select c.oid, c.relname as name,
        (select array_agg(a.attname::text order by k.ord) from pg_index i, unnest(i.indkey) with ordinality k(attnum, ord)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum where i.indrelid = c.oid and i.indisprimary) as key,
        exists (select from pg_policy p where p.polrelid = c.oid and p.polcmd = '*' and p.polwithcheck is not null
                and 'patchbay_tenant'::regrole = any(p.polroles)
                and pg_get_expr(p.polwithcheck, c.oid) like '%client_id = ( SELECT NULLIF(current_setting(''app.client_id''%') as checked
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'client_id')`;
    const ours = tables.filter(({ name }) => !global.includes(name));
    expect(ours.length).toBeGreaterThan(15);
    for (const { name, key, checked } of ours) {
      expect(key?.[0], `${name}: its primary key begins with client_id`).toBe("client_id");
      expect(checked, `${name}: has a policy with a check`).toBe(true);
    }
    const walled = ours.map(({ name }) => name);
    const foreign = await owner`
      select con.conrelid::regclass::text as source, con.confrelid::regclass::text as target,
        (select a.attname from pg_attribute a where a.attrelid = con.conrelid and a.attnum = con.conkey[1]) as first
      from pg_constraint con where con.contype = 'f' and con.connamespace = 'public'::regnamespace and con.conparentid = 0`;
    for (const { source, target, first } of foreign) {
      if (walled.includes(source) && walled.includes(target)) expect(first, `${source} -> ${target}`).toBe("client_id");
    }
    const unlisted = await owner`
      select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
        and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'client_id')`;
    expect(unlisted.map(({ name }) => name).filter((name) => !global.includes(name))).toEqual([]);
  });

  test("the logins that write history cannot change it", async () => {
    for (const table of ["ledger_entries", "ledger_transactions", "events", "audit_log", "delivery_attempts"]) {
      const [row] =
        await owner`select has_table_privilege('patchbay_tenant', ${table}, 'update, delete, truncate') as may`;
      expect(row!.may, table).toBe(false);
    }
    // Call messages may be erased, and never rewritten.
    const [row] =
      await owner`select has_table_privilege('patchbay_tenant', 'call_messages', 'update, truncate') as may`;
    expect(row!.may).toBe(false);
  });
});

describe("a transaction", () => {
  test("reads and writes only the rows of its client", async () => {
    const [a, b] = [clientOf(0), clientOf(1)];
    const seen = await db.asClient({ clientId: a }, all, { mode: "read" });
    expect(seen.map(({ clientId }) => clientId)).toEqual([a]);
    const foreign = db.asClient({ clientId: a }, (tx) =>
      tx.insert(eventCounters).values({ clientId: b, subjectId: "x", sequence: 1 }),
    );
    await expect(foreign).rejects.toMatchObject({ cause: { code: "42501" } });
    const moved = await db.asClient({ clientId: a }, (tx) =>
      tx.update(eventCounters).set({ sequence: 99 }).where(eq(eventCounters.clientId, b)).returning(),
    );
    expect(moved).toEqual([]);
  });

  test("without a client reads nothing and writes nothing", async () => {
    const bare = postgres(database.roles.tenantUrl, { max: 1, onnotice: () => {} });
    expect(await bare`select * from event_counters`).toHaveLength(0);
    await expect(bare`insert into event_counters (subject_id, sequence) values ('x', 1)`).rejects.toMatchObject({
      code: "42501",
    });
    await bare.end();
  });

  test("a handle used after the end is refused, after a commit or a rollback", async () => {
    let kept: Tx | undefined;
    const keep = (tx: Tx) => {
      kept = tx;
      return all(tx);
    };
    await db.asClient({ clientId: clientOf(0) }, keep);
    await expect(all(kept!)).rejects.toMatchObject({ cause: expect.any(TransactionEnded) });
    await db.asClient({ clientId: clientOf(0) }, keep, { mode: "read" });
    await expect(all(kept!)).rejects.toMatchObject({ cause: expect.any(TransactionEnded) });
    await db
      .asClient({ clientId: clientOf(0) }, async (tx) => {
        kept = tx;
        throw new Error("no");
      })
      .catch(() => {});
    await expect(all(kept!)).rejects.toMatchObject({ cause: expect.any(TransactionEnded) });
  });

  test("a late sibling of a failed Promise.all writes neither in its transaction nor in the next client's", async () => {
    for (let i = 0; i < 40; i++) {
      const failed = db.asClient({ clientId: clientOf(i) }, (tx) =>
        Promise.all([
          soon(1).then(() => put(tx, "late", i)),
          tx.execute(sql`select 1/0`),
          soon(3).then(() => put(tx, "later", i)),
        ]),
      );
      await expect(failed).rejects.toBeTruthy();
      await db.asClient({ clientId: clientOf(i + 1) }, all, { mode: "read" });
    }
    await soon(10);
    const [row] = await owner`select count(*)::int as n from event_counters where subject_id like 'late%'`;
    expect(row!.n).toBe(0);
  });

  test("a transaction with a swallowed statement error is not reported as committed", async () => {
    const swallowed = db.asClient({ clientId: clientOf(0) }, async (tx) => {
      await put(tx, "swallowed", 1);
      await tx.execute(sql`select 1/0`).catch(() => {});
    });
    await expect(swallowed).rejects.toThrow("Nothing was written");
    const rows = await db.asClient({ clientId: clientOf(0) }, (tx) =>
      tx.select().from(eventCounters).where(eq(eventCounters.subjectId, "swallowed")),
    );
    expect(rows).toEqual([]);
  });

  test("a connection killed at any statement fails the transaction; it never continues on another connection", async () => {
    for (const position of ["before", "between", "after", "commit"] as const) {
      const pids = new Set<number>();
      const note = async (tx: Tx) => {
        const [row] = await tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`);
        pids.add(row!.pid);
        return row!.pid;
      };
      const kill = async (pid: number) => {
        await owner`select pg_terminate_backend(${pid})`;
        await soon(20);
      };
      let killing: Promise<unknown> = Promise.resolve();
      const work = db.asClient({ clientId: clientOf(0) }, async (tx) => {
        const pid = await note(tx);
        if (position === "before") await kill(pid);
        await put(tx, `killed ${position}`, 1);
        if (position === "between") await kill(pid);
        await put(tx, `killed ${position} 2`, 1);
        if (position === "after") await kill(pid);
        if (position === "commit") killing = owner`select pg_terminate_backend(${pid}, 5000)`.execute();
      });
      const outcome = await work.then(
        () => "done",
        () => "failed",
      );
      await killing;
      const [row] =
        await owner`select count(*)::int as n from event_counters where subject_id like ${`killed ${position}%`}`;
      expect(pids.size).toBe(1);
      if (position === "commit") expect(outcome === "done" ? row!.n : 2, "done means written").toBe(2);
      else expect({ outcome, rows: row!.n }).toEqual({ outcome: "failed", rows: 0 });
    }
    // A connection may be killed while it is released: the next user gets an error and retries.
    const read = () => db.asClient({ clientId: clientOf(0) }, all, { mode: "read" });
    expect(await read().catch(read)).not.toEqual([]);
  });

  test("work that waits for something else is aborted when its connection is lost", async () => {
    const stuck = db.asClient({ clientId: clientOf(0) }, async (tx) => {
      const [row] = await tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`);
      setTimeout(() => void owner`select pg_terminate_backend(${row!.pid})`.then(() => {}), 20);
      await new Promise(() => {});
    });
    await expect(stuck).rejects.toBeInstanceOf(ConnectionLost);
  });

  test.each(["at once", "when it is greeted"])(
    "a server that closes the connection %s, before login, fails all waiting work and takes no place in the pool",
    async (when) => {
      const operation = createServer((socket) => {
        if (when === "at once") socket.end();
        else socket.once("data", () => socket.end());
      });
      operation.listen(0, "127.0.0.1");
      await once(operation, "listening");
      const url = `postgres://nobody:nothing@127.0.0.1:${(operation.address() as AddressInfo).port}/nowhere`;
      const closed = openDatabase({ tenantUrl: url, systemUrl: url, size: 2, maxWaitMs: 20_000 });
      try {
        const requests = Array.from({ length: 10 }, () =>
          closed.asSystem(async (tx) => {
            await tx.execute(sql`select 1`);
            await tx.execute(sql`select 2`);
          }),
        );
        const reads = Array.from({ length: 10 }, () =>
          closed.readAsClient({ clientId: names[0]! }, (tx) => getAgent(tx, "agent_1")),
        );
        for (const each of await Promise.allSettled([...requests, ...reads]))
          expect(each).toMatchObject({ status: "rejected", reason: expect.any(ConnectionLost) });
      } finally {
        await closed.close();
        operation.close();
      }
    },
  );

  test("over a hundred statements in flight are not sent on another connection when theirs is lost", async () => {
    const many = db.asClient({ clientId: clientOf(2) }, async (tx) => {
      const [row] = await tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`);
      const flood = Array.from({ length: 300 }, (_, i) => put(tx, `flood ${i}`, i));
      await owner`select pg_terminate_backend(${row!.pid})`;
      await Promise.all(flood);
      await soon(50);
    });
    await expect(many).rejects.toBeTruthy();
    await soon(300);
    const [row] = await owner`select count(*)::int as n from event_counters where subject_id like 'flood%'`;
    expect(row!.n).toBe(0);
  });

  test("a read continues after a table change invalidated its plan", async () => {
    const read = (clientId: string) =>
      db.asClient({ clientId }, (tx) => tx.execute(sql`select * from event_counters`), { mode: "read" });
    for (let i = 0; i < 8; i++) await read(clientOf(i));
    await owner`alter table event_counters add column spare integer`;
    for (let i = 0; i < 16; i++) expect((await read(clientOf(i))).length).toBeGreaterThan(0);
    await owner`alter table event_counters drop column spare`;
    for (let i = 0; i < 16; i++) expect((await read(clientOf(i))).length).toBeGreaterThan(0);
  });

  test("a revoked key is refused inside the transaction, and its connection serves the next request", async () => {
    const clientId = clientOf(0);
    const refused = db.asClient({ clientId, keyId: newId("apiKey") }, all, { mode: "read" });
    await expect(refused).rejects.toBeInstanceOf(SessionRefused);
    await expect(
      db.readAsClient({ clientId, keyId: newId("apiKey") }, (tx) => getAgent(tx, newId("agent"))),
    ).rejects.toBeInstanceOf(SessionRefused);
    expect(await db.asClient({ clientId }, all, { mode: "read" })).not.toEqual([]);
  });
});

describe("the hot read", () => {
  test("never returns another client's row, with many concurrent reads over the same connections", async () => {
    const ids = new Map<string, string>();
    for (const clientId of names.slice(0, 6)) {
      const id = newId("agent");
      await owner`insert into agents (client_id, id, name, status, version, provider_account_id) values (${clientId}, ${id}, 'a', 'active', 1, 'pacc_x')`;
      await owner`insert into agent_versions (client_id, agent_id, version, name, config, status, created_by) values (${clientId}, ${id}, 1, 'a', '{"systemPrompt": "x"}', 'live', 'x')`;
      ids.set(clientId, id);
    }
    const pairs = [...ids.keys()].flatMap((reader) => [...ids].map(([holder, id]) => ({ reader, holder, id })));
    const reads = Array.from({ length: 30 }, () => pairs).flat();
    const found = await Promise.all(
      reads.map(({ reader, id }) =>
        db.readAsClient({ clientId: reader }, (tx) => getAgent(tx, id)).catch((error: ApiError) => error.errorCode),
      ),
    );
    for (const [i, { reader, holder, id }] of reads.entries()) {
      if (reader === holder) expect(found[i]).toMatchObject({ id });
      else expect(found[i]).toBe("agent_not_found");
    }
  });
});

test("twelve thousand interleaved operations with every fault leak nothing, lose no committed write, and leave no open transaction", async () => {
  const total = 12_000;
  const done = new Map<string, number>();
  const wrong: string[] = [];
  let failed = 0;
  let next = 0;

  async function one(i: number) {
    const clientId = clientOf(i * 7 + (i % 5));
    const subjectId = `op ${i}`;
    const check = (rows: { clientId: string }[]) => {
      for (const row of rows) if (row.clientId !== clientId) wrong.push(`${clientId} saw ${row.clientId}`);
    };
    const mine = eq(eventCounters.subjectId, "mine");
    switch (i % 10) {
      case 0:
      case 1:
      case 2:
        await db.asClient({ clientId }, (tx) => put(tx, subjectId, i));
        done.set(subjectId, i);
        return;
      case 3:
        return check(
          await db.asClient({ clientId }, (tx) => tx.select().from(eventCounters).where(mine), { mode: "read" }),
        );
      case 4:
        return db.asClient({ clientId }, (tx) =>
          Promise.all([
            put(tx, `never ${i}`, i),
            tx.execute(sql`select 1/0`),
            soon(1).then(() => put(tx, `never late ${i}`, i)),
          ]),
        );
      case 5:
        return db.asClient({ clientId }, async (tx) => {
          await put(tx, `never ${i}`, i);
          throw new Error("thrown by the work");
        });
      case 6: {
        let kept: Tx | undefined;
        await db.asClient(
          { clientId },
          async (tx) => {
            kept = tx;
            check(await tx.select().from(eventCounters).where(mine));
          },
          { mode: "read" },
        );
        await kept!
          .select()
          .from(eventCounters)
          .where(mine)
          .then(
            (rows) => wrong.push(`late read gave ${rows.length}`),
            () => {},
          );
        return;
      }
      case 7:
        return db.asClient({ clientId }, async (tx) => {
          void put(tx, `floating ${i}`, i).then(
            () => {},
            () => {},
          );
          check(await tx.select().from(eventCounters).where(mine));
        });
      case 8:
        return db.asClient({ clientId }, (tx) => tx.execute(sql`select no_such_column from event_counters`), {
          mode: "read",
        });
      default:
        await db.asClient({ clientId }, async (tx) => {
          const [row] = await tx.select().from(eventCounters).where(and(mine)).for("update");
          if (row && row.clientId !== clientId) wrong.push("locked a foreign row");
          await tx
            .update(eventCounters)
            .set({ sequence: sql`${eventCounters.sequence} + 1` })
            .where(mine);
          await put(tx, subjectId, i);
        });
        done.set(subjectId, i);
    }
  }

  const faults = setInterval(() => {
    const pick = Math.floor(Math.random() * 3);
    const victim = owner`select pid from pg_stat_activity where application_name like 'patchbay-%' and datname = current_database() order by random() limit 1`;
    void victim
      .then(async ([row]) => {
        if (!row) return;
        if (pick === 0) await owner`select pg_terminate_backend(${row.pid})`;
        if (pick === 1) await owner`select pg_cancel_backend(${row.pid})`;
        if (pick === 2) {
          await owner`alter table event_counters add column if not exists spare integer`;
          await owner`alter table event_counters drop column if exists spare`;
        }
      })
      .catch(() => {});
  }, 25);

  await Promise.all(
    Array.from({ length: 32 }, async () => {
      while (next < total)
        await one(next++).then(
          () => {},
          () => void failed++,
        );
    }),
  );
  clearInterval(faults);
  await soon(300);

  expect(wrong).toEqual([]);
  const stray = await owner`select count(*)::int as n from event_counters where subject_id like 'never%'`;
  expect(stray[0]!.n, "rows of transactions that failed").toBe(0);
  const written = new Map(
    (await owner`select subject_id, sequence from event_counters where subject_id like 'op %'`).map((row) => [
      row.subject_id,
      row.sequence,
    ]),
  );
  const lost = [...done].filter(([subject, sequence]) => written.get(subject) !== sequence);
  expect(lost, "writes reported as done that are not there").toEqual([]);
  expect(failed, "the faults did happen").toBeGreaterThan(total / 5);
  expect(done.size).toBeGreaterThan(total / 4);
  // Before idle_in_transaction_session_timeout ends open transactions.
  await expect.poll(inTransaction, { timeout: 5_000 }).toBe(0);
  await killAll();
  // A dead connection that was not noticed fails its next user.
  const read = () => db.asClient({ clientId: clientOf(0) }, all, { mode: "read" });
  const rows = await vi.waitFor(read, { timeout: 10_000 });
  expect(rows).not.toEqual([]);
}, 120_000);
