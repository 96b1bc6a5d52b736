-- The functions of the queue. They belong to the owner of the database, as does everything in this schema: the worker's login
-- cannot change what others execute. A tenant cannot queue for another client. None of them notifies the workers: a NOTIFY
-- in a transaction that writes makes all writers of the server wait for each other (see db/notifier.ts).
-- Every function sets its own search_path with pg_temp last. Without it, pg_temp is searched first for tables and types, and a
-- caller could substitute their own. The types of parameters name their schema for the same reason.

-- The id of a task. A migration registers the tasks; another name is registered at its first use.
create or replace function graphile_worker.patchbay_task(p_name pg_catalog.text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare task integer;
begin
  select id into task from graphile_worker._private_tasks where identifier = p_name;
  if task is null then
    insert into graphile_worker._private_tasks (identifier) values (p_name) on conflict do nothing;
    select id into strict task from graphile_worker._private_tasks where identifier = p_name;
  end if;
  return task;
end $$;

-- Adds jobs for one client. Each carries the request id of the transaction, unless it names another. Same effect as
-- graphile-worker's add_jobs, without its NOTIFY: a locked job with the key loses the key and its attempts, since it has
-- started with what is outdated now; an unlocked one is replaced.
create or replace function graphile_worker.patchbay_add(p_client pg_catalog.text, p_jobs pg_catalog.json) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from json_array_elements(p_jobs) job where job->>'key' is not null) then
    update graphile_worker._private_jobs j set key = null, attempts = j.max_attempts, updated_at = now()
    from json_array_elements(p_jobs) job where j.key = job->>'key' and j.is_available is not true;
  end if;
  insert into graphile_worker._private_jobs as j (task_id, payload, run_at, max_attempts, key, priority)
    select
      graphile_worker.patchbay_task(job->>'task'),
      json_build_object('clientId', p_client,
                        'requestId', coalesce(job->>'requestId', nullif(current_setting('app.request_id', true), '')),
                        'attempt', coalesce((job->>'attempt')::integer, 0), 'body', job->'body'),
      case when job->>'runAt' is not null then (job->>'runAt')::timestamptz
           else clock_timestamp() + make_interval(secs => coalesce((job->>'delaySeconds')::double precision, 0)) end,
      10, job->>'key', coalesce((job->>'priority')::smallint, 0)
    from json_array_elements(p_jobs) job
  on conflict (key) do update set
    job_queue_id = excluded.job_queue_id, task_id = excluded.task_id, payload = excluded.payload,
    max_attempts = excluded.max_attempts, run_at = excluded.run_at, priority = excluded.priority,
    revision = j.revision + 1, flags = excluded.flags, attempts = 0, last_error = null, updated_at = now()
  where j.locked_at is null;
end $$;

create or replace function graphile_worker.patchbay_enqueue(p_jobs pg_catalog.json) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare client pg_catalog.text := nullif(current_setting('app.client_id', true), '');
begin
  if client is null then raise exception 'this transaction has no client, so it cannot queue a job'; end if;
  perform graphile_worker.patchbay_add(client, p_jobs);
end $$;

create or replace function graphile_worker.patchbay_enqueue_for(p_client pg_catalog.text, p_jobs pg_catalog.json) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select graphile_worker.patchbay_add(p_client, p_jobs)
$$;

-- Queues many jobs of one task, each for its own client, in one commit. They have no keys.
create or replace function graphile_worker.patchbay_enqueue_all(
  p_task pg_catalog.text, p_clients pg_catalog.text[], p_bodies pg_catalog.json[], p_run_at pg_catalog.timestamptz[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare task integer := graphile_worker.patchbay_task(p_task);
begin
  insert into graphile_worker._private_jobs (task_id, payload, run_at, max_attempts)
    select task, json_build_object('clientId', client, 'attempt', 0, 'body', body), coalesce(at, clock_timestamp()), 10
    from unnest(p_clients, p_bodies, p_run_at) job(client, body, at);
end $$;

-- Queues one job for each key that has none. A job that waits for its retry keeps its time and attempt, and a running job
-- will read the present rows anyway. The subquery is one index lookup per key, whatever the length of the queue.
create or replace function graphile_worker.patchbay_enqueue_missing(p_jobs pg_catalog.json) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select count(graphile_worker.patchbay_add(job->>'clientId', json_build_array(job)))
  from json_array_elements(p_jobs) job
  where (select j.id from graphile_worker._private_jobs j where j.key = job->>'key') is null
$$;

-- The waiting and running jobs of these tasks (names separated by spaces), for the client of this transaction only. It scans
-- the whole queue: no index serves it.
create or replace function graphile_worker.patchbay_waiting(p_tasks pg_catalog.text)
returns table (task pg_catalog.text, body pg_catalog.json) language sql security definer set search_path = pg_catalog, pg_temp stable as $$
  select t.identifier, j.payload->'body'
  from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
  where t.identifier = any (string_to_array(p_tasks, ' '))
    and j.payload->>'clientId' = nullif(current_setting('app.client_id', true), '')
$$;

-- For health checks: the age of the oldest due job.
create or replace function graphile_worker.patchbay_oldest_due_seconds() returns double precision
language sql security definer set search_path = pg_catalog, pg_temp stable as $$
  select coalesce(extract(epoch from now() - min(run_at)), 0) from graphile_worker._private_jobs
  where is_available and run_at <= now()
$$;

-- graphile-worker completes a job by id without checking its lock. A process that was suspended, declared dead and resumed
-- would delete jobs that another pool is running by then. So only the pool that holds the lock can delete a locked job. Each
-- connection of a pool sets `patchbay.pool`; other sessions leave it unset, and so can delete only unlocked jobs.
create or replace function graphile_worker.patchbay_keep() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$ begin return null; end $$;
do $$
begin
  if not exists (select from pg_trigger where tgname = 'patchbay_only_the_holder_removes'
                   and tgrelid = 'graphile_worker._private_jobs'::regclass) then
    create trigger patchbay_only_the_holder_removes before delete on graphile_worker._private_jobs for each row
      when (old.locked_by is distinct from nullif(current_setting('patchbay.pool', true), ''))
      execute function graphile_worker.patchbay_keep();
  end if;
end $$;

-- Locked or exhausted jobs: a few rows among possibly millions, searched every few seconds.
create index if not exists patchbay_unavailable on graphile_worker._private_jobs (locked_by) where not is_available;

-- Deletes a job on behalf of the pool that holds it. False: the pool no longer holds it.
create or replace function graphile_worker.patchbay_remove(p_job bigint, p_pool pg_catalog.text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('patchbay.pool', p_pool, true);
  delete from graphile_worker._private_jobs where id = p_job and locked_by = p_pool;
  return found;
end $$;

-- Replaces a job with its next attempt, in one commit. Returns `put`, or `lost` when another pool has the job by now, or
-- `superseded` when a newer job with its key was queued while it ran: then the key moved to that job, which runs instead.
create or replace function graphile_worker.patchbay_put_next(
  p_job bigint, p_pool pg_catalog.text, p_key pg_catalog.text, p_payload pg_catalog.json, p_seconds double precision
) returns pg_catalog.text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare old graphile_worker._private_jobs; task pg_catalog.text;
begin
  delete from graphile_worker._private_jobs where id = p_job and locked_by = p_pool returning * into old;
  if not found then return 'lost'; end if;
  if old.key is distinct from p_key then return 'superseded'; end if;
  select identifier into task from graphile_worker._private_tasks where id = old.task_id;
  perform graphile_worker.patchbay_add(p_payload->>'clientId', json_build_array(json_build_object(
    'task', task, 'body', p_payload->'body', 'attempt', p_payload->'attempt', 'requestId', p_payload->'requestId',
    'delaySeconds', p_seconds, 'key', p_key, 'priority', old.priority)));
  return 'put';
end $$;

-- Releases the jobs of pools without a recent heartbeat. A pool that beats again after this finds its heartbeat row deleted.
-- A younger lock is left for the next run: its pool may have just started. A job that was lost once runs again immediately. A job
-- that was lost more often is delayed at random by up to a minute: it may be what kills its pools, and should take fewer
-- other jobs down with it.
create or replace function graphile_worker.patchbay_rescue(p_dead_after_seconds double precision)
returns table (pool pg_catalog.text, jobs bigint) language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  alive pg_catalog.text[];
  horizon pg_catalog.timestamptz := clock_timestamp() - make_interval(secs => p_dead_after_seconds);
begin
  if not pg_try_advisory_xact_lock(7234119, 2) then return; end if;
  delete from public.worker_heartbeats where beat_at < horizon;
  select coalesce(array_agg(pool_id), '{}') into alive from public.worker_heartbeats;
  update graphile_worker._private_job_queues q set locked_by = null, locked_at = null
    where q.locked_at < horizon and q.locked_by <> all (alive);
  return query
    with lost as ( -- the locked jobs of dead pools; a concurrent run skips them
      select j.id, j.locked_by from graphile_worker._private_jobs j
      where not j.is_available and j.locked_at < horizon and j.locked_by <> all (alive)
      for update skip locked
    ), freed as ( -- unlocked again, with a delay from the second loss on
      update graphile_worker._private_jobs j set locked_by = null, locked_at = null,
        run_at = case when j.attempts < 2 then j.run_at
                      else greatest(j.run_at, now() + random() * least(j.attempts - 1, 6) * interval '10 seconds') end
      from lost where j.id = lost.id returning lost.locked_by
    )
    select freed.locked_by, count(*) from freed group by 1;
end $$;

-- Releases the jobs of the given pools immediately. Only for pools that run nothing any more.
create or replace function graphile_worker.patchbay_retire(p_pools pg_catalog.text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  delete from public.worker_heartbeats where pool_id = any (p_pools);
  update graphile_worker._private_jobs j set locked_by = null, locked_at = null
    where not j.is_available and j.locked_by = any (p_pools);
end $$;

-- Removes and returns jobs that used up graphile-worker's own attempts: each time their pool died, or their outcome could not
-- be recorded. `superseded`: a newer job took their key while they ran, which graphile-worker marks by using up the attempts.
create or replace function graphile_worker.patchbay_take_exhausted(p_limit integer)
returns table (
  id bigint, task pg_catalog.text, payload pg_catalog.json, attempts integer, error pg_catalog.text, superseded boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return query
    with found as ( -- exhausted and unlocked
      select j.id from graphile_worker._private_jobs j
      where not j.is_available and j.locked_at is null and j.attempts >= j.max_attempts
      limit p_limit for update skip locked
    ), taken as ( -- checked again: a row may have changed since it was found
      delete from graphile_worker._private_jobs j using found
      where j.id = found.id and j.locked_at is null and j.attempts >= j.max_attempts returning j.*
    )
    select t.id, k.identifier, t.payload, t.attempts::integer, t.last_error,
           t.key is null and t.updated_at > t.created_at and t.last_error is null
    from taken t join graphile_worker._private_tasks k on k.id = t.task_id;
end $$;

-- By default PUBLIC can execute every new function, those of graphile-worker included.
revoke all on all functions in schema graphile_worker from public;
grant usage on schema graphile_worker to patchbay_tenant, patchbay_system, patchbay_worker;
grant execute on function graphile_worker.patchbay_enqueue, graphile_worker.patchbay_waiting to patchbay_tenant;
grant execute on function graphile_worker.patchbay_enqueue_for, graphile_worker.patchbay_enqueue_all,
  graphile_worker.patchbay_enqueue_missing to patchbay_system;
grant execute on function graphile_worker.patchbay_oldest_due_seconds to patchbay_system;
grant execute on function graphile_worker.patchbay_remove, graphile_worker.patchbay_take_exhausted to patchbay_system;

-- The workers: what graphile-worker does with its own tables, and our functions for pools.
grant select on graphile_worker.migrations to patchbay_worker;
grant select, insert, update, delete on graphile_worker._private_jobs, graphile_worker._private_job_queues,
  graphile_worker._private_tasks, graphile_worker._private_known_crontabs to patchbay_worker;
grant execute on function graphile_worker.add_job, graphile_worker.add_jobs to patchbay_worker; -- for the crontab
grant execute on function graphile_worker.patchbay_task, graphile_worker.patchbay_add, graphile_worker.patchbay_put_next,
  graphile_worker.patchbay_rescue, graphile_worker.patchbay_retire to patchbay_worker;
do $$
declare t text;
begin
  foreach t in array array['_private_jobs', '_private_job_queues', '_private_tasks', '_private_known_crontabs'] loop
    if not exists (select from pg_policies where schemaname = 'graphile_worker' and tablename = t and policyname = 'worker') then
      execute format('create policy worker on graphile_worker.%I to patchbay_worker using (true) with check (true)', t);
    end if;
  end loop;
end $$;
