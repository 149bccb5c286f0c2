import { describe, expect, test } from 'bun:test';
import {
  decodeTelemetry,
  encodeTelemetry,
  MAX_TELEMETRY_RESULTS,
  type TelemetryResult,
  telemetrySubject,
} from '../../../platform/liveness/telemetry-message.ts';
import { answered, missed } from '../../support/telemetry.ts';

describe('a telemetry message', () => {
  const last = {
    at: 1_780_315_200_123,
    rttMs: 12.5,
    epoch: 'e',
    lastSeq: 7,
    configurationHash: 'c',
    clockOffsetMs: -3,
  };
  const result = answered({ unit: 'PL-1000', ...last });

  test('is decoded as it was encoded', () => {
    const { rttMs: _, ...report } = last;
    const results: TelemetryResult[] = [
      result,
      { ...missed({ unit: 'PL-1001', at: 1 }), flapping: true },
      { heard: 'heartbeat', unit: 'PL-1000', ...report },
      { heard: 'heartbeat', unit: 'PL-1002', at: 2 },
    ];
    expect(decodeTelemetry(encodeTelemetry('p-1', results))).toEqual({ pingerId: 'p-1', results, unreadable: 0 });
    expect(telemetrySubject('p-1')).toBe('telemetry.p-1');
  });

  test.each([
    ['text that is not JSON', 'hello'],
    ['null', 'null'],
    ['a message without results', '{"pingerId":"p"}'],
    ['an id that is not a token of a NATS subject', encodeTelemetry('a.b', [])],
    ['more results than a message may have', encodeTelemetry('p', new Array(MAX_TELEMETRY_RESULTS + 1).fill(result))],
  ])('rejects %s', (_, json) => {
    expect(decodeTelemetry(json)).toBeUndefined();
  });

  test.each([
    ['a malformed unit name', { unit: 'a b' }],
    ['a negative response time', { last: { ...last, rttMs: -1 } }],
    ['a seq beyond the safe integers', { last: { ...last, lastSeq: 1e300 } }],
    ['an epoch with a null character', { last: { ...last, epoch: 'e\u0000' } }],
    ['an epoch that is too long', { last: { ...last, epoch: 'e'.repeat(101) } }],
    ['an unknown kind of result', { heard: 'music' }],
  ])('%s drops only its own result', (_, change) => {
    const results = [{ ...result, ...change } as TelemetryResult, result];
    expect(decodeTelemetry(encodeTelemetry('p', results))).toEqual({ pingerId: 'p', results: [result], unreadable: 1 });
  });
});
