/** What a unit's NATS user can reach, and cannot: whatever it names, and wherever it names it. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type UnitNatsCredentials, unitNatsCredentials } from '../../platform/credentials/nats-accounts.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { api } from '../../platform/nats/jetstream.ts';
import type { StreamName } from '../../platform/nats/streams.ts';
import {
  eventSubject,
  jobSubject,
  timerSubject,
  unitCommandsSubject,
  unitHeartbeatSubject,
  unitPushSubject,
} from '../../platform/nats/subjects.ts';
import { eventually } from '../support/eventually.ts';
import { connectPlatform, testPlatform } from '../support/nats.ts';
import { RawNats } from '../support/raw-nats.ts';

const SELF = 'ID-HOSTILE';
const OTHER = 'ID-HONEST';

interface Unit {
  readonly credentials: UnitNatsCredentials;
  readonly client: RawNats;
}

let self: Unit;
let other: Unit;
let platform: Nats;
/** Subjects of everything that arrives in the platform's account, but for what the platform asks for itself. */
const arrived: string[] = [];

async function connectUnit(name: string): Promise<Unit> {
  const { url, keys } = await testPlatform();
  const credentials = await unitNatsCredentials(keys, name);
  return { credentials, client: await RawNats.connect(url, credentials.creds) };
}

async function stored(stream: StreamName, filter = '>'): Promise<number> {
  const { state } = await api<{ state: { subjects?: Record<string, number> } }>(platform, `STREAM.INFO.${stream}`, {
    subjects_filter: filter,
  });
  return Object.values(state.subjects ?? {}).reduce((sum, count) => sum + count, 0);
}

/** What every stream holds, and how many pushes of the hostile unit wait. */
async function everything() {
  const [events, jobs, telemetry, inbox, ownPushes] = await Promise.all([
    stored('EVENTS'),
    stored('JOBS'),
    stored('TELEMETRY'),
    stored('UNIT_INBOX'),
    stored('UNIT_INBOX', unitPushSubject(SELF)),
  ]);
  return { events, jobs, telemetry, others: inbox - ownPushes, ownPushes };
}

beforeAll(async () => {
  platform = await connectPlatform();
  platform.subscribe('>', ({ subject }) => {
    if (!/^(_INBOX\.|_R_\.|\$JS\.)/.test(subject)) arrived.push(subject);
  });
  [self, other] = [await connectUnit(SELF), await connectUnit(OTHER)];
  await platform.flush();
  for (const [name, { client, credentials }] of [
    [SELF, self],
    [OTHER, other],
  ] as const) {
    expect(await client.subscribe(unitCommandsSubject(name))).toEqual([]);
    expect(await client.subscribe(`${credentials.inboxPrefix}.>`)).toEqual([]);
  }
});

afterAll(async () => {
  self.client.close();
  other.client.close();
  await platform.close();
});

describe('the subjects of a unit', () => {
  test('are open to it', async () => {
    const inbox = `${self.credentials.inboxPrefix}.1`;
    expect(await self.client.publish(unitHeartbeatSubject(SELF), '{}')).toEqual([]);
    expect(await self.client.publish(unitPushSubject(SELF), '{}', { reply: inbox })).toEqual([]);
    const [answer] = await eventually(() => self.client.messages.length > 0 && self.client.messages);
    expect(JSON.parse(answer?.body ?? '')).toMatchObject({ stream: 'UNIT_INBOX' });
  });

  test('deliver a command to it, and return its answer', async () => {
    const request = platform.request(unitCommandsSubject(SELF), 'open', { timeoutMs: 2_000 });
    request.catch(() => undefined);
    const command = await eventually(() => self.client.messages.find(({ body }) => body === 'open') ?? false);
    expect(command).toMatchObject({ body: 'open' });
    expect(await self.client.publish(command.reply, 'done')).toEqual([]);
    expect(new TextDecoder().decode((await request).data)).toBe('done');
    // One answer to a request, and no more.
    expect(await self.client.publish(command.reply, 'again')).toEqual([
      expect.stringContaining('Permissions Violation'),
    ]);
  });
});

const FOREIGN = [
  unitPushSubject(OTHER),
  unitHeartbeatSubject(OTHER),
  unitCommandsSubject(OTHER),
  `${unitPushSubject(SELF)}.more`,
  unitPushSubject(SELF).replace(/^unit\.\w\.\w/, 'unit.f.f'),
  eventSubject(SELF, 'device'),
  eventSubject(SELF, 'booking'),
  eventSubject(OTHER, 'registry'),
  jobSubject(SELF, 'settle'),
  timerSubject(SELF, 'x'),
  'telemetry.x',
  '$JS.API.INFO',
  '$JS.API.STREAM.NAMES',
  '$JS.API.STREAM.PURGE.UNIT_INBOX',
  '$JS.API.STREAM.DELETE.EVENTS',
  '$JS.API.STREAM.MSG.GET.EVENTS',
  '$JS.API.DIRECT.GET.EVENTS',
  '$JS.API.CONSUMER.CREATE.EVENTS',
  '$JS.API.CONSUMER.MSG.NEXT.UNIT_INBOX.ingest-a',
  '$JS.ACK.UNIT_INBOX.ingest-a.1.1.1.1.0',
  '$JS.FC.EVENTS.reactor.1',
  '$KV.members.x',
  '$O.files.x',
  '$SYS.REQ.USER.INFO',
  '$SYS.REQ.SERVER.PING',
  '$SYS.REQ.CLAIMS.UPDATE',
  '$SYS.ACCOUNT.X.CONNECT',
  '_INBOX.x.1',
  '_R_.x.1',
  `_INBOX_${OTHER}.1`,
  'commands-x.1.2.3',
  'nowhere',
  'anything',
] as const;

/** What can only be listened to. */
const WIDE = [
  '>',
  '*',
  '*.>',
  'unit.>',
  'unit.*.*.*.events',
  'unit.*.*.*.commands',
  'unit.*.*.*.heartbeat',
  `${unitPushSubject(SELF).replace(/events$/, '')}>`,
  `${unitPushSubject(SELF).replace(/events$/, '*')}`,
  unitPushSubject(SELF),
  unitHeartbeatSubject(SELF),
  'evt.>',
  'job.>',
  '_INBOX.>',
  '_R_.>',
  '$JS.>',
  '$SYS.>',
  '$KV.>',
] as const;

describe('foreign subjects', () => {
  const violation = (what: 'Publish' | 'Subscription', subject: string) => [
    expect.stringContaining(`Permissions Violation for ${what} to "${subject}"`),
  ];

  test.each(FOREIGN)('%s: publish, request and subscription are refused', async (subject) => {
    const before = await everything();
    const reply = `${self.credentials.inboxPrefix}.1`;
    // What units send to commands is mapped away before it is refused.
    const refused = violation('Publish', subject.endsWith('.commands') ? 'nowhere' : subject);
    expect(await self.client.publish(subject, '{}')).toEqual(refused);
    expect(await self.client.publish(subject, '{}', { reply })).toEqual(refused);
    expect(await self.client.publish(subject, '{}', { headers: { a: 'b' } })).toEqual(refused);
    expect(await self.client.subscribe(subject)).toEqual(violation('Subscription', subject));
    expect(await self.client.subscribe(subject, 'queue')).toEqual(violation('Subscription', subject));
    expect(await everything()).toEqual(before);
  });

  test.each(WIDE)('%s: subscription is refused', async (subject) => {
    expect(await self.client.subscribe(subject)).toEqual(violation('Subscription', subject));
    expect(await self.client.subscribe(subject, 'queue')).toEqual(violation('Subscription', subject));
  });

  test('the inbox of another unit is refused, also to a client that knows its prefix', async () => {
    const inbox = `${other.credentials.inboxPrefix}.1`;
    expect(await self.client.publish(inbox, '{}')).toEqual(violation('Publish', inbox));
    expect(await self.client.subscribe(inbox)).toEqual(violation('Subscription', inbox));
  });

  test('no message of these tests arrived outside the subjects of the unit', async () => {
    await self.client.send('');
    await platform.flush();
    expect(arrived.filter((subject) => !subject.includes(SELF))).toEqual([]);
    expect(other.client.messages).toEqual([]);
  });
});

describe('hostile reply subjects', () => {
  const answeredAt = (): string[] => [...self.client.messages, ...other.client.messages].map(({ subject }) => subject);

  /** Pushes, and waits until the push after it has its answer: everything that could arrive has arrived by then. */
  async function push(options: Parameters<RawNats['publish']>[2]): Promise<string[]> {
    const errors = await self.client.publish(unitPushSubject(SELF), '{}', options);
    await platform.request('$JS.API.INFO', '', { timeoutMs: 2_000 });
    await self.client.send('');
    await other.client.send('');
    await platform.flush();
    return errors;
  }

  test.each([
    eventSubject(SELF, 'booking'),
    eventSubject(OTHER, 'device'),
    jobSubject(OTHER, 'settle'),
    timerSubject(OTHER, 'x'),
    'telemetry.x',
    '$JS.API.STREAM.PURGE.UNIT_INBOX',
    '$JS.API.STREAM.DELETE.EVENTS',
    '$SYS.REQ.SERVER.PING',
    unitPushSubject(SELF),
    unitPushSubject(OTHER),
    unitHeartbeatSubject(OTHER),
    unitCommandsSubject(OTHER),
    unitCommandsSubject(SELF),
    `_INBOX_${OTHER}.1`,
    '_INBOX.x.1',
    '>',
    'unit.>',
  ])('%s: the push is stored, and its acknowledgement reaches nobody', async (reply) => {
    const [before, arrivedBefore, answers] = [await everything(), arrived.length, answeredAt().length];
    expect(await push({ reply })).toEqual([]);
    expect(await everything()).toEqual({ ...before, ownPushes: before.ownPushes + 1 });
    expect(arrived.slice(arrivedBefore)).toEqual([unitPushSubject(SELF)]);
    expect(answeredAt().slice(answers)).toEqual([]);
  });

  test.each(['_R_.x.1', '$JS.ACK.UNIT_INBOX.ingest-a.1.1.1.1.0'])('%s: the push is refused', async (reply) => {
    const before = await everything();
    expect(await push({ reply })).toEqual([expect.stringContaining('Permissions Violation')]);
    expect(await everything()).toEqual(before);
  });

  test('a heartbeat with such a reply subject is delivered, and no answer is sent', async () => {
    const [before, arrivedBefore] = [await everything(), arrived.length];
    expect(await self.client.publish(unitHeartbeatSubject(SELF), '{}', { reply: eventSubject(OTHER, 'log') })).toEqual(
      [],
    );
    await eventually(() => arrived.length > arrivedBefore);
    expect(arrived.slice(arrivedBefore)).toEqual([unitHeartbeatSubject(SELF)]);
    expect(await everything()).toEqual(before);
  });
});

describe('headers on a push', () => {
  const TTL = { 'Nats-TTL': '1s' };
  const BATCH = { 'Nats-Batch-Id': 'x', 'Nats-Batch-Sequence': '1' };
  const SCHEDULE = { 'Nats-Schedule': '@at 2026-01-01T00:00:00Z', 'Nats-Schedule-Target': jobSubject(OTHER, 'settle') };

  /** Pushes a request. @returns the answer */
  async function answerTo(unit: Unit, name: string, headers: Readonly<Record<string, string>>) {
    const reply = `${unit.credentials.inboxPrefix}.h`;
    const seen = unit.client.messages.length;
    expect(await unit.client.publish(unitPushSubject(name), '{}', { reply, headers })).toEqual([]);
    const [answer] = await eventually(() => unit.client.messages.length > seen && unit.client.messages.slice(seen));
    return JSON.parse(answer?.body ?? '') as { error?: { err_code: number }; duplicate?: boolean; seq: number };
  }

  test.each([
    ['an atomic batch', BATCH, 10174],
    ['the end of an atomic batch', { ...BATCH, 'Nats-Batch-Commit': '1' }, 10174],
    ['a rollup of the stream', { 'Nats-Rollup': 'all' }, 10111],
    ['a rollup of the subject', { 'Nats-Rollup': 'sub' }, 10111],
    ['a time to live', TTL, 10166],
    ['a schedule', SCHEDULE, 10188],
    ['a counter', { 'Nats-Incr': '1' }, 10168],
    ['another expected stream', { 'Nats-Expected-Stream': 'EVENTS' }, 10060],
    ['an expected sequence of the stream', { 'Nats-Expected-Last-Sequence': '0' }, 10071],
    ['an expected sequence of the subject', { 'Nats-Expected-Last-Subject-Sequence': '0' }, 10071],
    ['an expected message id', { 'Nats-Expected-Last-Msg-Id': 'x' }, 10070],
  ] as const)('%s is refused, and nothing is stored, deleted or changed', async (_, headers, code) => {
    const before = await everything();
    expect(before.ownPushes).toBeGreaterThan(0);
    expect((await answerTo(self, SELF, headers)).error?.err_code).toBe(code);
    expect(await everything()).toEqual(before);
  });

  test.each([
    unitCommandsSubject(OTHER),
    unitHeartbeatSubject(OTHER),
    unitPushSubject(OTHER),
    eventSubject(OTHER, 'booking'),
    `_INBOX_${OTHER}.1`,
    '$JS.API.STREAM.PURGE.UNIT_INBOX',
  ])('a trace to %s is refused, and nothing is stored', async (destination) => {
    const before = await everything();
    const headers = { 'Nats-Trace-Dest': destination };
    expect(await self.client.publish(unitPushSubject(SELF), '{}', { headers })).toEqual([
      expect.stringContaining('Permissions Violation'),
    ]);
    expect(await everything()).toEqual(before);
    expect(other.client.messages.some(({ body }) => body.includes('"events"'))).toBe(false);
  });

  test('a message id of one unit does not suppress batches of another unit without message ids', async () => {
    for (const id of ['x', '', `${OTHER}/1`, '1']) {
      const before = await stored('UNIT_INBOX', unitPushSubject(OTHER));
      expect(await answerTo(self, SELF, { 'Nats-Msg-Id': id })).not.toHaveProperty('error');
      expect(await answerTo(other, OTHER, {})).not.toHaveProperty('duplicate');
      expect(await stored('UNIT_INBOX', unitPushSubject(OTHER))).toBe(before + 1);
    }
  });

  test('a message id that two units send suppresses the second batch for a tenth of a second, so units send no ids', async () => {
    const headers = { 'Nats-Msg-Id': `same-${SELF}` };
    expect(await answerTo(self, SELF, headers)).not.toHaveProperty('duplicate');
    expect(await answerTo(other, OTHER, headers)).toHaveProperty('duplicate', true);
    await eventually(async () => (await answerTo(other, OTHER, headers)).duplicate !== true);
  });
});
