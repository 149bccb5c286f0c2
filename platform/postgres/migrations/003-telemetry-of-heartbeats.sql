-- Heartbeats tell of units too, and both pings and heartbeats tell what a unit's clock says.

alter table platform.unit_telemetry
  -- When it was pinged last, answer or none; `at` is when it was pinged or heard of last.
  add column pinged_at timestamptz,
  -- When the ping was sent whose answer took `last_response_ms`.
  add column answered_at timestamptz,
  -- When its clock was measured last, and when by a ping last.
  add column clock_at timestamptz,
  add column clock_pinged_at timestamptz,
  -- By how much it was ahead then.
  add column clock_offset_ms bigint,
  -- Whether that is more than is tolerated. Unlike the offset it changes rarely, so that the index costs other updates nothing.
  add column clock_wrong boolean not null default false,
  -- Nobody asks for it: the pinger counts for itself.
  drop column missed_in_a_row;

update platform.unit_telemetry set pinged_at = at, answered_at = last_online_at;

create index unit_telemetry_wrong_clocks on platform.unit_telemetry (unit) where clock_wrong;
