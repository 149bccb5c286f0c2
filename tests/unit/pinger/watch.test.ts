import { describe, expect, test } from 'bun:test';
import {
  type Believed,
  doubted,
  type Evidence,
  missed,
  NEW_WATCH,
  proven,
  provenElsewhere,
  recorded,
  silent,
  type Watch,
  wanted,
} from '../../../pinger/connectivity/watch.ts';

const N = 3;
const T0 = 1_000_000;

const EVIDENCE = {
  ping: (watch) => proven(watch, 'ping', T0, N),
  heartbeat: (watch) => proven(watch, 'heartbeat', T0, N),
  command: (watch) => proven(watch, 'command', T0, N),
  'one miss': (watch) => missed(watch, T0),
  'one miss too few': (watch) => times(N - 1, watch),
  'enough misses': (watch) => times(N, watch),
  'more misses': (watch) => times(N + 5, watch),
  silence: (watch) => silent(watch, T0),
  'misses, then a proof': (watch) => proven(times(N, watch), 'ping', T0, N),
  'a proof, then a miss': (watch) => missed(proven(watch, 'ping', T0, N), T0),
  'a proof, then enough misses': (watch) => times(N, proven(watch, 'ping', T0, N)),
  'silence, then a proof': (watch) => proven(silent(watch, T0), 'heartbeat', T0, N),
} satisfies Record<string, (watch: Watch) => Watch>;

function times(count: number, watch: Watch): Watch {
  return count === 0 ? watch : times(count - 1, missed(watch, T0));
}

type Wanted = 'online' | 'offline' | undefined;

/** Every state × evidence: the transition that it asks the log for. */
const TABLE: Record<keyof typeof EVIDENCE, Record<Believed, Wanted>> = {
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
    expect(wanted(EVIDENCE[evidence]({ ...NEW_WATCH, status }), N)).toBe(TABLE[evidence][status] as 'online');
  });

  test('wants nothing before any evidence', () => {
    expect(wanted({ ...NEW_WATCH, status }, N)).toBeUndefined();
  });
});

test('one miss is enough where one is enough', () => {
  expect(wanted(missed({ ...NEW_WATCH, status: 'online' }, T0), 1)).toBe('offline');
});

test('the misses begin with the first', () => {
  const watch = missed(missed(NEW_WATCH, T0), T0 + 10_000);
  expect(watch).toMatchObject({ misses: 2, missingSinceMs: T0 });
  expect(proven(watch, 'ping', T0, N)).not.toHaveProperty('missingSinceMs');
});

test('the newest proof counts, whatever the order in which proofs arrive', () => {
  const late = proven(proven(NEW_WATCH, 'ping', T0 + 5, N), 'heartbeat', T0, N);
  expect(late.lastProof).toEqual({ evidence: 'heartbeat', atMs: T0 + 5 });
});

describe('a unit that pings do not reach', () => {
  const beyond = (evidence: Evidence) => proven(times(N, { ...NEW_WATCH, status: 'online' }), evidence, T0, N);

  test.each(['heartbeat', 'command'] as const)('is known by a %s while they go unanswered', (evidence) => {
    expect(beyond(evidence).pingable).toBe(false);
    expect(wanted(times(50, beyond(evidence)), N)).toBeUndefined();
  });

  test('goes offline by silence alone', () => {
    expect(wanted(silent(beyond('heartbeat'), T0), N)).toBe('offline');
  });

  test('is as others once a ping is answered', () => {
    const again = proven(beyond('heartbeat'), 'ping', T0, N);
    expect(again.pingable).toBe(true);
    expect(wanted(times(N, again), N)).toBe('offline');
  });

  test('is not any unit that once missed a ping', () => {
    const once = proven(times(N - 1, { ...NEW_WATCH, status: 'online' }), 'heartbeat', T0, N);
    expect(once.pingable).toBe(true);
  });
});

test('what the log says is believed', () => {
  expect(recorded(NEW_WATCH, 'offline').status).toBe('offline');
  expect(doubted(recorded(NEW_WATCH, 'offline')).status).toBe('unknown');
});

test('misses do not count when the log has a newer proof', () => {
  const watch = provenElsewhere(times(N, { ...NEW_WATCH, status: 'unknown' }));
  expect(watch).toMatchObject({ status: 'online', misses: 0 });
  expect(wanted(watch, N)).toBeUndefined();
});
