import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type JobsDatabase, openJobsDatabase } from "../support/jobs-database.ts";
import { program } from "../support/program.ts";

let base: JobsDatabase;
beforeAll(async () => {
  base = await openJobsDatabase();
}, 60_000);
afterAll(() => base.close(), 30_000);

/** `node server/migrate.js`, with the two variables that it takes. */
function migrate(database: string, ...flags: string[]): Promise<{ code: number; out: string; err: string }> {
  const url = new URL(base.ownerUrl);
  url.pathname = `/${database}`;
  const env = { PATH: process.env.PATH, DATABASE_URL: url.href, APP_SECRET: randomBytes(32).toString("base64") };
  return new Promise((resolve) => {
    execFile(process.execPath, program("server/migrate.ts", ...flags), { env, timeout: 60_000 }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    );
  });
}

/** Whether the installation that was there first is still let in. */
async function isLetIn(): Promise<boolean> {
  const connection = postgres(base.urls.systemUrl, { max: 1 });
  try {
    await connection`select`;
    return true;
  } catch {
    return false;
  } finally {
    await connection.end();
  }
}

test("a second installation on the same server does not shut the first one out, unless that is wanted", async () => {
  await base.owner`create database second`;
  const [first] = await base.owner`select current_database() as name`;
  const refused = await migrate("second");
  expect(refused.code).toBe(1);
  expect(refused.err).toContain(`is used with another password in: ${first!.name}.`);
  expect(refused.err).toContain("--take-logins");
  expect(refused.err).not.toContain("    at ");
  expect(await isLetIn()).toBe(true);

  expect(await migrate("second", "--take-logins")).toMatchObject({ code: 0, out: "The database is up to date.\n" });
  expect(await isLetIn()).toBe(false);
});

test("a migrated database lets no login create schemas or temporary objects, even if it allowed that before", async () => {
  const [row] = await base.owner`select current_database() as name`;
  await base.owner.unsafe(`grant create, temporary on database ${row!.name} to public, patchbay_worker`);
  expect(await migrate(String(row!.name), "--take-logins")).toMatchObject({ code: 0 });
  const open = await base.owner`
    select rolname from pg_roles where rolname like 'patchbay_%'
      and has_database_privilege(rolname, current_database(), 'create, temporary')`;
  expect([...open]).toEqual([]);
});

test("a login's schema named after the owner is not where the migration looks for tables", async () => {
  const [row] = await base.owner`select current_database() as database, current_user as owner`;
  await base.owner`create schema if not exists ${base.owner(row!.owner)}`;
  await base.owner`create table ${base.owner(row!.owner)}.agents (id text)`;
  expect(await migrate(String(row!.database), "--take-logins")).toMatchObject({ code: 0 });
});
