-- Parked units are retried by a policy, so that a failed retry is not the last one.

alter table platform.projection_parked
  -- When the unit is due. While a process retries the unit, this is when another process may take the retry over.
  add column next_retry_at timestamptz not null default now() + interval '1 minute',
  -- Retries in a row that could not be made, because a service was away, and the error of the last one.
  add column faults integer not null default 0,
  add column fault text;
drop index platform.projection_parked_run_id_idx;
create index projection_parked_due_idx on platform.projection_parked (run_id, next_retry_at);
