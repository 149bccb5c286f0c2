/** `units`: the rows of the grid and the details of each unit, folded from events. Response times are telemetry, in other tables. */

import { requireConfigured, type UnitConfiguration } from '../../domain/configuration/configuration.ts';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { unitHash } from '../../domain/shard.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Tx } from '../../platform/postgres/connection.ts';
import type { Projection } from '../engine/projection.ts';
import type { FoldedUnit } from '../unit-states/state-table.ts';
import { UnitStates, versionWithFold, withoutUses } from '../unit-states/unit-states.ts';

/** The subjects whose events change what the grid or the details of a unit show. */
export const FOLLOWED: ReadonlySet<Aggregate> = new Set(['registry', 'config', 'connectivity', 'device', 'log']);

export function createUnits(): Projection {
  const unitStates = new UnitStates({ aggregates: FOLLOWED, startsAtRegistration: true, trim: withoutUses });
  return {
    name: 'units',
    version: versionWithFold(5),
    async createTables(tx, schema) {
      await unitStates.createTable(tx, schema);
      await createGrid(tx, schema);
    },
    async apply(tx, schema, commits) {
      const folded = await unitStates.fold(tx, schema, commits);
      if (folded.length > 0) await saveRows(tx, `${schema}.unit`, folded.map(toGridState));
    },
    openFold: (schema, isFresh) =>
      unitStates.openFold(schema, isFresh, (tx, folded) => saveRows(tx, `${schema}.unit`, folded.map(toGridState))),
  };
}

/** Creates the table that lists filter and sort by; the details of a unit come from its state. */
async function createGrid(tx: Tx, schema: string): Promise<void> {
  const table = tx(`${schema}.unit`);
  await tx`
    create table ${table} (
      unit text primary key,
      hash text collate "C" not null,
      display_name text not null,
      address text not null,
      probe text not null,
      key_version int not null,
      delivery text not null,
      command_channel text not null,
      credentials_revoked boolean not null,
      lockers int not null,
      retired boolean not null,
      connectivity text not null,
      connectivity_since timestamptz,
      recorded_epoch text,
      recorded_seq bigint not null,
      has_gap boolean not null,
      config_status text not null,
      wanted_hash text not null,
      wanted_at timestamptz not null,
      -- When the unit last reported the hash of its configuration, and when a configuration was last pushed to it.
      reported_at timestamptz,
      pushed_at timestamptz
    ) with (fillfactor = 70)`;
  await tx`create index on ${table} (hash)`;
}

interface GridState {
  readonly state: UnitState;
  readonly registered: RegisteredUnit;
  readonly configured: UnitConfiguration;
}

function toGridState({ after }: FoldedUnit): GridState {
  if (after.registry.status === 'unregistered')
    throw new Error(`Unit ${after.name} was folded without its registration.`);
  return { state: after, registered: after.registry, configured: requireConfigured(after.configuration) };
}

async function saveRows(tx: Tx, table: string, rows: readonly GridState[]): Promise<void> {
  const column = <T>(value: (row: GridState) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(table)} (unit, hash, display_name, address, probe, key_version, delivery,
      command_channel, credentials_revoked, lockers, retired,
      connectivity, connectivity_since, recorded_epoch, recorded_seq, has_gap,
      config_status, wanted_hash, wanted_at, reported_at, pushed_at)
    select * from unnest(
      ${column(({ state }) => state.name)}::text[],
      ${column(({ state }) => unitHash(state.name))}::text[],
      ${column(({ registered }) => registered.displayName)}::text[],
      ${column(({ registered }) => registered.address)}::text[],
      ${column(({ registered }) => registered.probe)}::text[],
      ${column(({ registered }) => registered.keyVersion)}::int[],
      ${column(({ registered }) => registered.delivery)}::text[],
      ${column(({ registered }) => registered.commandChannel)}::text[],
      ${column(({ registered }) => registered.credentialsRevoked)}::boolean[],
      ${column(({ registered }) => registered.lockers.length)}::int[],
      ${column(({ registered }) => registered.status === 'retired')}::boolean[],
      ${column(({ state }) => state.connectivity.status)}::text[],
      ${column(({ state: { connectivity } }) => ('since' in connectivity ? connectivity.since : null))}::timestamptz[],
      ${column(({ state }) => state.device.epoch ?? null)}::text[],
      ${column(({ state: { device } }) => (device.epoch === undefined ? 0 : (device.epochs[device.epoch] ?? 0)))}::bigint[],
      ${column(({ state }) => Object.keys(state.log.gaps).length > 0)}::boolean[],
      ${column(({ configured }) => configured.status)}::text[],
      ${column(({ configured }) => configured.desired.hash)}::text[],
      ${column(({ configured }) => configured.desiredSince)}::timestamptz[],
      ${column(({ configured }) => configured.reported?.at ?? null)}::timestamptz[],
      ${column(({ configured }) => configured.pushedAt ?? null)}::timestamptz[]
    )
    on conflict (unit) do update set
      display_name = excluded.display_name, address = excluded.address, probe = excluded.probe,
      key_version = excluded.key_version, delivery = excluded.delivery, command_channel = excluded.command_channel,
      credentials_revoked = excluded.credentials_revoked, lockers = excluded.lockers, retired = excluded.retired,
      connectivity = excluded.connectivity, connectivity_since = excluded.connectivity_since,
      recorded_epoch = excluded.recorded_epoch, recorded_seq = excluded.recorded_seq,
      has_gap = excluded.has_gap, config_status = excluded.config_status, wanted_hash = excluded.wanted_hash,
      wanted_at = excluded.wanted_at, reported_at = excluded.reported_at, pushed_at = excluded.pushed_at`;
}
