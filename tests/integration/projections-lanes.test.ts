/** A process that inherits lanes fills them at its next look at them, however long that look takes. */

import { expect, test } from 'bun:test';
import { LANE_COUNT, laneOf } from '../../domain/shard.ts';
import { EXPIRY_MS, HEARTBEAT_MS } from '../../platform/shards/membership.ts';
import { runProjections } from '../../projections/engine/engine.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, freshPostgres, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { silentLog } from '../support/silent-log.ts';

/** The engine looks at its lanes four times a second. */
const LOOK_MS = 250;
/** From the kill of a process until another one fills its lanes. */
const TAKEOVER_MS = 25_000;

test('the lanes of a killed process are filled within 25 s: their heartbeat expires, and the next looks at the lanes start them', async () => {
  const history = new FleetHistory(seededRandom(), { units: 24, lockers: 2 });
  const store = storeOf(history);
  await append(history, store, 200);
  const postgres = await freshPostgres();
  const applied = new Set<number>();
  const journal: Projection = {
    name: 'journal',
    version: 1,
    createTables: async () => undefined,
    apply: async (_tx, _schema, batch) => {
      for (const { lane } of batch) applied.add(lane);
    },
  };
  const lanesWithCommits = [...new Set([...history.states.keys()].map(laneOf))];
  const [inherited, ...own] = lanesWithCommits;
  if (inherited === undefined || own.length === 0) throw new Error('the units share one lane');
  const all = Array.from({ length: LANE_COUNT }, (_, lane) => lane);
  let hasInherited = false;
  /** Looks at the lanes since the other process is gone, until the first commit of its lane is applied. */
  let looks = 0;
  const lanes = () => {
    if (hasInherited && !applied.has(inherited)) looks += 1;
    return hasInherited ? all : all.filter((lane) => lane !== inherited);
  };
  const stop = new AbortController();
  const running = runProjections({
    ...{ postgres, store, projections: [journal], lanes, log: silentLog, signal: stop.signal },
    clock: () => performance.now(),
  });
  await eventually(() => own.every((lane) => applied.has(lane)));
  expect(applied.has(inherited)).toBe(false);
  hasInherited = true;
  await eventually(() => applied.has(inherited));
  stop.abort();
  await running;
  await postgres.close(1);
  // Another member notices the expiry with its own next heartbeat.
  expect(EXPIRY_MS + HEARTBEAT_MS).toBe(4_000);
  expect(EXPIRY_MS + HEARTBEAT_MS + looks * LOOK_MS).toBeLessThan(TAKEOVER_MS);
}, 120_000);
