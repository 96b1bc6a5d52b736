-- Run by the worker role, which owns the queue: the two ways into it. A tenant cannot name another client.
create or replace function graphile_worker.patchbay_add(p_client text, p_jobs json) returns void
language sql set search_path = '' as $$
  select count(*) from graphile_worker.add_jobs(array(
    select row(
      job->>'task',
      json_build_object('clientId', p_client, 'requestId', nullif(current_setting('app.request_id', true), ''),
                        'attempt', coalesce((job->>'attempt')::integer, 0), 'body', job->'body'),
      null,
      case when job->>'runAt' is not null then (job->>'runAt')::timestamptz
           else clock_timestamp() + make_interval(secs => coalesce((job->>'delaySeconds')::double precision, 0)) end,
      10, job->>'key', coalesce((job->>'priority')::integer, 0), null
    )::graphile_worker.job_spec
    from json_array_elements(p_jobs) job))
$$;

create or replace function graphile_worker.patchbay_enqueue(p_jobs json) returns void
language plpgsql security definer set search_path = '' as $$
declare client text := nullif(current_setting('app.client_id', true), '');
begin
  if client is null then raise exception 'no client in this transaction: nothing can be queued for nobody'; end if;
  perform graphile_worker.patchbay_add(client, p_jobs);
end $$;

create or replace function graphile_worker.patchbay_enqueue_for(p_client text, p_jobs json) returns void
language sql security definer set search_path = '' as $$ select graphile_worker.patchbay_add(p_client, p_jobs) $$;

-- What health asks: how old the oldest job is that should have begun.
create or replace function graphile_worker.patchbay_oldest_due_seconds() returns double precision
language sql security definer set search_path = '' stable as $$
  select coalesce(extract(epoch from now() - min(run_at)), 0) from graphile_worker._private_jobs
  where is_available and run_at <= now()
$$;

revoke all on function graphile_worker.patchbay_add, graphile_worker.patchbay_enqueue, graphile_worker.patchbay_enqueue_for,
  graphile_worker.patchbay_oldest_due_seconds from public;
grant usage on schema graphile_worker to patchbay_tenant, patchbay_house;
grant execute on function graphile_worker.patchbay_enqueue to patchbay_tenant;
grant execute on function graphile_worker.patchbay_enqueue_for to patchbay_house;
grant execute on function graphile_worker.patchbay_oldest_due_seconds to patchbay_house;
