-- What the platform keeps about itself. It does not follow from the events and cannot be replayed.

create table platform.customers (
  sub text primary key,
  -- The random id under which the customer stands in the events.
  id uuid not null unique
);

create table platform.idempotency_keys (
  principal text not null,
  route text not null,
  key text not null,
  body_hash text not null,
  -- Empty while the request runs.
  answer jsonb,
  created_at timestamptz not null default now(),
  lease_until timestamptz not null,
  primary key (principal, route, key)
);
create index on platform.idempotency_keys (created_at);

create table platform.api_keys (
  id uuid primary key,
  name text not null,
  key_hash bytea not null unique,
  created_by text not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);

-- The last that pings told of a unit.
create table platform.unit_telemetry (
  unit text primary key,
  -- When it was pinged last, answer or none.
  at timestamptz not null,
  last_response_ms double precision,
  last_online_at timestamptz,
  missed_in_a_row integer not null,
  epoch text,
  last_seq bigint,
  configuration_hash text
) with (fillfactor = 70);
