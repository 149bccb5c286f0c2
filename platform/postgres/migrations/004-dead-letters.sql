-- What units sent and the platform could not accept, whole.

create table platform.dead_letters (
  id uuid primary key default gen_random_uuid(),
  kind text not null check (kind in ('event', 'batch')),
  unit text not null,
  -- Of an event EPOCH:SEQ; of a batch the message that brought it.
  place text not null,
  epoch text,
  seq bigint,
  reason text not null,
  -- As it came: the JSON of an event, the bytes of a batch.
  content bytea not null,
  received_at timestamptz not null,
  -- When it was accepted after all.
  recovered_at timestamptz,
  unique (unit, place)
);
create index on platform.dead_letters (received_at, id);
create index on platform.dead_letters (unit) where recovered_at is null;
