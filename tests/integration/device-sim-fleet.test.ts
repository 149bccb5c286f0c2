import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { Value } from '@sinclair/typebox/value';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { FleetStore } from '../../device-sim/store/fleet-store.ts';
import { StoreError } from '../../device-sim/store/group-commit.ts';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { type Command, CommandAnswer, PingReply } from '../../domain/unit-protocol/commands.ts';
import { createLog } from '../../platform/observability/log.ts';
import { pingReplyMac } from '../../platform/unit-protocol/ping.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { call, type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const SOON_MS = 30_000;
interface LogLine {
  readonly level: string;
  readonly message: string;
}

const soon = () => new Date(Date.now() + SOON_MS).toISOString();
const newId = () => Bun.randomUUIDv7();

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

function unitOf(fleet: TestFleet, name: string): EmulatedUnit {
  const unit = fleet.units.get(name);
  if (unit === undefined) throw new Error(`there is no ${name}`);
  return unit;
}

async function control(fleet: TestFleet, path: string, body?: object): Promise<{ status: number; body: never }> {
  const post = { method: 'POST', body: JSON.stringify(body) };
  const response = await fetch(`${fleet.controlUrl}${path}`, body === undefined ? {} : post);
  return { status: response.status, body: (await response.json()) as never };
}

async function connected(fleet: TestFleet): Promise<void> {
  await eventually(() => fleet.readiness().connected === fleet.units.size);
}

describe('a fleet', () => {
  let fleet: TestFleet;
  let unit: EmulatedUnit;

  beforeAll(async () => {
    fleet = await startTestFleet(platform);
    unit = unitOf(fleet, 'PL-1000');
  });
  afterAll(() => fleet.stop());

  test('is ready once it is registered, connected and pinged', async () => {
    await connected(fleet);
    const before = await control(fleet, '/readyz');
    expect(before).toMatchObject({ status: 503, body: { registered: 2, connected: 2, pinged: 0, units: 2 } });
    for (const each of fleet.units.values()) expect(await platform.ping(each)).toMatchObject({ unit: each.name });
    expect(await control(fleet, '/readyz')).toMatchObject({ status: 200, body: { ready: true, pinged: 2 } });
  });

  test('answers a ping with a valid reply and its MAC', async () => {
    const reply = (await platform.ping(unit)) as (PingReply & { nonce: string; mac: string }) | undefined;
    if (reply === undefined || unit.credentials === undefined) throw new Error('no answer');
    expect(Value.Check(PingReply, reply)).toBe(true);
    const { epoch, lastSeq } = unit.model.log;
    expect(reply).toMatchObject({ epoch, lastSeq, configurationHash: defaultConfiguration(600).hash });
    const key = Buffer.from(unit.credentials.unitKey, 'base64');
    expect(reply.mac).toBe(pingReplyMac(key, reply.nonce, reply));
  });

  test('refuses a ping without a valid MAC with 403, and a malformed ping with 400', async () => {
    const nonce = 'a'.repeat(32);
    const url = `http://${unit.address}/ping?nonce=${nonce}&clock=1`;
    expect(await call(`${url}&mac=${'0'.repeat(32)}`)).toEqual({ status: 403, text: '' });
    expect(await call(url)).toEqual({ status: 403, text: '' });
    expect((await call(`http://${unit.address}/ping?nonce=short&clock=1`)).status).toBe(400);
    expect((await call(`${url}&recorded=nonsense`)).status).toBe(400);
    expect((await call(`http://${unit.address}/nowhere`)).status).toBe(404);
  });

  test('pushes its events in order, and deletes only events that a ping names as recorded', async () => {
    expect((await control(fleet, '/units/PL-1000/walk-up', { locker: 'A', minutes: 30 })).status).toBe(200);
    await eventually(() => unit.model.log.acknowledgedSeq === unit.model.log.lastSeq);
    const { epoch, lastSeq } = unit.model.log;
    const pushed = (await platform.inbox('PL-1000')).filter((batch) => batch.epoch === epoch);
    const events = pushed.flatMap((batch) => batch.events);
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: lastSeq }, (_, index) => index + 1));
    expect(events[0]).toMatchObject({ type: 'UnitStateReported', data: { reason: 'new-epoch' } });
    expect(events.filter(({ offline }) => offline === true)).toEqual([]);

    expect(unit.model.log.recordedSeq).toBe(0);
    expect(unit.entries(1, 500).bodies).toHaveLength(lastSeq);
    await platform.ping(unit, { epoch, seq: 3 });
    await eventually(() => unit.model.log.recordedSeq === 3);
    expect(unit.entries(1, 500).bodies).toHaveLength(lastSeq - 3);
  });

  test('answers fetches page by page, deletes only events that a signed claim names as recorded, and refuses fetches with a wrong signature', async () => {
    const { epoch, lastSeq } = unit.model.log;
    const first = await platform.fetch(unit, `after=${epoch}:3&limit=1`);
    expect(first.status).toBe(200);
    expect(first.batch).toMatchObject({ unit: 'PL-1000', epoch, firstAvailableSeq: 4, lastSeq, more: true });
    expect(first.batch.events.map(({ seq }) => seq)).toEqual([4]);
    const rest = await platform.fetch(unit, `after=${epoch}:4`);
    expect(rest.batch.more).toBe(false);
    expect(rest.batch.events.at(-1)?.seq).toBe(lastSeq);
    expect(unit.model.log.recordedSeq).toBe(3);
    await platform.fetch(unit, `after=${epoch}:4`, `${epoch}:4`);
    expect(unit.model.log.recordedSeq).toBe(4);

    const end = await platform.fetch(unit, `after=${epoch}:${lastSeq}`);
    expect(end.batch).toMatchObject({ events: [], more: false });
    const unknown = await platform.fetch(unit, `after=${newId()}:99`);
    expect(unknown.batch.events[0]?.seq).toBe(5);
    expect((await platform.fetch(unit, 'after=nonsense')).status).toBe(400);
    expect((await platform.fetch(unit, `after=${epoch}:1&limit=501`)).status).toBe(400);
    const forged = await call(`http://${unit.address}/events`, { headers: { authorization: 'Bearer x.y.z' } });
    expect(forged).toEqual({ status: 401, text: '{"reason":"signature"}' });
    expect((await call(`http://${unit.address}/events`)).status).toBe(401);
    const foreign = await platform.signer.fetch('PL-1001', Date.now());
    const headers = { authorization: `Bearer ${foreign}` };
    expect((await call(`http://${unit.address}/events`, { headers })).status).toBe(401);
  });

  test('executes a signed command once, and answers a repeat in the same way', async () => {
    const command = {
      commandId: newId(),
      expiresAt: soon(),
      openLocker: { locker: 'B', reservationId: 'PL-1000.r', until: soon() },
    };
    const first = await platform.command(unit, command);
    expect(Value.Check(CommandAnswer, first)).toBe(true);
    expect(first).toEqual({ commandId: command.commandId, status: 'done' });
    const { lastSeq } = unit.model.log;
    expect(await platform.command(unit, command)).toEqual(first);
    expect(unit.model.log.lastSeq).toBe(lastSeq);
    expect((await control(fleet, '/units/PL-1000')).body).toMatchObject({
      lockers: [{ id: 'A' }, { id: 'B', door: 'open', occupiedBy: 'PL-1000.r' }, { id: 'C', occupiedBy: null }],
    });
  });

  test('ignores unknown fields of a command', async () => {
    const command = { commandId: newId(), expiresAt: soon(), openLocker: { locker: 'C', colour: 'red' }, priority: 1 };
    expect(await platform.command(unit, command)).toEqual({ commandId: command.commandId, status: 'done' });
    expect(unit.model.lockers[2]?.door).toBe('open');
    await control(fleet, '/units/PL-1000/lockers/C/close', {});
  });

  test('ignores unknown fields inside of pages and configurations', async () => {
    const other = unitOf(fleet, 'PL-1001');
    const { configuration, log } = other.model;
    const asOf = { epoch: log.epoch, seq: 1, bookings: 1, clock: 7 };
    const listed = { reservationId: 'PL-1001.r', locker: 'B', size: 'S', accessCode: '123456', name: 'Alice' };
    const page = {
      ...{ version: 1, asOf, timeZone: 'Europe/Warsaw', lockers: ['B'], language: 'pl' },
      reservations: [{ ...listed, from: '2026-01-01T00:00:00Z', until: '2026-01-01T01:00:00Z' }],
      closed: [{ locker: 'B', reason: 'cleaning', until: '2026-01-01T00:00:00Z' }],
    };
    for (const body of [{ syncReservations: page }, { applyConfiguration: { ...configuration, author: 'ops' } }]) {
      const command = { commandId: newId(), expiresAt: soon(), ...body };
      expect(await platform.command(other, command as Command)).toMatchObject({ status: 'done' });
    }
    expect(other.model.synced.lockers.B?.reservations).toMatchObject([{ reservationId: 'PL-1001.r' }]);
  });

  test.each([
    ['is missing', undefined],
    ['is a number', 7],
    ['is too long', 'x'.repeat(101)],
  ])('refuses a signed command as malformed when its commandId %s', async (_, commandId) => {
    const command = { commandId, expiresAt: soon(), openLocker: { locker: 'C' } } as unknown as Command;
    expect(await platform.command(unit, command)).toEqual({ commandId: '', status: 'refused', reason: 'malformed' });
    expect(unit.model.lockers[2]?.door).toBe('closed');
  });

  test.each([
    { name: 'of a kind that it does not know', body: { blinkLights: { times: 3 } }, reason: 'unknown-command' },
    { name: 'without a kind', body: {}, reason: 'unknown-command' },
    { name: 'whose field has another type', body: { openLocker: { locker: 7 } }, reason: 'malformed' },
    { name: 'that lacks a field', body: { syncReservations: { version: 1 } }, reason: 'malformed' },
  ])('refuses a signed command $name with its reason', async ({ body, reason }) => {
    const { lastSeq } = unit.model.log;
    const commandId = newId();
    const command = { commandId, expiresAt: soon(), ...body } as unknown as Command;
    expect(await platform.command(unit, command)).toEqual({ commandId, status: 'refused', reason });
    expect(unit.model.log.lastSeq).toBe(lastSeq);
    expect(Object.keys(unit.model.answeredCommands)).not.toContain(commandId);
  });

  test('refuses commands without a valid signature for this unit, and bodies that are malformed or too large', async () => {
    const command = { commandId: newId(), expiresAt: soon(), openLocker: { locker: 'C' } };
    const post = async (body: string) => {
      const { status, text } = await call(`http://${unit.address}/commands`, { method: 'POST', body });
      return { status, answer: JSON.parse(text) as object };
    };
    const foreign = await platform.signer.command('PL-1001', command, Date.now());
    const { commandId } = command;
    expect(await post(JSON.stringify({ jws: foreign }))).toEqual({
      status: 200,
      answer: { commandId, status: 'refused', reason: 'signature' },
    });
    const stale = await platform.signer.command('PL-1000', command, Date.now() - 3_600_000);
    expect((await post(JSON.stringify({ jws: stale }))).answer).toMatchObject({ reason: 'signature' });
    expect((await post('{"jws":"nothing"}')).answer).toEqual({ commandId: '', status: 'refused', reason: 'signature' });
    expect(await post('not json')).toEqual({ status: 400, answer: { reason: 'malformed' } });
    expect((await post(`{"jws":"${'x'.repeat(1_100_000)}"}`)).status).toBe(413);
    expect(unit.model.lockers[2]?.door).toBe('closed');
  });

  test.each([
    ['crash-before', false],
    ['crash-after', true],
  ] as const)(
    'that crashes while it applies a configuration (%s) has either the old or the new configuration',
    async (applying, isApplied) => {
      const unit = unitOf(fleet, 'PL-1001');
      const before = unit.model;
      const values = { ...before.configuration.values, holdTtlS: before.configuration.values.holdTtlS + 1 };
      const desired = { version: before.configuration.version + 1, hash: configurationHash(values), values };
      await control(fleet, '/units/PL-1001/faults', { applying });
      const command = { commandId: newId(), expiresAt: soon(), applyConfiguration: desired };
      await expect(platform.command(unit, command)).rejects.toThrow();
      expect(unit.model.bootId).not.toBe(before.bootId);
      expect(unit.model.configuration).toEqual(isApplied ? desired : before.configuration);
      await control(fleet, '/units/PL-1001/faults', { applying: 'well' });
      // The repeated command succeeds: it is executed now, or has the same effect as before.
      expect(await platform.command(unit, command)).toMatchObject({ status: 'done', configurationHash: desired.hash });
    },
  );

  test('applies a configuration, and has the factory configuration after a wipe', async () => {
    const values = { ...defaultConfiguration(600).values, pushIntervalMs: 100 };
    const other = unitOf(fleet, 'PL-1001');
    const desired = { version: other.model.configuration.version + 1, hash: configurationHash(values), values };
    const answer = await platform.command(other, {
      commandId: newId(),
      expiresAt: soon(),
      applyConfiguration: desired,
    });
    expect(answer).toMatchObject({ status: 'done', configurationHash: desired.hash });
    expect((await platform.ping(other))?.configurationHash).toBe(desired.hash);
    const { epoch } = other.model.log;
    const wiped = await control(fleet, '/units/PL-1001/wipe', {});
    expect(wiped.status).toBe(200);
    const reply = await platform.ping(other, { epoch, seq: 1 });
    expect(reply?.epoch).not.toBe(epoch);
    expect(reply).toMatchObject({ lastSeq: 1, configurationHash: defaultConfiguration(600).hash });
  });
});

describe('a fleet that is started again', () => {
  test('keeps its log, lockers, credentials and faults, and logs the restart', async () => {
    const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
    const first = await startTestFleet(platform, { storePath, seed: 2 });
    await connected(first);
    await control(first, '/units/PM-1000/walk-up', { locker: 'A', minutes: 30 });
    await control(first, '/units/PM-1001/faults', { offline: true, jammed: ['B'] });
    const before = unitOf(first, 'PM-1000').model;
    await first.stop();
    const imports = platform.requests.length;

    const second = await startTestFleet(platform, { storePath, seed: 2 });
    try {
      const unit = unitOf(second, 'PM-1000');
      expect(unit.model.log).toMatchObject({ epoch: before.log.epoch, lastSeq: before.log.lastSeq + 1 });
      expect(unit.model.lockers).toEqual(before.lockers);
      expect(unit.model.bootId).not.toBe(before.bootId);
      expect(JSON.parse(unit.entries(unit.model.log.lastSeq, 1).bodies[0] ?? '{}')).toMatchObject({
        type: 'UnitRestarted',
      });
      expect(unitOf(second, 'PM-1001').faults).toMatchObject({ offline: true, jammed: ['B'] });
      await eventually(() => second.readiness().connected === 1);
      await platform.ping(unit);
      expect(second.readiness()).toMatchObject({ ready: true, registered: 2, connected: 1, offline: 1 });
      expect(platform.requests.length).toBe(imports);
    } finally {
      await second.stop();
    }
  });

  test('gets the additional units, and keeps its existing unit and its address', async () => {
    const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
    const small = await startTestFleet(platform, { storePath, seed: 3, units: 1, lockers: 2 });
    const { address } = unitOf(small, 'PN-1000');
    await small.stop();
    const lines: LogLine[] = [];
    const log = createLog((line) => lines.push(JSON.parse(line) as LogLine), Date.now);
    const large = await startTestFleet(platform, { storePath, seed: 3, units: 2, lockers: 5, log });
    expect(lines.filter(({ level }) => level === 'warn')).toMatchObject([
      { message: expect.stringContaining('Choose another seed'), asked: 5, units: 1, example: 'PN-1000', has: 2 },
    ]);
    expect(unitOf(large, 'PN-1000').address).toBe(address);
    expect(unitOf(large, 'PN-1000').model.lockers).toHaveLength(2);
    expect(unitOf(large, 'PN-1001').model.lockers).toHaveLength(5);
    expect(unitOf(large, 'PN-1001').address.split(':')[1]).toBe(address.split(':')[1] ?? '');
    await large.stop();
  });

  test('fails with the address that another process uses, and starts with it when the address is free', async () => {
    const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
    const first = await startTestFleet(platform, { storePath, seed: 9 });
    const { address } = unitOf(first, 'PT-1001');
    await first.stop();
    const [hostname = '', port = ''] = address.split(':');
    const squatter = Bun.listen({ hostname, port: Number(port), socket: { data: () => undefined } });
    await expect(startTestFleet(platform, { storePath, seed: 9 })).rejects.toThrow(
      `The simulator cannot listen on ${address}`,
    );
    squatter.stop(true);
    const second = await startTestFleet(platform, { storePath, seed: 9 });
    expect(unitOf(second, 'PT-1001').address).toBe(address);
    await second.stop();
  });

  test('chooses another port at its first start when the configured port is taken', async () => {
    const squatter = Bun.listen({ hostname: '127.64.0.1', port: 0, socket: { data: () => undefined } });
    const fleet = await startTestFleet(platform, { seed: 10, unitPort: squatter.port });
    expect(unitOf(fleet, 'PU-1000').address).toMatch(/^127\.64\.0\.1:\d+$/);
    expect(unitOf(fleet, 'PU-1000').address).not.toEndWith(`:${squatter.port}`);
    await fleet.stop();
    squatter.stop(true);
  });

  test('fails to start on a store that another fleet has open', async () => {
    const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
    const store = FleetStore.open(storePath, () => undefined);
    await expect(startTestFleet(platform, { storePath })).rejects.toThrow(StoreError);
    store.close();
  });
});

test('a unit with the delivery channel fetch pushes nothing', async () => {
  const fleet = await startTestFleet(platform, {
    seed: 8,
    channels: { probe: 'http', delivery: 'fetch', commandChannel: 'http' },
  });
  await connected(fleet);
  const unit = unitOf(fleet, 'PS-1000');
  expect((await platform.fetch(unit, '')).batch.events.map(({ type }) => type)).toEqual(['UnitStateReported']);
  expect(fleet.metrics.pushes).toBe(0);
  await fleet.stop();
});
