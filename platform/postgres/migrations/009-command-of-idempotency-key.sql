-- The id of the command that a key makes. Every repeat of the request runs the same command for as long as the key lives.

alter table platform.idempotency_keys
  add column command_id uuid not null default gen_random_uuid(),
  -- Counts the requests that ran with the key, so that a late one cannot end the lease of the next.
  add column attempt integer not null default 1;
