-- Rebuilds that somebody asked for, verification, and parked units that are tried again while the process runs.

alter table platform.projection_runs
  drop constraint projection_runs_status_check,
  add constraint projection_runs_status_check check (status in
    ('requested', 'building', 'serving', 'verifying', 'retired', 'cancelled', 'failed')),
  -- Why it was made: nothing served, the code has a newer version, somebody asked for it, or to be compared and dropped.
  add column reason text not null default 'version'
    check (reason in ('first', 'version', 'request', 'verification')),
  add column requested_by text,
  -- When the first process began to fill it, when it began to serve, and when it ended, whichever way.
  add column started_at timestamptz,
  add column served_at timestamptz,
  add column ended_at timestamptz,
  -- Why it failed or was cancelled.
  add column ended_because text,
  -- Events that were applied while it was built or verified.
  add column events bigint not null default 0,
  -- When whoever verifies was heard of last: what it leaves behind when it is killed is dropped.
  add column heard_at timestamptz,
  -- When its schema was dropped.
  add column dropped_at timestamptz;

update platform.projection_runs set ended_at = now() where status = 'retired';

drop index platform.projection_runs_projection_idx1;
create unique index projection_runs_unfinished_idx on platform.projection_runs (projection)
  where status in ('requested', 'building');

alter table platform.projection_parked
  -- When somebody asked to try it again, until that was done; and how often that was.
  add column retry_requested_at timestamptz,
  add column retries integer not null default 0;
create index on platform.projection_parked (run_id) where retry_requested_at is not null;
