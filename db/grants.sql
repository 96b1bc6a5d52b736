-- Run by the owner after the migrations, and safe to repeat: row-level security, grants, functions.

-- Row-level security is forced, so it holds for the owner too: every read of a tenant table needs a tenant.
do $$
declare t record;
begin
  for t in select c.oid::regclass as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where n.nspname = 'public' and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity) loop
    execute format('alter table %s enable row level security, force row level security', t.name);
  end loop;
end $$;

revoke all on schema public, app from public;
-- No login can create schemas or temporary objects, which our functions could resolve instead of our own.
-- By default `PUBLIC` can create temporary ones. A copied or restored database loses this setting: migrate it again.
do $$
begin
  execute format('revoke create, temporary on database %I from public, patchbay_tenant, patchbay_system, patchbay_worker',
                 current_database());
end $$;
grant usage on schema public, app to patchbay_tenant, patchbay_system, patchbay_worker;

-- Tenants: their own rows. History tables are append-only: no update, no delete.
grant select, insert, update, delete on
  api_keys, idempotency_keys, data_keys, agents, agent_uses, intents, calls, call_pairs, call_words, webhook_endpoints,
  deliveries, holds, event_counters, invitations, memberships, credentials, provider_accounts, uploads, voices,
  knowledge_bases, knowledge_files, tools, telephony_configs, sip_registrations, inbound_routes, workflow_runs, workflow_steps,
  webhook_replays, call_legs
  to patchbay_tenant;
grant select, insert, update on agent_versions, ledger_accounts to patchbay_tenant;
grant update (name, timezone, metadata, updated_at) on clients to patchbay_tenant;
grant select, insert, delete on call_messages to patchbay_tenant; -- erased on request, or by retention
grant select, insert on ledger_transactions, ledger_entries, events, delivery_attempts, audit_log to patchbay_tenant;
grant insert on event_fan_outs to patchbay_tenant;
grant select on clients, users, roles, prices, assigned_numbers to patchbay_tenant;

-- A tenant can see that the operator paused its deliveries, but not why, nor which operator did.
grant select (scope) on delivery_pauses to patchbay_tenant;
do $$
begin
  if not exists (select from pg_policies where tablename = 'delivery_pauses' and policyname = 'own_scopes') then
    create policy own_scopes on delivery_pauses for select to patchbay_tenant using (
      scope in ('all', (select nullif(current_setting('app.client_id', true), '')))
      or exists (select from webhook_endpoints e where e.id = scope)); -- row-level security limits this to the tenant's own endpoints
  end if;
end $$;

-- The system: authentication, and the sweeps that serve all clients.
grant select, insert, update, delete on
  clients, users, memberships, invitations, roles, api_keys, idempotency_keys, data_keys, ingress_events, ingress_keys,
  worker_heartbeats, dead_jobs, delivery_pauses, bus_positions, assigned_numbers, set_apart, loop_heartbeats
  to patchbay_system;
grant select on prices, intents, calls, deliveries, webhook_endpoints, audit_log, agents, voices, knowledge_bases,
  knowledge_files, uploads, provider_accounts, telephony_configs, sip_registrations, inbound_routes, workflow_runs,
  workflow_steps, events, delivery_attempts, webhook_replays
  to patchbay_system;
-- The outcomes of deliveries are written for many clients at a time.
grant insert, update, delete on deliveries to patchbay_system;
grant insert on delivery_attempts to patchbay_system;
grant select, update, delete on event_fan_outs to patchbay_system; -- update: to lock a row
grant delete on webhook_replays to patchbay_system; -- past their retention
-- When a call is erased, its copies are erased too.
grant update (data) on events to patchbay_system;
grant update (response) on delivery_attempts to patchbay_system;
grant update (rate_due_at, consecutive_failures, failing_since, last_success_at, last_failure_at, slow_at) on webhook_endpoints
  to patchbay_system;
grant insert on prices, audit_log to patchbay_system;
grant update (status, status_reason) on inbound_routes to patchbay_system;
grant update (position, hash) on audit_log to patchbay_system;
grant update (status) on uploads to patchbay_system;
-- A sweep postpones the rows that it takes, so that the next sweep takes others.
grant update (checked_at) on voices to patchbay_system;
grant update (check_at) on calls to patchbay_system;
grant update (compared_at) on agents to patchbay_system;
grant update (deadline_at) on intents, knowledge_files to patchbay_system;
grant update (next_at) on workflow_steps to patchbay_system;

-- Workers write their heartbeats and remove dead pools on a connection of their own.
grant select, insert, update, delete on worker_heartbeats to patchbay_worker;
do $$
begin
  if not exists (select from pg_policies where tablename = 'worker_heartbeats' and policyname = 'worker') then
    create policy worker on worker_heartbeats to patchbay_worker using (true) with check (true);
  end if;
end $$;

-- Sets the tenant of a transaction, and the request that it belongs to. Raises PB401 when the API key is no longer valid,
-- and PB403 when its client is suspended.
create or replace function app.set_tenant(p_client pg_catalog.text, p_key pg_catalog.text, p_request pg_catalog.text)
returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('app.client_id', p_client, true), set_config('app.user_id', '', true),
          set_config('app.request_id', coalesce(p_request, ''), true);
  if p_key is not null then
    perform from public.api_keys k
      where k.client_id = p_client and k.id = p_key and k.revoked_at is null and (k.expires_at is null or k.expires_at > now());
    if not found then raise exception 'the API key is no longer valid' using errcode = 'PB401'; end if;
    perform from public.clients c where c.id = p_client and c.status = 'active';
    if not found then raise exception 'the client is suspended' using errcode = 'PB403'; end if;
  end if;
  return true;
end $$;

create or replace function app.set_user(p_user pg_catalog.text, p_request pg_catalog.text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('app.client_id', '', true), set_config('app.user_id', p_user, true),
          set_config('app.request_id', coalesce(p_request, ''), true);
  return true;
end $$;

-- Raises PB402, which undoes the transaction: a hold is above the available balance, which is the detail of the error.
create or replace function app.refuse_hold(p_available bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the balance does not cover the hold' using errcode = 'PB402', detail = p_available::text;
end $$;

-- Every ledger transaction sums to zero at its commit, and its rows are immutable.
create or replace function app.ledger_balances() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare total bigint;
begin
  select sum(amount_micros) into total from public.ledger_entries
    where client_id = new.client_id and transaction_id = new.transaction_id;
  if total is distinct from 0 then raise exception 'ledger transaction % does not sum to zero but to %', new.transaction_id, total; end if;
  return null;
end $$;

create or replace function app.is_history() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'rows of % are never changed or removed', tg_table_name using errcode = 'insufficient_privilege';
end $$;

do $$
declare t text;
begin
  if not exists (select from pg_trigger where tgname = 'ledger_balances') then
    create constraint trigger ledger_balances after insert on ledger_entries
      deferrable initially deferred for each row execute function app.ledger_balances();
  end if;
  foreach t in array array['ledger_entries', 'ledger_transactions', 'prices'] loop
    if not exists (select from pg_trigger where tgname = t || '_history') then
      execute format('create trigger %I before update or delete or truncate on %I for each statement execute function app.is_history()', t || '_history', t);
    end if;
  end loop;
end $$;

-- The tables with monthly partitions, and the minimum number of months that each keeps. null: unlimited.
-- The caller is not trusted: only this list decides what can be dropped, and when.
create or replace function app.partitioned_tables() returns table (name pg_catalog.text, months_kept integer)
language sql immutable set search_path = pg_catalog, pg_temp as $$
  values ('events', 13), ('delivery_attempts', 3), ('ingress_events', 3), ('audit_log', null), ('call_messages', null)
$$;
drop function if exists app.partitioned();

-- Creates the partitions of last month, this month and the next two. The session settings fix the format of times.
create or replace function app.make_partitions(p_now pg_catalog.timestamptz default pg_catalog.now()) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' as $$
declare parent pg_catalog.text; month pg_catalog.timestamptz; made integer := 0; child pg_catalog.text;
begin
  if p_now is null or abs(extract(epoch from p_now - now())) > 86400 then
    raise exception 'partitions can be created for the present only, not for %', p_now;
  end if;
  for parent in select t.name from app.partitioned_tables() t loop
    for i in -1..2 loop
      month := date_trunc('month', p_now, 'UTC') + make_interval(months => i);
      child := format('%s_%s', parent, to_char(month, 'YYYYMM'));
      if to_regclass('public.' || child) is null then
        execute format('create table public.%I partition of public.%I for values from (%L) to (%L)',
                       child, parent, month, month + interval '1 month');
        execute format('alter table public.%I enable row level security, force row level security', child);
        made := made + 1;
      end if;
    end loop;
  end loop;
  return made;
end $$;

-- Drops the partitions of one table whose retention has ended, by the bounds of each partition.
-- `p_before` can keep more than that, never less. Dropped data cannot be restored.
create or replace function app.drop_partitions(p_parent pg_catalog.text, p_before pg_catalog.timestamptz default null)
returns integer language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' as $$
declare child pg_catalog.text; dropped integer := 0; months integer; oldest pg_catalog.timestamptz;
begin
  select t.months_kept into months from app.partitioned_tables() t where t.name = p_parent;
  if months is null then raise exception 'partitions of % are never dropped', p_parent; end if;
  oldest := now() - make_interval(months => months);
  if p_before > oldest then raise exception '% months of % are kept', months, p_parent; end if;
  for child in
    select c.relname from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    join pg_catalog.pg_class p on p.oid = i.inhparent
    join pg_catalog.pg_namespace n on n.oid = p.relnamespace and n.oid = c.relnamespace
    where n.nspname = 'public' and p.relname = p_parent
      and substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::pg_catalog.timestamptz
        <= coalesce(p_before, oldest)
  loop
    execute format('drop table public.%I', child);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;

select app.make_partitions();

create or replace function app.applied_migrations() returns bigint
language sql security definer set search_path = pg_catalog, pg_temp stable as $$
  select count(*) from drizzle.__drizzle_migrations
$$;

-- By default PUBLIC can execute a new function.
revoke all on all functions in schema app from public;
grant execute on function app.set_tenant, app.set_user, app.refuse_hold to patchbay_tenant;
grant execute on function app.make_partitions, app.drop_partitions, app.applied_migrations to patchbay_system;
