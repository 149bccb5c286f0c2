/** `bookings`: the snapshots from which decisions start, one row a unit. */

import { AGGREGATES } from '../../domain/envelope.ts';
import { UNIT_FOLD_VERSION } from '../../domain/unit.ts';
import type { Projection } from '../engine/projection.ts';
import { foldUnitStates, versionWithFold } from '../unit-states.ts';

const ALL_AGGREGATES = new Set(AGGREGATES);

export const bookings: Projection = {
  name: 'bookings',
  version: versionWithFold(1),

  async createTables(tx, schema) {
    await tx`
      create table ${tx(`${schema}.unit_state`)} (
        unit text primary key,
        fold_version int not null,
        position bigint not null,
        state json not null
      )`;
  },

  async apply(tx, schema, commits) {
    const table = `${schema}.unit_state`;
    const states = await foldUnitStates(tx, table, commits, ALL_AGGREGATES);
    if (states.size === 0) return;
    const positions = new Map(commits.map((commit) => [commit.unit, commit.sequence]));
    await tx`
      insert into ${tx(table)} (unit, fold_version, position, state)
      select unit, ${UNIT_FOLD_VERSION}, position, state::json
      from unnest(
        ${[...states.keys()]}::text[],
        ${[...states.keys()].map((unit) => positions.get(unit) ?? 0)}::bigint[],
        ${[...states.values()].map((state) => JSON.stringify(state))}::text[]
      ) as batch (unit, position, state)
      on conflict (unit) do update
        set fold_version = excluded.fold_version, position = excluded.position, state = excluded.state`;
  },
};
