/**
 * Every state of a wanted configuration × everything that can come of it. A cell says which event is decided and in which
 * state the configuration is then; and for each state, when the next push is due, online and offline.
 */

import { describe, expect, test } from 'bun:test';
import type { ConfigurationStatus } from '../../../domain/configuration/configuration.ts';
import { configurationHash } from '../../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import {
  changeConfiguration,
  LIVE_GRACE_MS,
  nextPushAtMs,
  type PushOutcome,
  REPORT_TOLERANCE_MS,
  recordPushOutcome,
  recordReportedHash,
} from '../../../domain/configuration/delivery.ts';
import type { EventType } from '../../../domain/events/catalogue.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { evolveUnit, lastSequenceOf, type UnitState } from '../../../domain/unit/unit.ts';
import { decisionOf, type Past, unitAfter } from '../../support/given.ts';
import { at, HOLD_TTL_S, NOW_MS, registered } from '../../support/scene.ts';

const FIRST = defaultConfiguration(HOLD_TTL_S);
const VALUES = { ...FIRST.values, minimumMinutes: 30 };
const WANTED = { version: 2, hash: configurationHash(VALUES), values: VALUES };
const OTHER_HASH = 'c'.repeat(16);
const RETRY_SCHEDULE_S = [60, 300, 900];

/** A quarter of an hour ago, and events after it a minute apart. */
const ONLINE: Past = { type: 'UnitWentOnline', atMs: NOW_MS - 900_000, data: { evidence: 'ping' } };
const changed = (mode: 'live' | 'queued'): Past => ({
  type: 'ConfigurationChanged',
  atMs: NOW_MS - 600_000,
  commandId: 'change',
  data: { ...WANTED, mode },
});
const applied: Past = {
  type: 'ConfigurationApplied',
  atMs: NOW_MS - 540_000,
  data: { version: 2, hash: WANTED.hash, evidence: 'answer' },
};
const failed = (attempt: number): Past => ({
  type: 'ConfigurationPushFailed',
  atMs: NOW_MS - 30_000,
  data: { version: 2, attempt, reason: 'no answer', nextAttemptAt: at(0.5) },
});

const STATES = {
  'pending, of the registration': [],
  'pending, live': [changed('live')],
  queued: [changed('queued')],
  applied: [changed('queued'), applied],
  drifted: [
    changed('queued'),
    applied,
    { type: 'ConfigurationDrifted', data: { version: 2, hash: WANTED.hash, reportedHash: OTHER_HASH } },
  ],
  failed: [changed('queued'), failed(1)],
  rejected: [
    changed('queued'),
    { type: 'ConfigurationRejected', data: { version: 2, hash: WANTED.hash, reason: 'not-supported' } },
  ],
} satisfies Record<string, readonly Past[]>;
type StateName = keyof typeof STATES;

const push = (outcome: PushOutcome) => (state: UnitState) =>
  recordPushOutcome(state, {
    version: desired(state).version,
    outcome,
    nowMs: NOW_MS,
    retryScheduleS: RETRY_SCHEDULE_S,
  });
const report = (hash: (state: UnitState) => string) => (state: UnitState) =>
  recordReportedHash(state, { hash: hash(state), atMs: NOW_MS });
const change = (values: typeof VALUES) => (state: UnitState) =>
  changeConfiguration(state, { commandId: 'next', values, mode: 'queued' });

const HAPPENINGS = {
  'the push is proved': (state) => push({ answer: 'done', hash: desired(state).hash })(state),
  'the unit names another hash': push({ answer: 'done', hash: OTHER_HASH }),
  'the unit names no hash': push({ answer: 'done', hash: undefined }),
  'the unit says no': push({ answer: 'rejected', reason: 'not-supported' }),
  'no answer comes': push({ answer: 'failed', reason: 'no answer' }),
  'it reports the desired configuration': report((state) => desired(state).hash.slice(0, 16)),
  'it reports something else': report(() => OTHER_HASH),
  'something else is wanted': change({ ...VALUES, minimumMinutes: 45 }),
  'the same is wanted': (state) => change(desired(state).values as typeof VALUES)(state),
} satisfies Record<string, (state: UnitState) => readonly EventDraft[]>;
type Happening = keyof typeof HAPPENINGS;

/** The event, and the state after it. */
type Cell = readonly [] | readonly [EventType, ConfigurationStatus];

const APPLIED: Cell = ['ConfigurationApplied', 'applied'];
const REJECTED: Cell = ['ConfigurationRejected', 'rejected'];
const FAILED: Cell = ['ConfigurationPushFailed', 'failed'];
const DRIFTED: Cell = ['ConfigurationDrifted', 'drifted'];
const CHANGED: Cell = ['ConfigurationChanged', 'queued'];
const NOTHING: Cell = [];

/** While it is on its way. */
const UNDER_WAY: Record<Happening, Cell> = {
  'the push is proved': APPLIED,
  'the unit names another hash': FAILED,
  'the unit names no hash': FAILED,
  'the unit says no': REJECTED,
  'no answer comes': FAILED,
  'it reports the desired configuration': APPLIED,
  'it reports something else': NOTHING,
  'something else is wanted': CHANGED,
  'the same is wanted': NOTHING,
};

const TABLE: Record<StateName, Record<Happening, Cell>> = {
  'pending, of the registration': { ...UNDER_WAY, 'it reports something else': DRIFTED },
  'pending, live': UNDER_WAY,
  queued: UNDER_WAY,
  drifted: UNDER_WAY,
  failed: UNDER_WAY,
  applied: {
    'the push is proved': NOTHING,
    'the unit names another hash': NOTHING,
    'the unit names no hash': NOTHING,
    'the unit says no': NOTHING,
    'no answer comes': NOTHING,
    'it reports the desired configuration': NOTHING,
    'it reports something else': DRIFTED,
    'something else is wanted': CHANGED,
    'the same is wanted': NOTHING,
  },
  rejected: {
    'the push is proved': APPLIED,
    'the unit names another hash': NOTHING,
    'the unit names no hash': NOTHING,
    'the unit says no': NOTHING,
    'no answer comes': NOTHING,
    'it reports the desired configuration': APPLIED,
    'it reports something else': NOTHING,
    'something else is wanted': CHANGED,
    'the same is wanted': CHANGED,
  },
};

/** When the next push is due while the unit is online, milliseconds from now; null: not before something changes. */
const DUE_MS: Record<StateName, number | null> = {
  'pending, of the registration': null,
  'pending, live': -600_000 + LIVE_GRACE_MS,
  queued: Number.NEGATIVE_INFINITY,
  drifted: Number.NEGATIVE_INFINITY,
  failed: 30_000,
  applied: null,
  rejected: null,
};

describe.each(Object.keys(STATES) as StateName[])('%s', (name) => {
  const state = unitIn(name);

  test.each(Object.keys(HAPPENINGS) as Happening[])('%s', (happening) => {
    const [type, status] = TABLE[name][happening];
    const drafts = HAPPENINGS[happening](state);
    expect(drafts.map((draft) => draft.type)).toEqual(type === undefined ? [] : [type]);
    const next = after(state, drafts);
    expect(next.configuration.status).toBe(status ?? state.configuration.status);
    // A repeat, as by a process that does not know of the first, changes nothing.
    if (type === 'ConfigurationApplied' || type === 'ConfigurationRejected') {
      expect(HAPPENINGS[happening](next)).toEqual([]);
    }
  });

  test('is pushed when it is due, and only to a unit that is online', () => {
    const due = DUE_MS[name];
    expect(nextPushAtMs(state)).toBe(due === null ? undefined : NOW_MS + due);
    const offline: Past = { type: 'UnitWentOffline', data: { lastProofAt: at(0), missedPings: 3 } };
    expect(nextPushAtMs(unitIn(name, offline))).toBeUndefined();
    expect(nextPushAtMs(unitIn(name, { type: 'UnitCredentialsRevoked', data: {} }))).toBeUndefined();
    expect(nextPushAtMs(unitIn(name, { type: 'UnitRetired', data: {} }))).toBeUndefined();
  });
});

describe('a push that fails', () => {
  test('is retried after 60 s, 5 min, 15 min, and every 15 min after that', () => {
    let state = unitIn('queued');
    const waitsS: number[] = [];
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      const [draft] = push({ answer: 'failed', reason: 'no answer' })(state);
      if (draft?.type !== 'ConfigurationPushFailed') throw new Error('it did not fail');
      expect(draft.data.attempt).toBe(attempt);
      waitsS.push((Date.parse(draft.data.nextAttemptAt ?? '') - NOW_MS) / 1_000);
      state = after(state, [draft]);
    }
    expect(waitsS).toEqual([60, 300, 900, 900, 900]);
  });

  test('is retried at once when the unit comes online, however long the backoff would be', () => {
    const offline: Past = { type: 'UnitWentOffline', data: { lastProofAt: at(0), missedPings: 3 } };
    const back: Past = { type: 'UnitWentOnline', atMs: NOW_MS, data: { evidence: 'ping' } };
    expect(nextPushAtMs(unitIn('failed', offline, back))).toBe(Number.NEGATIVE_INFINITY);
  });

  test('is forgotten, with its count and its reason, when the desired configuration changes', () => {
    const state = after(unitIn('failed'), change({ ...VALUES, minimumMinutes: 45 })(unitIn('failed')));
    expect(state.configuration).toMatchObject({ status: 'queued', attempts: 0 });
    expect(state.configuration).not.toHaveProperty('reason');
    expect(state.configuration).not.toHaveProperty('nextAttemptAt');
  });

  test('of a version that is no longer desired changes nothing', () => {
    const old = { version: 1, nowMs: NOW_MS, retryScheduleS: RETRY_SCHEDULE_S };
    for (const outcome of [
      { answer: 'done', hash: FIRST.hash },
      { answer: 'rejected', reason: 'no' },
    ] as const) {
      expect(recordPushOutcome(unitIn('queued'), { ...old, outcome })).toEqual([]);
    }
  });

  test('records a long reason cut to the limit of the event', () => {
    const [draft] = push({ answer: 'failed', reason: 'x'.repeat(10_000) })(unitIn('queued'));
    expect(draft).toMatchObject({ data: { reason: 'x'.repeat(500) } });
  });
});

describe('a report of the configuration hash', () => {
  test('from before the change proves nothing, even with the desired hash', () => {
    const hash = WANTED.hash;
    expect(recordReportedHash(unitIn('queued'), { hash, atMs: NOW_MS - 600_001 })).toEqual([]);
  });

  test('sent before the unit applied the configuration is no drift', () => {
    const atMs = NOW_MS - 540_000 + REPORT_TOLERANCE_MS;
    expect(recordReportedHash(unitIn('applied'), { hash: OTHER_HASH, atMs })).toEqual([]);
    expect(recordReportedHash(unitIn('applied'), { hash: OTHER_HASH, atMs: atMs + 1 })).toHaveLength(1);
  });

  test('with a hash that is too short counts as a different hash', () => {
    expect(recordReportedHash(unitIn('applied'), { hash: WANTED.hash.slice(0, 15), atMs: NOW_MS })).toHaveLength(1);
  });

  test.each([
    ['', '?'],
    ['\u0000é\n', '???'],
    ['x'.repeat(200), 'x'.repeat(100)],
  ])('of %p is stored as at most 100 printable ASCII characters', (hash, reportedHash) => {
    expect(recordReportedHash(unitIn('applied'), { hash, atMs: NOW_MS })).toMatchObject([{ data: { reportedHash } }]);
  });

  test('of a decommissioned or unregistered unit decides nothing', () => {
    const retired = unitIn('applied', { type: 'UnitRetired', data: {} });
    expect(recordReportedHash(retired, { hash: OTHER_HASH, atMs: NOW_MS })).toEqual([]);
    expect(recordReportedHash(unitAfter([]), { hash: OTHER_HASH, atMs: NOW_MS })).toEqual([]);
  });
});

function unitIn(name: StateName, ...more: readonly Past[]): UnitState {
  return unitAfter([registered, ONLINE, ...STATES[name], ...more]);
}

function desired({ configuration }: UnitState) {
  if (configuration.status === 'unconfigured') throw new Error('nothing is wanted');
  return configuration.desired;
}

function after(state: UnitState, drafts: readonly EventDraft[]): UnitState {
  if (drafts.length === 0) return state;
  const command = { commandId: `then-${lastSequenceOf(state)}`, atMs: NOW_MS };
  return evolveUnit(state, decisionOf(state, drafts, command, 'config'));
}
