-- Letters that are put away although they were not accepted, and what is known of the clock that told a rejected event.

alter table platform.dead_letters
  -- When, by whom and why it was put away. It stays whole, and may still be recovered.
  add column dismissed_at timestamptz,
  add column dismissed_by text,
  add column dismiss_reason text,
  -- Of an event: by how many milliseconds the unit's clock was ahead when it came, if it was known to be wrong.
  add column clock_offset_ms bigint;
drop index if exists platform.dead_letters_unit_idx;
create index dead_letters_open_idx on platform.dead_letters (unit)
  where recovered_at is null and dismissed_at is null;
