import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cloneDatabase } from "../support/database.ts";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let owner: postgres.Sql;
const logins = ["patchbay_tenant", "patchbay_system", "patchbay_worker"] as const;

beforeAll(async () => {
  database = await cloneDatabase();
  owner = postgres(database.url, { max: 1, onnotice: () => {} });
});

afterAll(async () => {
  await owner.end();
  await database.drop();
});

/** Tables that system work reads or writes for all clients. */
const systemTables =
  "agents api_keys assigned_numbers audit_log bus_positions calls clients data_keys deliveries delivery_attempts delivery_pauses event_fan_outs events dead_jobs idempotency_keys inbound_routes ingress_events ingress_keys intents invitations knowledge_bases knowledge_files loop_heartbeats memberships prices provider_accounts roles set_apart sip_registrations telephony_configs uploads users voices webhook_endpoints webhook_replays worker_heartbeats workflow_runs workflow_steps".split(
    " ",
  );
/** Tables with a `client_id` whose rows need more than that to be visible to a client. */
const notByClient = ["prices", "dead_jobs", "set_apart", "ingress_events", "ingress_keys"];

const client = "( SELECT NULLIF(current_setting('app.client_id'::text, true), ''::text))";
const user = "( SELECT NULLIF(current_setting('app.user_id'::text, true), ''::text))";
const own = `(client_id = ${client})`;
const ownRows = `own_rows to patchbay_tenant for ALL using ${own} check ${own}`;
const system = "system to patchbay_system for ALL using true check true";
/** All other policies. */
const otherPolicies: Record<string, string[]> = {
  clients: [
    `own_changes to patchbay_tenant for UPDATE using (id = ${client}) check (id = ${client})`,
    `own_rows to patchbay_tenant for SELECT using ((id = ${client}) OR (EXISTS ( SELECT FROM memberships m WHERE (m.client_id = clients.id)))) check null`,
  ],
  delivery_pauses: [
    `own_scopes to patchbay_tenant for SELECT using ((scope = ANY (ARRAY['all'::text, ${client}])) OR (EXISTS ( SELECT FROM webhook_endpoints e WHERE (e.id = delivery_pauses.scope)))) check null`,
  ],
  memberships: [`own_memberships to patchbay_tenant for SELECT using (user_id = ${user}) check null`],
  prices: [
    `everyone_reads to patchbay_tenant for SELECT using ((client_id IS NULL) OR (client_id = ${client})) check null`,
  ],
  roles: ["everyone_reads to patchbay_tenant for SELECT using true check null"],
  users: [
    `own_row to patchbay_tenant for SELECT using ((id = ${user}) OR (EXISTS ( SELECT FROM memberships m WHERE ((m.user_id = users.id) AND (m.client_id = ${client}))))) check null`,
  ],
  worker_heartbeats: ["worker to patchbay_worker for ALL using true check true"],
};

describe("policies", () => {
  test("every table has exactly the expected policies: role, command, USING and WITH CHECK", async () => {
    const tables = await owner<{ name: string; hasClient: boolean }[]>`
      select c.relname as name, exists (
        select from pg_attribute a where a.attrelid = c.oid and a.attname = 'client_id' and not a.attisdropped) as "hasClient"
      from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`;
    expect(tables.length).toBeGreaterThan(40);
    const found = await owner<{ table: string; policy: string }[]>`
      select p.polrelid::regclass::text as table, format('%s%s to %s for %s using %s check %s',
        case when p.polpermissive then '' else 'restrictive ' end, p.polname,
        (select string_agg(case when r = 0 then 'public' else r::regrole::text end, ',') from unnest(p.polroles) r),
        case p.polcmd when '*' then 'ALL' when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE' else 'DELETE' end,
        coalesce(regexp_replace(replace(pg_get_expr(p.polqual, p.polrelid), ' AS "nullif"', ''), '\\s+', ' ', 'g'), 'null'),
        coalesce(regexp_replace(replace(pg_get_expr(p.polwithcheck, p.polrelid), ' AS "nullif"', ''), '\\s+', ' ', 'g'), 'null')
      ) as policy from pg_policy p join pg_class c on c.oid = p.polrelid and c.relnamespace = 'public'::regnamespace`;
    const policies = Object.groupBy(found, ({ table }) => table);
    for (const { name, hasClient } of tables) {
      const expected = [
        ...(hasClient && !notByClient.includes(name) ? [ownRows] : []),
        ...(systemTables.includes(name) ? [system] : []),
        ...(otherPolicies[name] ?? []),
      ];
      const present = policies[name]?.map(({ policy }) => policy) ?? [];
      expect(present.toSorted(), name).toEqual(expected.toSorted());
    }
    const known = tables.map(({ name }) => name);
    expect(Object.keys(policies).filter((name) => !known.includes(name))).toEqual([]);
    expect([...systemTables, ...Object.keys(otherPolicies)].filter((name) => !known.includes(name))).toEqual([]);
  });

  test("row level security is forced on every table and on every partition of it", async () => {
    const open = await owner`
      select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'public'::regnamespace
        and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)`;
    expect(open.map(({ name }) => name)).toEqual([]);
  });
});

const readWrite = "DELETE,INSERT,SELECT,UPDATE";
const grants: Record<string, Record<string, string>> = {
  patchbay_tenant: {
    [readWrite]:
      "agent_uses agents api_keys call_legs call_pairs call_words calls credentials data_keys deliveries event_counters holds idempotency_keys inbound_routes intents invitations knowledge_bases knowledge_files memberships provider_accounts sip_registrations telephony_configs tools uploads voices webhook_endpoints webhook_replays workflow_runs workflow_steps",
    "DELETE,INSERT,SELECT": "call_messages",
    "INSERT,SELECT,UPDATE": "agent_versions ledger_accounts",
    "INSERT,SELECT": "audit_log delivery_attempts events ledger_entries ledger_transactions",
    INSERT: "event_fan_outs",
    SELECT: "assigned_numbers clients prices roles users",
    "UPDATE of metadata,name,timezone,updated_at": "clients",
    "SELECT of scope": "delivery_pauses",
  },
  patchbay_system: {
    [readWrite]:
      "api_keys assigned_numbers bus_positions clients data_keys deliveries delivery_pauses dead_jobs idempotency_keys ingress_events ingress_keys invitations loop_heartbeats memberships roles set_apart users worker_heartbeats",
    "DELETE,SELECT": "webhook_replays",
    "DELETE,SELECT,UPDATE": "event_fan_outs",
    "INSERT,SELECT": "audit_log delivery_attempts prices",
    SELECT:
      "agents calls events inbound_routes intents knowledge_bases knowledge_files provider_accounts sip_registrations telephony_configs uploads voices webhook_endpoints workflow_runs workflow_steps",
    "UPDATE of compared_at": "agents",
    "UPDATE of hash,position": "audit_log",
    "UPDATE of check_at": "calls",
    "UPDATE of status,status_reason": "inbound_routes",
    "UPDATE of deadline_at": "intents knowledge_files",
    "UPDATE of status": "uploads",
    "UPDATE of checked_at": "voices",
    "UPDATE of consecutive_failures,failing_since,last_failure_at,last_success_at,rate_due_at,slow_at":
      "webhook_endpoints",
    "UPDATE of data": "events",
    "UPDATE of response": "delivery_attempts",
    "UPDATE of next_at": "workflow_steps",
  },
  patchbay_worker: { [readWrite]: "worker_heartbeats" },
};

describe("rights", () => {
  test("each login has exactly the expected rights on tables and columns", async () => {
    const rows = await owner<{ role: string; table: string; rights: string }[]>`
      with tables as (
        select c.oid, c.relname, c.relacl from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
      ), held as (
        select r.grantee, t.relname, string_agg(r.privilege_type, ',' order by r.privilege_type) as rights
        from tables t, aclexplode(t.relacl) r group by 1, 2
        union all
        select r.grantee, t.relname, r.privilege_type || ' of ' || string_agg(a.attname, ',' order by a.attname)
        from tables t join pg_attribute a on a.attrelid = t.oid, aclexplode(a.attacl) r group by 1, 2, r.privilege_type
      )
      select case when grantee = 0 then 'public' else grantee::regrole::text end as role, relname as table, rights
      from held where grantee <> (select relowner from pg_class where oid = 'public.clients'::regclass)`;
    const present = rows.map(({ role, table, rights }) => `${role}: ${rights} on ${table}`);
    const expected = Object.entries(grants).flatMap(([role, of]) =>
      Object.entries(of).flatMap(([rights, on]) => on.split(" ").map((table) => `${role}: ${rights} on ${table}`)),
    );
    expect(present.toSorted()).toEqual(expected.toSorted());
  });

  test("no login may create schemas or temporary objects, or create objects in another schema", async () => {
    const may = await owner`
      select r.rolname as role, has_database_privilege(r.oid, current_database(), 'create') as schemas,
        has_database_privilege(r.oid, current_database(), 'temporary') as temporary,
        (select coalesce(string_agg(n.nspname, ',' order by 1), '') from pg_namespace n where n.nspname !~ '^pg_(temp|toast)'
           and has_schema_privilege(r.oid, n.oid, 'create')) as "createsIn"
      from pg_roles r where r.rolname in ${owner(logins)} order by 1`;
    expect([...may]).toEqual([
      { role: "patchbay_system", schemas: false, temporary: false, createsIn: "" },
      { role: "patchbay_tenant", schemas: false, temporary: false, createsIn: "" },
      { role: "patchbay_worker", schemas: false, temporary: false, createsIn: "" },
    ]);
  });

  test("no login is a member of another or bypasses row level security; new objects are granted to none", async () => {
    const strong = await owner`
      select rolname from pg_roles where rolname in ${owner(logins)}
        and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)`;
    expect([...strong]).toEqual([]);
    const members = await owner`
      select m.roleid::regrole::text as of from pg_auth_members m join pg_roles r on r.oid = m.member
      where r.rolname in ${owner(logins)}`;
    expect([...members]).toEqual([]);
    expect([...(await owner`select defaclobjtype from pg_default_acl`)]).toEqual([]);
  });

  test("each schema is granted only to the logins that need it, and the queue's tables only to the worker", async () => {
    const open = await owner`
      select n.nspname || ': ' || string_agg(case when r.grantee = 0 then 'public' else r.grantee::regrole::text end, ' ' order by 1) as who
      from pg_namespace n, aclexplode(n.nspacl) r
      where n.nspname in ('public', 'app', 'drizzle', 'graphile_worker') and r.privilege_type = 'USAGE'
        and r.grantee <> n.nspowner group by n.nspname order by 1`;
    const known = new Set(["public", ...logins]);
    const who = open.map((row) => {
      const [schema, names] = String(row.who).split(": ");
      const others = names!.split(" ").filter((name) => known.has(name));
      return `${schema}: ${others.toSorted().join(" ")}`;
    });
    expect(who).toEqual([
      "app: patchbay_system patchbay_tenant patchbay_worker",
      "graphile_worker: patchbay_system patchbay_tenant patchbay_worker",
      "public: patchbay_system patchbay_tenant patchbay_worker",
    ]);
    const given = await owner<{ right: string }[]>`
      select format('%s: %s on %s', r.grantee::regrole, string_agg(r.privilege_type, ',' order by r.privilege_type), c.relname)
        as right from pg_class c, aclexplode(c.relacl) r
      where c.relnamespace in ('graphile_worker'::regnamespace, 'drizzle'::regnamespace) and r.grantee <> c.relowner
      group by r.grantee, c.relname order by 1`;
    expect(given.map(({ right }) => right)).toEqual([
      `patchbay_worker: ${readWrite} on _private_job_queues`,
      `patchbay_worker: ${readWrite} on _private_jobs`,
      `patchbay_worker: ${readWrite} on _private_known_crontabs`,
      `patchbay_worker: ${readWrite} on _private_tasks`,
      "patchbay_worker: SELECT on migrations",
    ]);
  });

  test("no login owns a schema, a table, a type or a function: it could change what others execute", async () => {
    const owned = await owner`
      select 'schema' as kind, nspname::text as name from pg_namespace where nspowner::regrole::text in ${owner(logins)}
      union all select 'relation', oid::regclass::text from pg_class where relowner::regrole::text in ${owner(logins)}
      union all select 'type', oid::regtype::text from pg_type where typowner::regrole::text in ${owner(logins)}
      union all select 'function', oid::regprocedure::text from pg_proc where proowner::regrole::text in ${owner(logins)}`;
    expect([...owned]).toEqual([]);
  });
});

/** Functions that a login other than their owner may call. * marks those that run with the rights of their owner. */
const callable = {
  patchbay_tenant: [
    "app.refuse_hold(bigint)",
    "app.set_tenant(text,text,text)",
    "app.set_user(text,text)",
    "*graphile_worker.patchbay_enqueue(json)",
    "*graphile_worker.patchbay_waiting(text)",
  ],
  patchbay_system: [
    "*app.applied_migrations()",
    "*app.drop_partitions(text,timestamp with time zone)",
    "*app.make_partitions(timestamp with time zone)",
    "*graphile_worker.patchbay_enqueue_all(text,text[],json[],timestamp with time zone[])",
    "*graphile_worker.patchbay_enqueue_for(text,json)",
    "*graphile_worker.patchbay_enqueue_missing(json)",
    "*graphile_worker.patchbay_oldest_due_seconds()",
    "*graphile_worker.patchbay_remove(bigint,text)",
    "*graphile_worker.patchbay_take_exhausted(integer)",
  ],
  patchbay_worker: [
    "graphile_worker.add_job(text,json,text,timestamp with time zone,integer,text,integer,text[],text)",
    "graphile_worker.add_jobs(graphile_worker.job_spec[],boolean)",
    "graphile_worker.patchbay_add(text,json)",
    "graphile_worker.patchbay_put_next(bigint,text,text,json,double precision)",
    "graphile_worker.patchbay_rescue(double precision)",
    "graphile_worker.patchbay_retire(text[])",
    "graphile_worker.patchbay_task(text)",
  ],
};

type Fn = {
  name: string;
  schema: string;
  definer: boolean;
  ours: boolean;
  config: string[] | null;
  owner: string;
  foreignTypes: number;
  callers: string[];
};

describe("functions", () => {
  const ourSchemas = ["public", "app", "drizzle", "graphile_worker"];
  const functions = () => owner<Fn[]>`
    select p.oid::regprocedure::text as name, n.nspname as schema, p.prosecdef as definer, p.proconfig as config,
      p.proowner::regrole::text as owner,
      n.nspname <> 'graphile_worker' or p.proname like 'patchbay%' as ours,
      (select count(*)::int from unnest(p.proargtypes::oid[] || p.proallargtypes || p.prorettype) t(id)
         join pg_type on pg_type.oid = t.id where pg_type.typnamespace <> 'pg_catalog'::regnamespace) as "foreignTypes",
      (select coalesce(array_agg(case when r.grantee = 0 then 'public' else r.grantee::regrole::text end), '{}')
         from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r where r.grantee <> p.proowner) as callers
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ${owner(ourSchemas)} order by 1`;

  test("each login may call exactly the functions it needs, and public none", async () => {
    const found = await functions();
    const mayCall = (role: string) =>
      found
        .filter(({ callers }) => callers.includes(role))
        .map(({ definer, name }) => `${definer ? "*" : ""}${name}`)
        .toSorted();
    expect(mayCall("public")).toEqual([]);
    for (const role of logins) expect(mayCall(role), role).toEqual(callable[role].toSorted());
    const listed = Object.values(callable).flat();
    expect(
      found.filter(({ name, definer }) => definer && !listed.includes(`*${name}`)).map(({ name }) => name),
    ).toEqual([]);
  });

  test("each of our functions has a search_path that ends with pg_temp, and takes only system types", async () => {
    const found = (await functions()).filter(({ ours }) => ours);
    expect(found.length).toBeGreaterThan(15);
    for (const { name, config, definer, foreignTypes } of found) {
      expect(config?.[0], name).toBe("search_path=pg_catalog, pg_temp");
      if (definer) expect(foreignTypes, name).toBe(0);
    }
    const theirs = (await functions()).filter(({ ours, definer }) => !ours && definer);
    expect(
      theirs.map(({ name }) => name),
      "the queue's functions run as their caller",
    ).toEqual([]);
  });

  test("every function belongs to the owner of the tables", async () => {
    const [tables] = await owner<{ owner: string }[]>`
      select relowner::regrole::text as owner from pg_class where oid = 'public.clients'::regclass`;
    for (const { name, owner: held } of await functions()) expect(held, name).toBe(tables!.owner);
  });
});
