-- Run by the owner after the migrations, as often as one likes: walls, rights, functions.

-- The wall stands for the owner too: no table of a client is read without saying whose rows.
do $$
declare t record;
begin
  for t in select c.oid::regclass as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where n.nspname = 'public' and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity) loop
    execute format('alter table %s enable row level security, force row level security', t.name);
  end loop;
end $$;

revoke all on schema public from public;
grant usage on schema public, app to patchbay_tenant, patchbay_house, patchbay_worker;

-- Tenants: their own rows. History is written once: no update, no delete.
grant select, insert, update, delete on
  api_keys, idempotency_keys, data_keys, agents, agent_uses, intents, calls, call_pairs, call_words, webhook_endpoints,
  deliveries, holds, event_counters, invitations, memberships, credentials, provider_accounts, uploads, voices,
  knowledge_bases, knowledge_files, tools, telephony_configs, sip_registrations, inbound_routes, workflow_runs, workflow_steps,
  webhook_replays, call_legs
  to patchbay_tenant;
grant select, insert, update on agent_versions, ledger_accounts to patchbay_tenant;
grant update (name, timezone, metadata, updated_at) on clients to patchbay_tenant;
grant select, insert, delete on call_messages to patchbay_tenant; -- erased when a client asks, or by retention
grant select, insert on ledger_transactions, ledger_entries, events, delivery_attempts, audit_log to patchbay_tenant;
grant select on clients, users, roles, prices to patchbay_tenant;

-- Whether the operator holds back what goes to a client's own endpoints; why, and who did, is the operator's business.
grant select (scope) on dispatch_pauses to patchbay_tenant;
do $$
begin
  if not exists (select from pg_policies where tablename = 'dispatch_pauses' and policyname = 'own_scopes') then
    create policy own_scopes on dispatch_pauses for select to patchbay_tenant using (
      scope in ('all', (select nullif(current_setting('app.client_id', true), '')))
      or exists (select from webhook_endpoints e where e.id = scope)); -- which shows a tenant its own alone
  end if;
end $$;

-- The house: authentication, and the sweeps that serve every client at once.
grant select, insert, update, delete on
  clients, users, memberships, invitations, roles, api_keys, idempotency_keys, data_keys, ingress_events, ingress_keys,
  worker_heartbeats, gave_up_jobs, dispatch_pauses, bus_positions
  to patchbay_house;
grant select on prices, intents, calls, deliveries, webhook_endpoints, audit_log, agents, voices, knowledge_bases,
  knowledge_files, uploads, provider_accounts, telephony_configs, sip_registrations, inbound_routes, workflow_runs,
  workflow_steps, events, delivery_attempts, webhook_replays
  to patchbay_house;
-- Deliveries are written down for many clients at a time.
grant insert, update, delete on deliveries to patchbay_house;
grant insert on delivery_attempts to patchbay_house;
grant delete on webhook_replays to patchbay_house; -- past their age
-- Where a call is erased, what was told of it goes too.
grant update (data) on events to patchbay_house;
grant update (response) on delivery_attempts to patchbay_house;
grant update (rate_due_at, failures_in_row, failing_since, last_success_at, last_failure_at) on webhook_endpoints
  to patchbay_house;
grant insert on prices, audit_log to patchbay_house;
grant update (state, state_reason) on inbound_routes to patchbay_house;
grant update (position, hash) on audit_log to patchbay_house;
grant update (state) on uploads to patchbay_house;
-- Sweeps move on what they have taken, so that the next comes to the others.
grant update (checked_at) on voices to patchbay_house;
grant update (check_at) on calls to patchbay_house;
grant update (compared_at) on agents to patchbay_house;
grant update (deadline_at) on intents, knowledge_files to patchbay_house;
grant update (next_at) on workflow_steps to patchbay_house;

-- Workers say that they live, and bury those who do not, on a connection that waits for nobody.
grant select, insert, update, delete on worker_heartbeats to patchbay_worker;
do $$
begin
  if not exists (select from pg_policies where tablename = 'worker_heartbeats' and policyname = 'worker') then
    create policy worker on worker_heartbeats to patchbay_worker using (true) with check (true);
  end if;
end $$;

-- Begins a tenant's transaction: whose rows, for which request, and is the key still good at this very moment.
create or replace function app.enter(p_client text, p_key text, p_request text) returns boolean
language plpgsql volatile as $$
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

create or replace function app.enter_user(p_user text, p_request text) returns boolean
language plpgsql volatile as $$
begin
  perform set_config('app.client_id', '', true), set_config('app.user_id', p_user, true),
          set_config('app.request_id', coalesce(p_request, ''), true);
  return true;
end $$;

-- Every ledger transaction sums to zero when it commits, and no row of it is ever changed.
create or replace function app.ledger_balances() returns trigger language plpgsql as $$
declare total bigint;
begin
  select sum(amount_micros) into total from public.ledger_entries
    where client_id = new.client_id and transaction_id = new.transaction_id;
  if total <> 0 then raise exception 'ledger transaction % does not sum to zero but to %', new.transaction_id, total; end if;
  return null;
end $$;

create or replace function app.is_history() returns trigger language plpgsql as $$
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

-- Partitions by month: this month's and the next two, and none older than asked.
create or replace function app.partitioned() returns setof text language sql immutable as $$
  values ('events'), ('delivery_attempts'), ('audit_log'), ('call_messages'), ('ingress_events')
$$;

create or replace function app.make_partitions(p_now timestamptz) returns integer
language plpgsql security definer set search_path = pg_catalog, public as $$
declare parent text; month timestamptz; made integer := 0; child text;
begin
  for parent in select app.partitioned() loop
    for i in -1..2 loop
      month := date_trunc('month', p_now, 'UTC') + make_interval(months => i);
      child := format('%s_%s', parent, to_char(month at time zone 'UTC', 'YYYYMM'));
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

-- Drops partitions of one table that end before the given instant. What is dropped is gone.
create or replace function app.drop_partitions(p_parent text, p_before timestamptz) returns integer
language plpgsql security definer set search_path = pg_catalog, public as $$
declare child text; dropped integer := 0;
begin
  if p_parent not in (select app.partitioned()) then raise exception '% is not partitioned by month', p_parent; end if;
  if p_before > now() - interval '7 days' then raise exception 'a week at least is kept'; end if;
  for child in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
               where i.inhparent = format('public.%I', p_parent)::regclass
                 and c.relname ~ '_[0-9]{6}$'
                 and (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month')::timestamp at time zone 'UTC' <= p_before loop
    execute format('drop table public.%I', child);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;

revoke all on function app.make_partitions, app.drop_partitions from public;
grant execute on function app.make_partitions, app.drop_partitions to patchbay_house;
select app.make_partitions(now());

create or replace function app.applied_migrations() returns bigint
language sql security definer set search_path = '' stable as $$ select count(*) from drizzle.__drizzle_migrations $$;
revoke all on function app.applied_migrations from public;
grant execute on function app.applied_migrations to patchbay_house;
