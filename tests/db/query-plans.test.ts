import { sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { openDatabase } from "../../db/client.ts";
import { slotReservation } from "../../routers/webhooks/deliveries/slot-reservation.ts";
import { until } from "../support/app.ts";
import { cloneDatabase } from "../support/database.ts";

const database = await cloneDatabase();
const owner = postgres(database.url, { max: 1, onnotice: () => {} });
afterAll(async () => {
  await owner.end();
  await database.drop();
});

test("a plan that was made for a table of one row is not kept when there are thousands", async () => {
  await owner.unsafe(`create table shelf (id int primary key) with (autovacuum_enabled = off);
    insert into shelf values (1); analyze shelf; grant select on shelf to public`);
  const db = openDatabase({ ...database.roles, size: 1, planLifeMs: 300 });
  /** How many rows were read in order to find one. */
  const read = () =>
    db.asClient({ clientId: "client_1" }, async (tx) => {
      const soFar = async () => {
        const [row] = await tx.execute<{ n: string }>(
          sql`select pg_stat_get_xact_tuples_returned('shelf'::regclass) as n`,
        );
        return Number(row!.n);
      };
      const before = await soFar();
      await tx.execute(sql`select id from shelf where id = ${1}::int`);
      return (await soFar()) - before;
    });
  try {
    // More often than Postgres makes a custom plan for a statement.
    for (let times = 0; times < 10; times++) expect(await read()).toBe(1);
    await owner`insert into shelf select generate_series(2, 20000)`;
    await until(async () => (await read()) <= 1);
  } finally {
    await db.close();
  }
});

test("the admission takes its rows where they lie, also by a plan that was made while there were none", async () => {
  const { sql: text } = new PgDialect({ casing: "snake_case" }).sqlToQuery(
    slotReservation([{ clientId: "client_1", endpointId: "wh_1" }]),
  );
  const plan = await owner.begin(async (tx) => {
    await tx.unsafe(
      "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off",
    );
    return tx.unsafe(`explain (generic_plan, costs off) ${text}`);
  });
  const lines = plan.map((row) => String(row["QUERY PLAN"]));
  const from = lines.findIndex((line) => line.includes("Update on deliveries"));
  const updated = lines.slice(from, from + 6).join("\n");
  expect(updated).toMatch(/Tid Scan on deliveries/);
  expect(updated).toMatch(/TID Cond: .*ctid/);
  const byPlace = lines.filter((line) => line.includes("Tid Scan on deliveries"));
  expect(byPlace, "to lock and to update").toHaveLength(2);
  const clients = lines.filter((line) => / on clients\b/.test(line));
  expect(clients.length, "who is suspended is looked up").toBeGreaterThan(0);
  for (const line of clients) expect(line).toMatch(/Index Scan using clients_pkey/);
});
