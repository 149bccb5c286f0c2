import { describe, expect, test } from 'bun:test';
import {
  type BelievedStatus,
  dueTransition,
  type Evidence,
  UNKNOWN_LIVENESS,
  type UnitLiveness,
  withMiss,
  withMissesRefuted,
  withProof,
  withRecordedStatus,
  withSilence,
  withUnknownStatus,
} from '../../../pinger/connectivity/unit-liveness.ts';

const N = 3;
const T0 = 1_000_000;

const EVIDENCE = {
  ping: (watch) => withProof(watch, 'ping', T0, N),
  heartbeat: (watch) => withProof(watch, 'heartbeat', T0, N),
  command: (watch) => withProof(watch, 'command', T0, N),
  'one miss': (watch) => withMiss(watch, T0),
  'one miss too few': (watch) => times(N - 1, watch),
  'enough misses': (watch) => times(N, watch),
  'more misses': (watch) => times(N + 5, watch),
  silence: (watch) => withSilence(watch, T0),
  'misses, then a proof': (watch) => withProof(times(N, watch), 'ping', T0, N),
  'a proof, then a miss': (watch) => withMiss(withProof(watch, 'ping', T0, N), T0),
  'a proof, then enough misses': (watch) => times(N, withProof(watch, 'ping', T0, N)),
  'silence, then a proof': (watch) => withProof(withSilence(watch, T0), 'heartbeat', T0, N),
} satisfies Record<string, (watch: UnitLiveness) => UnitLiveness>;

function times(count: number, watch: UnitLiveness): UnitLiveness {
  return count === 0 ? watch : times(count - 1, withMiss(watch, T0));
}

type Wanted = 'online' | 'offline' | undefined;

/** Every state × evidence: the transition that it asks the log for. */
const TABLE: Record<keyof typeof EVIDENCE, Record<BelievedStatus, Wanted>> = {
  ping: { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' },
  heartbeat: { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' },
  command: { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' },
  'one miss': { unknown: undefined, 'never-seen': undefined, online: undefined, offline: undefined },
  'one miss too few': { unknown: undefined, 'never-seen': undefined, online: undefined, offline: undefined },
  'enough misses': { unknown: 'offline', 'never-seen': undefined, online: 'offline', offline: undefined },
  'more misses': { unknown: 'offline', 'never-seen': undefined, online: 'offline', offline: undefined },
  silence: { unknown: 'offline', 'never-seen': undefined, online: 'offline', offline: undefined },
  'misses, then a proof': { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' },
  'a proof, then a miss': { unknown: undefined, 'never-seen': undefined, online: undefined, offline: undefined },
  'a proof, then enough misses': { unknown: 'offline', 'never-seen': undefined, online: 'offline', offline: undefined },
  'silence, then a proof': { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' },
};

describe.each(['unknown', 'never-seen', 'online', 'offline'] as const)('a unit that is %s', (status) => {
  test.each(Object.keys(TABLE) as (keyof typeof EVIDENCE)[])('after %s', (evidence) => {
    expect(dueTransition(EVIDENCE[evidence]({ ...UNKNOWN_LIVENESS, status }), N)).toBe(
      TABLE[evidence][status] as 'online',
    );
  });

  test('wants nothing before any evidence', () => {
    expect(dueTransition({ ...UNKNOWN_LIVENESS, status }, N)).toBeUndefined();
  });
});

test('one miss is enough where one is enough', () => {
  expect(dueTransition(withMiss({ ...UNKNOWN_LIVENESS, status: 'online' }, T0), 1)).toBe('offline');
});

test('the misses begin with the first', () => {
  const watch = withMiss(withMiss(UNKNOWN_LIVENESS, T0), T0 + 10_000);
  expect(watch).toMatchObject({ misses: 2, missingSinceMs: T0 });
  expect(withProof(watch, 'ping', T0, N)).not.toHaveProperty('missingSinceMs');
});

test('the newest proof counts, whatever the order in which proofs arrive', () => {
  const late = withProof(withProof(UNKNOWN_LIVENESS, 'ping', T0 + 5, N), 'heartbeat', T0, N);
  expect(late.lastProof).toEqual({ evidence: 'heartbeat', atMs: T0 + 5 });
});

describe('a unit that pings do not reach', () => {
  const beyond = (evidence: Evidence) =>
    withProof(times(N, { ...UNKNOWN_LIVENESS, status: 'online' }), evidence, T0, N);

  test.each(['heartbeat', 'command'] as const)('is known by a %s while they go unanswered', (evidence) => {
    expect(beyond(evidence).isPingEvidence).toBe(false);
    expect(dueTransition(times(50, beyond(evidence)), N)).toBeUndefined();
  });

  test('goes offline by silence alone', () => {
    expect(dueTransition(withSilence(beyond('heartbeat'), T0), N)).toBe('offline');
  });

  test('is as others once a ping is answered', () => {
    const again = withProof(beyond('heartbeat'), 'ping', T0, N);
    expect(again.isPingEvidence).toBe(true);
    expect(dueTransition(times(N, again), N)).toBe('offline');
  });

  test('is not any unit that once missed a ping', () => {
    const once = withProof(times(N - 1, { ...UNKNOWN_LIVENESS, status: 'online' }), 'heartbeat', T0, N);
    expect(once.isPingEvidence).toBe(true);
  });
});

test('what the log says is believed', () => {
  expect(withRecordedStatus(UNKNOWN_LIVENESS, 'offline').status).toBe('offline');
  expect(withUnknownStatus(withRecordedStatus(UNKNOWN_LIVENESS, 'offline')).status).toBe('unknown');
});

test('misses do not count when the log has a newer proof', () => {
  const watch = withMissesRefuted(times(N, { ...UNKNOWN_LIVENESS, status: 'unknown' }));
  expect(watch).toMatchObject({ status: 'online', misses: 0 });
  expect(dueTransition(watch, N)).toBeUndefined();
});
