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
do $$
begin
  if not exists (select from pg_namespace where nspname = 'graphile_worker') then
    execute 'create schema graphile_worker';
    if not pg_has_role(current_user, 'patchbay_worker', 'member') then
      execute format('grant patchbay_worker to %I', current_user);
    end if;
    execute 'alter schema graphile_worker owner to patchbay_worker';
  end if;
end $$;
