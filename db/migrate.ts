import { readFile } from "node:fs/promises";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as runDrizzle } from "drizzle-orm/postgres-js/migrator";
import { runMigrations as runWorker } from "graphile-worker";
import postgres from "postgres";
import { jobs } from "./job-list.ts";

export type RoleUrls = { tenantUrl: string; systemUrl: string; workerUrl: string };

/** Without the default's "$user": another login could create a schema with the owner's name, which would come before ours. */
const ownSearchPath = "public, pg_temp";
/** A connect timeout, for a server that accepts a connection and does not respond. */
const quiet = { max: 1, connect_timeout: 10, onnotice: () => {} };
const lowestServerVersion = 150_000;
const here = (file: string) => new URL(file, import.meta.url);

/** Nothing was changed. The message has the reason and what to do. */
export class MigrationRefused extends Error {}

type Migration = {
  ownerUrl: string;
  roles: RoleUrls;
  /** Changes the passwords of the logins even if another database on the server uses them. */
  takeLogins?: boolean;
};

/**
 * Migrates a database: logins, tables, row-level security, the queue. It is safe to repeat and to run concurrently.
 * Sets the passwords of the three logins to those in their URLs. Throws MigrationRefused.
 */
export async function migrate({ ownerUrl, roles, takeLogins = false }: Migration) {
  const owner = postgres(ownerUrl, { ...quiet, connection: { search_path: ownSearchPath } });
  try {
    await owner`select pg_advisory_lock(7234119, 1)`;
    const [server] = await owner`select current_setting('server_version_num')::int as version`;
    if (server!.version < lowestServerVersion) throw new MigrationRefused("Patchbay needs PostgreSQL 15 or newer.");
    if (!takeLogins) await refuseSharedLogins(owner, roles);
    await owner.unsafe(await readFile(here("./roles.sql"), "utf8"));
    for (const url of [roles.tenantUrl, roles.systemUrl, roles.workerUrl]) await setPassword(owner, url);
    await runDrizzle(drizzle(owner), { migrationsFolder: here("./migrations").pathname });
    await runWorker({ connectionString: ownerUrl });
    await owner.unsafe(await readFile(here("./enqueue.sql"), "utf8"));
    await registerTasks(owner);
    await owner.unsafe(await readFile(here("./grants.sql"), "utf8"));
    await refuseOpenDatabase(owner);
    await raisePositions(owner, roles.systemUrl);
  } finally {
    await owner.end({ timeout: 5 });
  }
}

/** More than the transaction ids of any server, so that cursors above its last event stay below the new positions. */
const positionStep = 2n ** 40n;

/**
 * Positions of events are transaction ids. A dump that is restored into a new cluster has positions above its ids, and new
 * events would come before them. Then a setting of the database raises all further positions; see db/event-position.ts.
 */
async function raisePositions(owner: postgres.Sql, systemUrl: string) {
  const system = postgres(systemUrl, quiet); // the owner sees no events: row-level security is forced
  try {
    const [seen] = await system<{ last: string; next: string }[]>`
      select greatest((select max(position) from events), (select max(position) from bus_positions), 0) as last,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next`;
    const [kept] = await system<{ offset: string }[]>`
      select coalesce(nullif(current_setting('patchbay.position_offset', true), ''), '0') as offset`;
    const last = BigInt(seen!.last);
    if (last < BigInt(seen!.next) + BigInt(kept!.offset)) return;
    await setPositionOffset(owner, last + positionStep - BigInt(seen!.next));
  } finally {
    await system.end({ timeout: 5 });
  }
}

async function setPositionOffset(owner: postgres.Sql, offset: bigint) {
  const [statement] = await owner<{ text: string }[]>`
    select format('alter database %I set patchbay.position_offset = %L', current_database(), ${String(offset)}::text) as text`;
  try {
    await owner.unsafe(statement!.text);
  } catch (error) {
    if (!(error instanceof postgres.PostgresError) || error.code !== "42501") throw error;
    throw new MigrationRefused(
      `This database was restored into a server with lower transaction ids, so new events would come before old ones. Only a superuser can change that.
Run as a superuser: ${statement!.text}. Then migrate again.`,
    );
  }
}

/** The number of migrations in this build. */
export async function knownMigrations(): Promise<number> {
  const journal = JSON.parse(await readFile(here("./migrations/meta/_journal.json"), "utf8"));
  return journal.entries.length;
}

/** A login belongs to the whole server: a new password would lock out an installation in another database. */
async function refuseSharedLogins(owner: postgres.Sql, roles: RoleUrls) {
  for (const url of [roles.tenantUrl, roles.systemUrl, roles.workerUrl]) {
    const role = decodeURIComponent(new URL(url).username);
    const others = await owner<{ name: string }[]>`
      select distinct d.datname as name from pg_shdepend s join pg_database d on d.oid = s.dbid
      where s.refclassid = 'pg_authid'::regclass and s.refobjid = (select oid from pg_roles where rolname = ${role})
        and d.datname <> current_database() order by 1`;
    if (others.length === 0 || (await canLogIn(url))) continue;
    const named = others.slice(0, 3).map(({ name }) => name);
    const names = [...named, ...(others.length > 3 ? [`${others.length - 3} more`] : [])].join(", ");
    throw new MigrationRefused(
      `The login ${role} is shared by the whole server, and is used with another password in: ${names}. Changing it would lock out an installation there.
Give both installations the same APP_SECRET, or use a separate server for this one. Pass --take-logins to change the password anyway.`,
    );
  }
}

/** Whether the server accepts the password of this URL. */
async function canLogIn(url: string): Promise<boolean> {
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

/** So that no transaction has to register a task while others wait for it. */
async function registerTasks(owner: postgres.Sql) {
  await owner`select count(graphile_worker.patchbay_task(name)) from unnest(${Object.keys(jobs)}::text[]) name`;
}

/** Only the owner of a database can revoke rights on it. For any other login Postgres accepts the command and does nothing. */
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
