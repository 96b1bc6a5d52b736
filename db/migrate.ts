import { readFile } from "node:fs/promises";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as runDrizzle } from "drizzle-orm/postgres-js/migrator";
import { runMigrations as runWorker } from "graphile-worker";
import postgres from "postgres";

export type RoleUrls = { tenantUrl: string; systemUrl: string; workerUrl: string };

/** Without "$user", the default's first: a schema of the owner's name, made by another login, would come before ours. */
const ownSearchPath = "public, pg_temp";
/** A server that accepts a connection and says nothing is not waited for. */
const quiet = { max: 1, connect_timeout: 10, onnotice: () => {} };
const lowestServerVersion = 150_000;
const here = (file: string) => new URL(file, import.meta.url);

/** Nothing was done, and the message says why and what to do. */
export class MigrationRefused extends Error {}

type Migration = {
  ownerUrl: string;
  roles: RoleUrls;
  /** Gives the logins new passwords also where another database on the server uses them with others. */
  takeLogins?: boolean;
};

/**
 * Brings a database to the present: logins, tables, walls, the queue. It may be run again and by several at once.
 * The passwords of the three logins are set to those in their URLs. Throws MigrationRefused.
 */
export async function migrate({ ownerUrl, roles, takeLogins = false }: Migration) {
  const owner = postgres(ownerUrl, { ...quiet, connection: { search_path: ownSearchPath } });
  try {
    await owner`select pg_advisory_lock(7234119, 1)`;
    const [server] = await owner`select current_setting('server_version_num')::int as version`;
    if (server!.version < lowestServerVersion) throw new MigrationRefused("Patchbay needs PostgreSQL 15 or newer.");
    if (!takeLogins) await refuseOthersLogins(owner, roles);
    await owner.unsafe(await readFile(here("./roles.sql"), "utf8"));
    for (const url of [roles.tenantUrl, roles.systemUrl, roles.workerUrl]) await setPassword(owner, url);
    await runDrizzle(drizzle(owner), { migrationsFolder: here("./migrations").pathname });
    await grantDatabase(owner, roles.workerUrl); // until grants.sql takes it back
    await runWorker({ connectionString: roles.workerUrl });
    await runAs(roles.workerUrl, await readFile(here("./enqueue.sql"), "utf8"));
    await owner.unsafe(await readFile(here("./grants.sql"), "utf8"));
    await refuseOpenDatabase(owner);
  } finally {
    await owner.end({ timeout: 5 });
  }
}

/** How many migrations are known here and not yet in the database. Read with the house's own login. */
export async function knownMigrations(): Promise<number> {
  const journal = JSON.parse(await readFile(here("./migrations/meta/_journal.json"), "utf8"));
  return journal.entries.length;
}

/** A login belongs to the whole server: with a new password, an installation in another database would be shut out. */
async function refuseOthersLogins(owner: postgres.Sql, roles: RoleUrls) {
  for (const url of [roles.tenantUrl, roles.systemUrl, roles.workerUrl]) {
    const role = decodeURIComponent(new URL(url).username);
    const others = await owner<{ name: string }[]>`
      select distinct d.datname as name from pg_shdepend s join pg_database d on d.oid = s.dbid
      where s.refclassid = 'pg_authid'::regclass and s.refobjid = (select oid from pg_roles where rolname = ${role})
        and d.datname <> current_database() order by 1`;
    if (others.length === 0 || (await opens(url))) continue;
    const named = others.slice(0, 3).map(({ name }) => name);
    const names = [...named, ...(others.length > 3 ? [`${others.length - 3} more`] : [])].join(", ");
    throw new MigrationRefused(
      `The login ${role} belongs to the whole server, and is used with another password in: ${names}. An installation there would be shut out.
Give both installations the same APP_SECRET, or this one a server of its own. With --take-logins the password is changed all the same.`,
    );
  }
}

/** Whether the server takes this password. */
async function opens(url: string): Promise<boolean> {
  const connection = postgres(url, quiet);
  try {
    await connection`select`;
    return true;
  } catch (error) {
    if (error instanceof postgres.PostgresError && error.code === "28P01") return false;
    throw error;
  } finally {
    await connection.end({ timeout: 5 });
  }
}

async function setPassword(owner: postgres.Sql, url: string) {
  const { username, password } = new URL(url);
  if (!password) return;
  const [statement] = await owner`
    select format('alter role %I with login password %L', ${decodeURIComponent(username)}::text, ${decodeURIComponent(password)}::text) as text`;
  await owner.unsafe(statement!.text);
}

/** graphile-worker asks for its schema to be created even where it stands, and that takes this right. */
async function grantDatabase(owner: postgres.Sql, workerUrl: string) {
  const role = decodeURIComponent(new URL(workerUrl).username);
  const [statement] =
    await owner`select format('grant create on database %I to %I', current_database(), ${role}::text) as text`;
  await owner.unsafe(statement!.text);
}

/** Rights on a database are taken by its owner alone; from anybody else Postgres takes the order and does nothing. */
async function refuseOpenDatabase(owner: postgres.Sql) {
  const open = await owner<{ role: string }[]>`
    select rolname as role from pg_roles where rolname in ('patchbay_tenant', 'patchbay_system', 'patchbay_worker')
      and has_database_privilege(rolname, current_database(), 'create, temporary') order by 1`;
  if (open.length === 0) return;
  const [row] = await owner<{ name: string }[]>`select quote_ident(current_database()) as name`;
  throw new MigrationRefused(
    `These logins may create schemas or temporary tables: ${open.map(({ role }) => role).join(", ")}. Only the owner of the database can change that.
Run as its owner: revoke create, temporary on database ${row!.name} from public, patchbay_tenant, patchbay_system, patchbay_worker. Then migrate again.`,
  );
}

async function runAs(url: string, text: string) {
  const connection = postgres(url, quiet);
  try {
    await connection.unsafe(text);
  } finally {
    await connection.end({ timeout: 5 });
  }
}
