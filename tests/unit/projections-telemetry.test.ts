import { describe, expect, test } from 'bun:test';
import type { TelemetryResult } from '../../platform/telemetry.ts';
import {
  clockOf,
  joined,
  PING_CLOCK_PRECEDENCE_MS,
  proofOf,
  type UnitNews,
  withResult,
} from '../../projections/telemetry/news.ts';
import { permutations } from '../support/permutations.ts';

const unit = 'PL-1000';
const answer = (at: number, clockOffsetMs?: number) => ({
  heard: 'answer' as const,
  unit,
  at,
  rttMs: at / 10,
  epoch: 'e',
  lastSeq: at,
  ...(clockOffsetMs === undefined ? {} : { clockOffsetMs }),
});
const beat = (at: number, clockOffsetMs?: number) => ({
  heard: 'heartbeat' as const,
  unit,
  at,
  epoch: 'e',
  lastSeq: at,
  ...(clockOffsetMs === undefined ? {} : { clockOffsetMs }),
});
const miss = (at: number) => ({ heard: 'nothing' as const, unit, at });

function after(results: readonly TelemetryResult[]): UnitNews {
  const news = results.reduce<UnitNews | undefined>((known, result) => withResult(known, result), undefined);
  if (news === undefined) throw new Error('nothing was heard');
  return news;
}

interface Expected {
  readonly proof?: TelemetryResult;
  readonly answer?: TelemetryResult;
  readonly miss?: TelemetryResult;
  readonly clock?: { readonly offsetMs: number; readonly isOfPing: boolean };
}

const LATE = PING_CLOCK_PRECEDENCE_MS;
const TABLE: readonly [string, readonly TelemetryResult[], Expected][] = [
  ['an answer', [answer(1, 7)], { proof: answer(1, 7), answer: answer(1, 7), clock: { offsetMs: 7, isOfPing: true } }],
  ['a miss proves nothing', [miss(1)], { miss: miss(1) }],
  ['a heartbeat has no response time', [beat(1, 9)], { proof: beat(1, 9), clock: { offsetMs: 9, isOfPing: false } }],
  ['a heartbeat whose content could not be read', [{ heard: 'heartbeat', unit, at: 1 }], { proof: beatOnly(1) }],
  ['a miss does not undo an answer', [answer(1), miss(2)], { proof: answer(1), answer: answer(1), miss: miss(2) }],
  ['a miss does not undo a newer heartbeat', [miss(1), beat(2)], { proof: beat(2), miss: miss(1) }],
  ['nor an older one', [beat(1), miss(2)], { proof: beat(1), miss: miss(2) }],
  ['a newer answer', [answer(1), miss(2), answer(3)], { proof: answer(3), answer: answer(3), miss: miss(2) }],
  ['the response time stays that of the ping', [answer(1), beat(2)], { proof: beat(2), answer: answer(1) }],
  ['the proof is the newer one', [beat(1), answer(2)], { proof: answer(2), answer: answer(2) }],
  [
    'all of them',
    [answer(1, 1), miss(2), beat(3, 3), miss(4)],
    { proof: beat(3, 3), answer: answer(1, 1), miss: miss(4), clock: { offsetMs: 1, isOfPing: true } },
  ],
  [
    'the clock is that of the ping while there was one lately',
    [answer(1, 10), beat(LATE, 20)],
    { proof: beat(LATE, 20), answer: answer(1, 10), clock: { offsetMs: 10, isOfPing: true } },
  ],
  [
    'and that of the heartbeat when there was none for long',
    [answer(1, 10), beat(LATE + 2, 20)],
    { proof: beat(LATE + 2, 20), answer: answer(1, 10), clock: { offsetMs: 20, isOfPing: false } },
  ],
  [
    'an answer that came too slowly does not tell the clock',
    [answer(1, 10), answer(2)],
    { proof: answer(2), answer: answer(2), clock: { offsetMs: 10, isOfPing: true } },
  ],
];

function beatOnly(at: number): TelemetryResult {
  return { heard: 'heartbeat', unit, at };
}

describe('what was heard of a unit, in any order and dealt in any way', () => {
  test.each(TABLE)('%s', (_, results, expected) => {
    for (const order of permutations(results)) {
      expect(summary(after(order))).toEqual(expected);
      for (let cut = 1; cut < order.length; cut++) {
        expect(summary(joined(after(order.slice(0, cut)), after(order.slice(cut))))).toEqual(expected);
      }
    }
  });
});

function summary(news: UnitNews): Expected {
  const proof = proofOf(news);
  const clock = clockOf(news);
  return {
    ...(proof === undefined ? {} : { proof }),
    ...(news.answer === undefined ? {} : { answer: news.answer }),
    ...(news.miss === undefined ? {} : { miss: news.miss }),
    ...(clock === undefined ? {} : { clock: { offsetMs: clock.offsetMs, isOfPing: clock.isOfPing } }),
  };
}
