import { describe, expect, test } from 'bun:test';
import { newUnitState } from '../../../domain/unit/unit.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { parseBatch, planAppend } from '../../../platform/unit-log/batch.ts';
import { CLOCK_OFFSETS_REFRESH_MS, ClockOffsetCache } from '../../../platform/unit-log/clock-offset-cache.ts';
import { EPOCH, UNIT } from '../../support/given.ts';
import { at, atMs } from '../domain/scene.ts';

const HOUR_MS = 3_600_000;

describe('what ingest knows of clocks', () => {
  function start() {
    const lines: string[] = [];
    const world = { offsets: new Map([[UNIT, HOUR_MS]]), away: false, reads: 0 };
    const read = async () => {
      world.reads += 1;
      if (world.away) throw new Error('Postgres is away');
      return new Map(world.offsets);
    };
    return {
      world,
      lines,
      offsets: new ClockOffsetCache({ read, log: createLog((line) => lines.push(line), Date.now) }),
    };
  }

  test('is what was read last, and stays while it cannot be read', async () => {
    const { world, lines, offsets } = start();
    expect(offsets.get(UNIT)).toBeUndefined();
    await offsets.refresh();
    expect([offsets.get(UNIT), offsets.get('PL-1001')]).toEqual([HOUR_MS, undefined]);
    world.away = true;
    for (let n = 0; n < 5; n++) await offsets.refresh();
    expect(offsets.get(UNIT)).toBe(HOUR_MS);
    expect(lines).toHaveLength(1);
    world.away = false;
    world.offsets.clear();
    await offsets.refresh();
    expect(offsets.get(UNIT)).toBeUndefined();
    expect(lines).toHaveLength(2);
  });

  test('is read every few seconds until it ends', async () => {
    const { world, offsets } = start();
    const stop = new AbortController();
    const pauses: number[] = [];
    await offsets.run(stop.signal, async (ms) => {
      if (pauses.push(ms) === 3) stop.abort();
    });
    expect(pauses).toEqual([CLOCK_OFFSETS_REFRESH_MS, CLOCK_OFFSETS_REFRESH_MS, CLOCK_OFFSETS_REFRESH_MS]);
    expect(world.reads).toBe(3);
  });
});

describe('a batch', () => {
  const acceptance = { receivedAtMs: atMs(9), storedRejections: new Set([1, 2]) };
  const closed = (seq: number) => ({ seq, v: 1, type: 'LockerClosed', time: at(seq), locker: 'A', data: {} });
  const batch = parseBatch(
    UNIT,
    new TextEncoder().encode(
      JSON.stringify({ unit: UNIT, epoch: EPOCH, events: [closed(1), { ...closed(2), data: 'none' }, { seq: 3 }] }),
    ),
  );

  test('of a wrong clock says so in each event, but not beside a time that the unit did not tell', () => {
    const { events } = planAppend(batch, newUnitState(UNIT), { ...acceptance, clockOffsetMs: HOUR_MS });
    expect(events.map(({ type, time, clockoffsetms }) => ({ type, time, clockoffsetms }))).toEqual([
      { type: 'LockerClosed', time: at(1), clockoffsetms: HOUR_MS },
      { type: 'UnitEventRejected', time: at(2), clockoffsetms: HOUR_MS },
      { type: 'UnitEventRejected', time: at(9), clockoffsetms: undefined },
    ]);
  });

  test('of a clock that is right has no word of it', () => {
    const { events } = planAppend(batch, newUnitState(UNIT), acceptance);
    expect(events).toHaveLength(3);
    for (const event of events) expect(event).not.toHaveProperty('clockoffsetms');
  });
});
