-- The logins. None is a member of another: a login with the rights of two would see the rows of all clients.
-- Run by the owner before the migrations, and safe to repeat. db/migrate.ts sets the passwords.
do $$
declare role_name text;
begin
  foreach role_name in array array['patchbay_tenant', 'patchbay_system', 'patchbay_worker'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I login nosuperuser nobypassrls nocreatedb nocreaterole noinherit', role_name);
      exception when duplicate_object or unique_violation then null; -- a concurrent migration created it
      end;
    end if;
  end loop;
end $$;

create schema if not exists app;

-- The owner of the database owns the queue too: whoever owns a table or a function can change what others execute. In an
-- earlier version the worker's login owned it.
create schema if not exists graphile_worker;
do $$
begin
  if exists (select from pg_namespace where nspname = 'graphile_worker' and nspowner = 'patchbay_worker'::regrole) then
    execute 'reassign owned by patchbay_worker to current_user';
  end if;
end $$;
