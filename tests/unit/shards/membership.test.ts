import { describe, expect, test } from 'bun:test';
import { decodeHeartbeat, encodeHeartbeat } from '../../../platform/shards/heartbeat.ts';
import { EXPIRY_MS, HEARTBEAT_MS, Membership } from '../../../platform/shards/membership.ts';

const A = { id: 'a', fixed: undefined };
const B = { id: 'b', fixed: ['0', '1'] };

describe('the membership', () => {
  test('has a member from its first heartbeat until it leaves', () => {
    const others = new Membership();
    expect([others.recordHeartbeat(A, 0), others.recordHeartbeat(B, 0)]).toEqual([true, true]);
    expect(others.members).toEqual([A, B]);
    expect([others.remove('a'), others.remove('a')]).toEqual([true, false]);
    expect(others.members).toEqual([B]);
  });

  test('changes by a heartbeat with other prefixes, and not by a repeated one', () => {
    const others = new Membership();
    others.recordHeartbeat(B, 0);
    expect(others.recordHeartbeat({ ...B }, HEARTBEAT_MS)).toBe(false);
    expect(others.recordHeartbeat({ id: 'b', fixed: ['0'] }, HEARTBEAT_MS)).toBe(true);
    expect(others.recordHeartbeat({ id: 'b', fixed: [] }, HEARTBEAT_MS)).toBe(true);
    expect(others.recordHeartbeat({ id: 'b', fixed: undefined }, HEARTBEAT_MS)).toBe(true);
  });

  test('removes a member once it sent no heartbeat for EXPIRY_MS, not earlier', () => {
    const others = new Membership();
    others.recordHeartbeat(A, 0);
    others.recordHeartbeat(B, 500);
    expect(others.nextExpiryMs).toBe(EXPIRY_MS);
    expect(others.removeExpired(EXPIRY_MS - 1)).toEqual([]);
    expect(others.removeExpired(EXPIRY_MS)).toEqual(['a']);
    expect(others.nextExpiryMs).toBe(EXPIRY_MS + 500);
    others.recordHeartbeat(B, EXPIRY_MS);
    expect(others.removeExpired(EXPIRY_MS + 500)).toEqual([]);
  });

  test('does not shorten the expiry of a member by an older heartbeat', () => {
    const others = new Membership();
    others.recordHeartbeat(A, 1_000);
    others.recordHeartbeat(A, 400);
    expect(others.nextExpiryMs).toBe(1_000 + EXPIRY_MS);
  });

  test('gives every member the full expiry time after its reader was disconnected', () => {
    const others = new Membership();
    others.recordHeartbeat(A, 0);
    others.restartExpiry(60_000);
    expect(others.removeExpired(60_000 + EXPIRY_MS - 1)).toEqual([]);
    expect(others.removeExpired(60_000 + EXPIRY_MS)).toEqual(['a']);
  });

  test('without members has no next expiry', () => {
    expect(new Membership().nextExpiryMs).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('a heartbeat', () => {
  test('is decoded to the prefixes that were encoded', () => {
    for (const fixed of [undefined, [], ['0', 'b3']])
      expect(decodeHeartbeat(encodeHeartbeat(fixed))?.fixed).toEqual(fixed);
  });

  test.each(['', 'nonsense', 'null', '[]', '{"fixed":"a"}', '{"fixed":["G"]}', '{"fixed":[""]}'])(
    'is not %s',
    (text) => {
      expect(decodeHeartbeat(text)).toBeUndefined();
    },
  );
});
