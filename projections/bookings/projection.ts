/**
 * `bookings`: a snapshot of each unit, and when time alone next changes its bookings. A decision loads the snapshot and folds only the
 * commits after it.
 */

import { nextSettlementAtMs } from '../../domain/booking/settlement.ts';
import { AGGREGATES } from '../../domain/events/cloud-event.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { Tx } from '../../platform/postgres/connection.ts';
import type { Projection } from '../engine/projection.ts';
import { EARLIEST_STORABLE_MS } from '../engine/storable-time.ts';
import type { FoldedUnit } from '../unit-states/state-table.ts';
import { UnitStates, versionWithFold } from '../unit-states/unit-states.ts';

/** A snapshot of another version was folded by other rules, so decisions ignore it. */
export const BOOKINGS_VERSION = versionWithFold(3);

export function createBookings(): Projection {
  const unitStates = new UnitStates({
    aggregates: new Set(AGGREGATES),
    startsAtRegistration: false,
    trim: (state) => state,
  });
  return {
    name: 'bookings',
    version: BOOKINGS_VERSION,
    async createTables(tx, schema) {
      await unitStates.createTable(tx, schema);
      await createDueTable(tx, schema);
    },
    async apply(tx, schema, commits) {
      await saveDueTimes(tx, schema, await unitStates.fold(tx, schema, commits));
    },
    openFold: (schema, isFresh) =>
      unitStates.openFold(schema, isFresh, (tx, folded) => saveDueTimes(tx, schema, folded)),
  };
}

async function createDueTable(tx: Tx, schema: string): Promise<void> {
  const table = tx(`${schema}.settlement_due`);
  await tx`
    create table ${table} (
      unit text primary key,
      due_at timestamptz not null
    ) with (fillfactor = 70)`;
  await tx`create index on ${table} (due_at, unit)`;
}

/** When states are due that were folded. The state after a batch is the state before the next one. */
const DUE_TIMES = new WeakMap<UnitState, { readonly dueMs: number | undefined }>();

function dueMsOf(state: UnitState): number | undefined {
  const known = DUE_TIMES.get(state);
  if (known !== undefined) return known.dueMs;
  const dueMs = nextSettlementAtMs(state);
  DUE_TIMES.set(state, { dueMs });
  return dueMs;
}

/** Writes when each unit is due. A unit that time cannot change has no row. */
async function saveDueTimes(tx: Tx, schema: string, folded: readonly FoldedUnit[]): Promise<void> {
  const changed = folded.flatMap(({ before, after }) => {
    const dueMs = dueMsOf(after);
    return dueMs === dueMsOf(before) ? [] : [{ unit: after.name, dueMs }];
  });
  if (changed.length === 0) return;
  const table = tx(`${schema}.settlement_due`);
  const idle = changed.flatMap(({ unit, dueMs }) => (dueMs === undefined ? [unit] : []));
  if (idle.length > 0) await tx`delete from ${table} where unit = any(${idle}::text[])`;
  const due = changed.flatMap(({ dueMs, ...row }) =>
    dueMs === undefined ? [] : [{ ...row, dueAt: toInstant(Math.max(dueMs, EARLIEST_STORABLE_MS)) }],
  );
  if (due.length === 0) return;
  await tx`
    insert into ${table} (unit, due_at)
    select * from unnest(
      ${due.map(({ unit }) => unit)}::text[],
      ${due.map(({ dueAt }) => dueAt)}::timestamptz[]
    )
    on conflict (unit) do update set due_at = excluded.due_at`;
}
