import { describe, expect, test } from 'bun:test';
import {
  type BelievedStatus,
  dueTransition,
  type Evidence,
  UNKNOWN_LIVENESS,
  type UnitLiveness,
  withMiss,
  withoutMisses,
  withProof,
  withRecordedStatus,
  withSilence,
  withUnknownStatus,
} from '../../../pinger/connectivity/unit-liveness.ts';

const FAILURES = 3;
const T0 = 1_000_000;

const prove = (liveness: UnitLiveness, evidence: Evidence, atMs = T0) =>
  withProof(liveness, { evidence, atMs }, FAILURES);
const online: UnitLiveness = { ...UNKNOWN_LIVENESS, status: 'online' };

function missTimes(liveness: UnitLiveness, times: number): UnitLiveness {
  return times === 0 ? liveness : missTimes(withMiss(liveness, T0), times - 1);
}

const EVIDENCE = {
  'a ping': (liveness) => prove(liveness, 'ping'),
  'a heartbeat': (liveness) => prove(liveness, 'heartbeat'),
  'a command': (liveness) => prove(liveness, 'command'),
  'one miss': (liveness) => withMiss(liveness, T0),
  'one miss less than needed': (liveness) => missTimes(liveness, FAILURES - 1),
  'as many misses as needed': (liveness) => missTimes(liveness, FAILURES),
  'more misses than needed': (liveness) => missTimes(liveness, FAILURES + 5),
  silence: (liveness) => withSilence(liveness, T0),
  'misses, then a proof': (liveness) => prove(missTimes(liveness, FAILURES), 'ping'),
  'a proof, then a miss': (liveness) => withMiss(prove(liveness, 'ping'), T0),
  'a proof, then as many misses as needed': (liveness) => missTimes(prove(liveness, 'ping'), FAILURES),
  'silence, then a proof': (liveness) => prove(withSilence(liveness, T0), 'heartbeat'),
} satisfies Record<string, (liveness: UnitLiveness) => UnitLiveness>;

type Transition = 'online' | 'offline' | undefined;

const toOnline = { unknown: 'online', 'never-seen': 'online', online: undefined, offline: 'online' } as const;
const toOffline = { unknown: 'offline', 'never-seen': undefined, online: 'offline', offline: undefined } as const;
const toNothing = { unknown: undefined, 'never-seen': undefined, online: undefined, offline: undefined } as const;

/** The transition that each evidence demands in each status. */
const TRANSITIONS: Record<keyof typeof EVIDENCE, Record<BelievedStatus, Transition>> = {
  'a ping': toOnline,
  'a heartbeat': toOnline,
  'a command': toOnline,
  'one miss': toNothing,
  'one miss less than needed': toNothing,
  'as many misses as needed': toOffline,
  'more misses than needed': toOffline,
  silence: toOffline,
  'misses, then a proof': toOnline,
  'a proof, then a miss': toNothing,
  'a proof, then as many misses as needed': toOffline,
  'silence, then a proof': toOnline,
};

describe.each(['unknown', 'never-seen', 'online', 'offline'] as const)('a unit with the status %s', (status) => {
  const liveness = { ...UNKNOWN_LIVENESS, status };

  test.each(Object.keys(TRANSITIONS) as (keyof typeof EVIDENCE)[])('after %s', (evidence) => {
    const transition: Transition = dueTransition(EVIDENCE[evidence](liveness), FAILURES);
    expect(transition).toBe(TRANSITIONS[evidence][status]);
  });

  test('is due for no transition without evidence', () => {
    expect(dueTransition(liveness, FAILURES)).toBeUndefined();
  });
});

test('one miss makes a unit offline where one failure is enough', () => {
  expect(dueTransition(withMiss(online, T0), 1)).toBe('offline');
});

test('a unit is missing since its first miss', () => {
  const missed = withMiss(withMiss(UNKNOWN_LIVENESS, T0), T0 + 10_000);
  expect(missed).toMatchObject({ misses: 2, missingSinceMs: T0 });
  expect(prove(missed, 'ping')).not.toHaveProperty('missingSinceMs');
});

test('the time of the newest proof stays when an older proof arrives later', () => {
  const late = prove(prove(UNKNOWN_LIVENESS, 'ping', T0 + 5), 'heartbeat', T0);
  expect(late.lastProof).toEqual({ evidence: 'heartbeat', atMs: T0 + 5 });
});

describe('a unit that pings do not reach', () => {
  const unreached = (evidence: Evidence) => prove(missTimes(online, FAILURES), evidence);

  test.each(['heartbeat', 'command'] as const)('stays online by a %s, however many pings it misses', (evidence) => {
    expect(unreached(evidence).areMissesCounted).toBe(false);
    expect(dueTransition(missTimes(unreached(evidence), 50), FAILURES)).toBeUndefined();
  });

  test('goes offline by silence', () => {
    expect(dueTransition(withSilence(unreached('heartbeat'), T0), FAILURES)).toBe('offline');
  });

  test('goes offline by misses again after it has answered a ping', () => {
    const reached = prove(unreached('heartbeat'), 'ping');
    expect(reached.areMissesCounted).toBe(true);
    expect(dueTransition(missTimes(reached, FAILURES), FAILURES)).toBe('offline');
  });

  test('has missed as many pings as make a unit offline', () => {
    expect(prove(missTimes(online, FAILURES - 1), 'heartbeat').areMissesCounted).toBe(true);
  });
});

test('the status in the event log replaces the known status, and an invalidation makes it unknown', () => {
  const offline = withRecordedStatus(UNKNOWN_LIVENESS, 'offline');
  expect(offline.status).toBe('offline');
  expect(withUnknownStatus(offline).status).toBe('unknown');
});

test('misses do not count when another process has a newer proof', () => {
  const refuted = withoutMisses(missTimes(UNKNOWN_LIVENESS, FAILURES));
  expect(refuted).toMatchObject({ status: 'online', misses: 0 });
  expect(dueTransition(refuted, FAILURES)).toBeUndefined();
});
