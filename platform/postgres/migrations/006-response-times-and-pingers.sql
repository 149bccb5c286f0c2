-- Response times of units in buckets of five minutes, and who watches which shard.

create table platform.response_times (
  unit text not null,
  bucket_at timestamptz not null,
  sent integer not null,
  lost integer not null,
  -- Of those that were answered; null when none was.
  min_ms real,
  max_ms real,
  sum_ms double precision,
  primary key (unit, bucket_at)
  -- A partition for each day, made and dropped by whoever writes.
) partition by range (bucket_at);
create table platform.response_times_default partition of platform.response_times default;

alter table platform.unit_telemetry
  -- Whether it goes offline and comes back too often to be believed at once.
  add column flapping boolean not null default false;

create table platform.pingers (
  pinger_id text primary key,
  -- When it spoke last, and until when that counts.
  heard_at timestamptz not null,
  watches_until timestamptz not null,
  status jsonb not null
);

create table platform.watched_shards (
  -- Two letters.
  shard text collate "C" primary key,
  watched_at timestamptz not null,
  watched_until timestamptz not null,
  -- Since when too many units of it are missing for that to be them.
  outage_since timestamptz
) with (fillfactor = 50);
