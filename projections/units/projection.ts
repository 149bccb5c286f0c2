/** `units`: the grid of units and the detail of one, as far as events tell. Response times are telemetry beside it. */

import type { Aggregate } from '../../domain/envelope.ts';
import type { RegisteredUnit } from '../../domain/registry.ts';
import { unitHash } from '../../domain/shard.ts';
import type { UnitState } from '../../domain/unit.ts';
import type { Tx } from '../../platform/postgres/connection.ts';
import type { Projection } from '../engine/projection.ts';
import { foldUnitStates, versionWithFold } from '../unit-states.ts';

const FOLLOWED: ReadonlySet<Aggregate> = new Set(['registry', 'config', 'connectivity', 'device']);

export const units: Projection = {
  name: 'units',
  version: versionWithFold(1),

  async createTables(tx, schema) {
    const table = tx(`${schema}.unit`);
    await tx`
      create table ${table} (
        unit text primary key,
        hash text collate "C" not null,
        display_name text not null,
        lockers int not null,
        retired boolean not null,
        connectivity text not null,
        connectivity_since timestamptz,
        recorded_epoch text,
        recorded_seq bigint not null,
        wanted_hash text not null,
        reported_hash text,
        position bigint not null,
        state json not null
      )`;
    await tx`create index on ${table} (hash)`;
    await tx`create index on ${table} (connectivity)`;
  },

  async apply(tx, schema, commits) {
    const table = `${schema}.unit`;
    const states = await foldUnitStates(tx, table, commits, FOLLOWED);
    const rows = [...states.values()].flatMap((state) =>
      // A unit whose registration has not come has nothing to show; its device cannot be heard before either.
      state.registry.status === 'unregistered' ? [] : [{ state, registered: state.registry }],
    );
    if (rows.length > 0) await save(tx, table, rows);
  },
};

interface Shown {
  readonly state: UnitState;
  readonly registered: RegisteredUnit;
}

async function save(tx: Tx, table: string, rows: readonly Shown[]): Promise<void> {
  const column = <T>(value: (row: Shown) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(table)} (unit, hash, display_name, lockers, retired, connectivity, connectivity_since,
      recorded_epoch, recorded_seq, wanted_hash, reported_hash, position, state)
    select unit, hash, display_name, lockers, retired, connectivity, connectivity_since,
      recorded_epoch, recorded_seq, wanted_hash, reported_hash, position, state::json
    from unnest(
      ${column(({ state }) => state.name)}::text[],
      ${column(({ state }) => unitHash(state.name))}::text[],
      ${column(({ registered }) => registered.displayName)}::text[],
      ${column(({ registered }) => registered.lockers.length)}::int[],
      ${column(({ registered }) => registered.status === 'retired')}::boolean[],
      ${column(({ state }) => state.connectivity.status)}::text[],
      ${column(({ state: { connectivity } }) => ('since' in connectivity ? connectivity.since : null))}::timestamptz[],
      ${column(({ state }) => state.device.epoch ?? null)}::text[],
      ${column(({ state: { device } }) => (device.epoch === undefined ? 0 : (device.epochs[device.epoch] ?? 0)))}::bigint[],
      ${column(({ registered }) => registered.configuration.hash)}::text[],
      ${column(({ state }) => state.device.configurationHash ?? null)}::text[],
      ${column(({ state }) => Math.max(...Object.values(state.sequences)))}::bigint[],
      ${column(({ state }) => JSON.stringify(state))}::text[]
    ) as batch (unit, hash, display_name, lockers, retired, connectivity, connectivity_since,
      recorded_epoch, recorded_seq, wanted_hash, reported_hash, position, state)
    on conflict (unit) do update set
      display_name = excluded.display_name, lockers = excluded.lockers, retired = excluded.retired,
      connectivity = excluded.connectivity, connectivity_since = excluded.connectivity_since,
      recorded_epoch = excluded.recorded_epoch, recorded_seq = excluded.recorded_seq,
      wanted_hash = excluded.wanted_hash, reported_hash = excluded.reported_hash,
      position = excluded.position, state = excluded.state`;
}
