-- How far the projections are. Each run of a version of a projection fills a schema of its own.

create table platform.projection_runs (
  id integer generated always as identity primary key,
  projection text not null,
  version integer not null,
  schema_name text not null unique,
  status text not null check (status in ('building', 'serving', 'retired')),
  created_at timestamptz not null default now()
);
-- The row that names the schema which serves, and the only one that is being built.
create unique index on platform.projection_runs (projection) where status = 'serving';
create unique index on platform.projection_runs (projection) where status = 'building';

create table platform.projection_checkpoints (
  run_id integer not null references platform.projection_runs on delete cascade,
  lane smallint not null check (lane between 0 and 255),
  -- Everything of the lane up to this sequence is applied.
  position bigint not null,
  primary key (run_id, lane)
  -- Rows change many times a second: room for the next versions on the same page.
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create table platform.projection_parked (
  run_id integer not null references platform.projection_runs on delete cascade,
  unit text not null,
  lane smallint not null,
  -- The commit that could not be applied; it and all later ones of the unit wait.
  position bigint not null,
  reason text not null,
  since timestamptz not null default now(),
  primary key (run_id, unit)
);
