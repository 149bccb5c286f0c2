import { describe, expect, test } from 'bun:test';
import type { TelemetryResult } from '../../../platform/liveness/telemetry-message.ts';
import {
  addResult,
  clockReadingOf,
  latestProofOf,
  mergeTelemetry,
  PING_CLOCK_PRECEDENCE_MS,
  type UnitTelemetry,
} from '../../../projections/telemetry/unit-telemetry.ts';
import { permutations } from '../../support/permutations.ts';
import { answered, missed } from '../../support/telemetry.ts';

const unit = 'PL-1000';
const said = (at: number, clockOffsetMs?: number) => ({
  at,
  epoch: 'e',
  lastSeq: at,
  ...(clockOffsetMs === undefined ? {} : { clockOffsetMs }),
});
const answer = (at: number, clockOffsetMs?: number) => answered({ unit, rttMs: at / 10, ...said(at, clockOffsetMs) });
const beat = (at: number, clockOffsetMs?: number) => ({
  heard: 'heartbeat' as const,
  unit,
  ...said(at, clockOffsetMs),
});
const miss = (at: number) => missed({ unit, at });

function after(results: readonly TelemetryResult[]): UnitTelemetry {
  const news = results.reduce<UnitTelemetry | undefined>((known, result) => addResult(known, result), undefined);
  if (news === undefined) throw new Error('nothing was heard');
  return news;
}

interface Expected {
  readonly proof?: number;
  readonly answer?: number;
  readonly pinged?: number;
  readonly lost: number;
  readonly clock?: { readonly offsetMs: number; readonly isFromPing: boolean };
}

const LATE = PING_CLOCK_PRECEDENCE_MS;
const byPing = (offsetMs: number) => ({ clock: { offsetMs, isFromPing: true } });
const byHeartbeat = (offsetMs: number) => ({ clock: { offsetMs, isFromPing: false } });
const TABLE: readonly [string, readonly TelemetryResult[], Expected][] = [
  ['an answer', [answer(1, 7)], { proof: 1, answer: 1, pinged: 1, lost: 0, ...byPing(7) }],
  ['a missed ping updates only the counters', [miss(1)], { pinged: 1, lost: 1 }],
  ['a heartbeat has no response time', [beat(1, 9)], { proof: 1, lost: 0, ...byHeartbeat(9) }],
  ['a heartbeat whose content could not be read', [{ heard: 'heartbeat', unit, at: 1 }], { proof: 1, lost: 0 }],
  ['a miss does not undo an answer', [answer(1), miss(2)], { proof: 1, answer: 1, pinged: 2, lost: 1 }],
  ['a miss does not undo a newer heartbeat', [miss(1), beat(2)], { proof: 2, pinged: 1, lost: 1 }],
  ['a miss does not undo an older heartbeat', [beat(1), miss(2)], { proof: 1, pinged: 2, lost: 1 }],
  ['a newer answer', [answer(1), miss(2), answer(3)], { proof: 3, answer: 3, pinged: 3, lost: 1 }],
  ['the response time stays that of the ping', [answer(1), beat(2)], { proof: 2, answer: 1, pinged: 1, lost: 0 }],
  ['the proof is the newer one', [beat(1), answer(2)], { proof: 2, answer: 2, pinged: 2, lost: 0 }],
  [
    'all of them',
    [answer(1, 1), miss(2), beat(3, 3), miss(4)],
    { proof: 3, answer: 1, pinged: 4, lost: 2, ...byPing(1) },
  ],
  [
    'the clock offset is that of a recent ping',
    [answer(1, 10), beat(LATE, 20)],
    { proof: LATE, answer: 1, pinged: 1, lost: 0, ...byPing(10) },
  ],
  [
    'the clock offset is that of the heartbeat when there was no recent ping',
    [answer(1, 10), beat(LATE + 2, 20)],
    { proof: LATE + 2, answer: 1, pinged: 1, lost: 0, ...byHeartbeat(20) },
  ],
  [
    'an answer that came too slowly does not tell the clock',
    [answer(1, 10), answer(2)],
    { proof: 2, answer: 2, pinged: 2, lost: 0, ...byPing(10) },
  ],
];

describe('the telemetry state of a unit, for any order and distribution of messages', () => {
  test.each(TABLE)('%s', (_, results, expected) => {
    for (const order of permutations(results)) {
      expect(summary(after(order))).toEqual(expected);
      for (let cut = 1; cut < order.length; cut++) {
        expect(summary(mergeTelemetry(after(order.slice(0, cut)), after(order.slice(cut))))).toEqual(expected);
      }
    }
  });
});

function summary(news: UnitTelemetry): Expected {
  const { answer: last, pinged, buckets } = news;
  const proof = latestProofOf(news);
  const clock = clockReadingOf(news);
  return {
    ...(proof === undefined ? {} : { proof: proof.at }),
    ...(last === undefined ? {} : { answer: last.at }),
    ...(pinged === undefined ? {} : { pinged: pinged.at }),
    lost: [...buckets.values()].reduce((sum, { lost }) => sum + lost, 0),
    ...(clock === undefined ? {} : { clock: { offsetMs: clock.offsetMs, isFromPing: clock.isFromPing } }),
  };
}
