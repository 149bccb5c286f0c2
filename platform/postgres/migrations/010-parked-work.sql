-- What a work queue could not do for a unit, one row for each queue, unit and job.

create table platform.parked_work (
  id uuid primary key default gen_random_uuid(),
  queue text not null,
  unit text not null,
  -- The kind of a job, or the aggregate of an event.
  job text not null,
  -- The messages of this subject from the first to the last sequence that was parked.
  stream text not null,
  subject text not null,
  first_sequence bigint not null,
  last_sequence bigint not null,
  reason text not null,
  error text,
  attempts integer not null,
  parked_at timestamptz not null default now(),
  next_retry_at timestamptz not null,
  -- A process retries it until then.
  claimed_until timestamptz,
  -- Grows when a message is parked in it or an operator asks for a retry, so that a retry which began before does not remove it.
  revision bigint not null default 1,
  unique (queue, unit, job)
);
create index parked_work_due_idx on platform.parked_work (queue, next_retry_at);
create index parked_work_list_idx on platform.parked_work (parked_at, id);
