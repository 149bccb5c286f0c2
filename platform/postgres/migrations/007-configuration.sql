-- When a unit said what configuration it runs, and rollouts of configurations.

alter table platform.unit_telemetry
  -- When the ping or heartbeat that told `configuration_hash` was sent or arrived.
  add column configuration_hash_at timestamptz;

create table platform.config_rollouts (
  id uuid primary key,
  created_at timestamptz not null default now(),
  created_by text not null,
  -- As they were asked for.
  selection jsonb not null,
  changes jsonb not null,
  pace jsonb not null,
  abort_threshold jsonb not null,
  status text not null check (status in ('running', 'paused', 'aborting', 'aborted', 'completed')),
  -- Who or what brought it there, and why.
  status_at timestamptz not null default now(),
  status_by text not null,
  status_reason text,
  -- For how long it ran until it was looked after last; neither pauses count, nor times when nobody did.
  ran_ms bigint not null default 0,
  looked_at timestamptz not null default now()
);
create index on platform.config_rollouts (created_at, id);
create index on platform.config_rollouts (id) where status in ('running', 'aborting');

create table platform.config_rollout_units (
  rollout_id uuid not null references platform.config_rollouts on delete cascade,
  -- The order in which units are changed.
  ordinal integer not null,
  unit text not null,
  -- The version that the rollout made; null while it has not come to the unit, or when it passed it over.
  version integer,
  started_at timestamptz,
  -- Why the unit was passed over.
  skipped text,
  -- The version that took its place when the rollout was aborted.
  withdrawn_by integer,
  primary key (rollout_id, ordinal),
  unique (rollout_id, unit)
);
create index on platform.config_rollout_units (rollout_id, ordinal) where started_at is null and skipped is null;
