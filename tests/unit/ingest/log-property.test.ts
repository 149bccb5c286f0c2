import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { type BatchEvent, deviceEventId } from '../../../domain/unit-protocol/batch.ts';
import { seededRandom } from '../../support/random.ts';
import { LogWorld } from './log-world.ts';

const RUNS = 300;
const MAX_STEPS = 60;
const { seed } = seededRandom();

type Step = (world: LogWorld) => unknown;

const small = fc.nat({ max: 7 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: small.map(
      (count): Step =>
        (world) =>
          world.logEvents(count, false),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.logEvents(1, true)) },
  {
    weight: 8,
    arbitrary: fc.tuple(small, fc.constantFrom('arrives', 'lost', 'unacknowledged', 'twice', 'halves-swapped')).map(
      ([limit, fate]): Step =>
        (world) =>
          world.push(limit + 1, fate),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(small, small, small).map(
      ([a, b, c]): Step =>
        (world) =>
          world.replay(a, b, c + 1),
    ),
  },
  {
    weight: 10,
    arbitrary: fc.tuple(small, fc.boolean()).map(
      ([which, both]): Step =>
        (world) =>
          world.deliver(which, both),
    ),
  },
  { weight: 3, arbitrary: fc.constant<Step>((world) => world.reportRecorded()) },
  {
    weight: 3,
    arbitrary: small.map(
      (which): Step =>
        (world) =>
          world.fetch(which),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(1_000, 20_000, 30 * 86_400_000).map(
      (ms): Step =>
        (world) =>
          world.advance(ms),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.restartUnit()) },
  {
    weight: 1,
    arbitrary: small.map(
      (which): Step =>
        (world) =>
          world.restartPlatform(which),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.wipe()) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.overflow()) },
  {
    weight: 1,
    arbitrary: fc.boolean().map(
      (reachable): Step =>
        (world) =>
          Object.assign(world, { reachable }),
    ),
  },
);

/** Performs the steps on a new world, and then ends all faults. */
async function runSteps(steps: readonly Step[]): Promise<LogWorld> {
  const world = new LogWorld();
  await world.register();
  for (const step of steps) await step(world);
  await world.heal();
  return world;
}

async function checkProperty(check: (world: LogWorld) => Promise<void>): Promise<void> {
  const property = fc.asyncProperty(fc.array(step, { maxLength: MAX_STEPS, size: 'max' }), async (steps) =>
    check(await runSteps(steps)),
  );
  await fc.assert(property, { seed, numRuns: RUNS });
}

/** The seqs of an epoch that the platform has given up as lost. */
async function lostSeqs(world: LogWorld, epoch: string): Promise<number[]> {
  const commits = await world.store.tail('PL-1000', 0);
  return commits
    .flatMap((commit) => commit.events())
    .flatMap(({ type, data }) => {
      if (type !== 'UnitLogGapClosed' || data.epoch !== epoch || data.lost !== true) return [];
      const { fromSeq, toSeq } = data as { fromSeq: number; toSeq: number };
      return Array.from({ length: toSeq - fromSeq + 1 }, (_, index) => fromSeq + index);
    });
}

test('the store has each event of the log once, in order and unchanged, after any sequence of faults', async () => {
  await checkProperty(async (world) => {
    for (const { id, entries } of world.epochs) {
      const events = await world.recorded(id);
      const seqs = events.map(({ unitseq }) => unitseq ?? 0);
      expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
      for (const event of events) {
        const content: Partial<BatchEvent> = entries[(event.unitseq ?? 0) - 1]?.content ?? {};
        const malformed = content.type === 'LockerOpened' && content.data?.cause === 7;
        expect(event.type).toBe(malformed ? 'UnitEventRejected' : (content.type ?? ''));
        expect(event.id).toBe(deviceEventId('PL-1000', id, event.unitseq ?? 0));
        if (malformed) expect(world.deadLetters.get(event.id)).toEqual(content);
        else expect<unknown>(event.data).toEqual(content.data);
      }
    }
  });
});

test('after the faults end, every event that the unit has is recorded, and only dropped events are given up as lost', async () => {
  await checkProperty(async (world) => {
    const { id, entries, dropped } = world.present;
    const recorded = new Set((await world.recorded(id)).map(({ unitseq }) => unitseq));
    const missing = entries.map(({ seq }) => seq).filter((seq) => !recorded.has(seq));
    for (const seq of missing) expect(dropped).toContain(seq);
    expect(await lostSeqs(world, id)).toEqual(missing);
  });
});

test('every seq of every epoch is recorded or given up as lost, and no gap stays open', async () => {
  await checkProperty(async (world) => {
    for (const { id } of world.epochs) {
      const recorded = (await world.recorded(id)).map(({ unitseq }) => unitseq ?? 0);
      const known = new Set([...recorded, ...(await lostSeqs(world, id))]);
      for (let seq = 1; seq <= Math.max(0, ...recorded); seq += 1) expect(known).toContain(seq);
    }
    expect((await world.state()).log.gaps).toEqual({});
    expect(world.inbox).toEqual([]);
  });
});

test('the current epoch is that of the unit, also after late events of other epochs', async () => {
  await checkProperty(async (world) => {
    expect((await world.state()).device.epoch).toBe(world.present.id);
  });
});
