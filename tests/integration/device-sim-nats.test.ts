/** Units behind a carrier's NAT: the platform cannot connect to them, so commands and fetches arrive over NATS. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Value } from '@sinclair/typebox/value';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { BatchHeader, FetchPageHeader } from '../../domain/unit-protocol/batch.ts';
import { NatsUnavailableError } from '../../platform/nats/connection.ts';
import { unitCommandsSubject } from '../../platform/nats/subjects.ts';
import { call, type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const SEED = 7;
const NAME = 'PR-1000';
const SOON_MS = 30_000;
const soon = () => new Date(Date.now() + SOON_MS).toISOString();
const newId = () => Bun.randomUUIDv7();

let platform: FieldPlatform;
let fleet: Fleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, {
    seed: SEED,
    channels: { probe: 'http', delivery: 'fetch', commandChannel: 'nats' },
  });
  const found = fleet.units.get(NAME);
  if (found === undefined) throw new Error(`there is no ${NAME}`);
  unit = found;
  await eventually(() => fleet.readiness().connected === fleet.units.size);
});
afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

test('a unit with the command channel NATS executes commands that arrive over NATS', async () => {
  const command = { commandId: newId(), expiresAt: soon(), openLocker: { locker: 'A' } };
  expect(await platform.commandOverNats(NAME, command)).toEqual({ commandId: command.commandId, status: 'done' });
  expect(unit.model.lockers[0]?.door).toBe('open');
});

describe('a fetch over NATS', () => {
  test('is answered with the same batch as GET /events', async () => {
    const { epoch, lastSeq } = unit.model.log;
    expect(lastSeq).toBeGreaterThan(1);
    const asked: { after?: string; limit?: number }[] = [
      {},
      { limit: 1 },
      { after: `${epoch}:1` },
      { after: `${epoch}:1`, limit: 1 },
      { after: `${epoch}:${lastSeq}` },
      { after: `${epoch}:${lastSeq + 9}` },
      { after: `${newId()}:99` },
    ];
    for (const each of asked) {
      const query = new URLSearchParams();
      for (const [name, value] of Object.entries(each)) query.set(name, String(value));
      const answer = await platform.fetchOverNats(NAME, each);
      for (const head of [BatchHeader, FetchPageHeader]) expect(Value.Check(head, answer)).toBe(true);
      expect(answer).toEqual((await platform.fetch(unit, String(query))).batch);
    }
    expect(await platform.fetchOverNats(NAME, { limit: 1 })).toMatchObject({
      firstAvailableSeq: 1,
      lastSeq,
      more: true,
      events: [{ seq: 1, type: 'UnitStateReported' }],
    });
  });

  test('deletes the events that its signature names as recorded, and not those that only its body names', async () => {
    const { epoch } = unit.model.log;
    await platform.fetchOverNats(NAME, { after: `${epoch}:2`, recorded: `${epoch}:2` });
    expect(unit.model.log.recordedSeq).toBe(0);
    expect(await platform.fetchOverNats(NAME, { after: `${epoch}:1` }, `${epoch}:1`)).toMatchObject({
      firstAvailableSeq: 2,
      events: [{ seq: 2 }],
    });
    expect(unit.model.log.recordedSeq).toBe(1);
  });

  test('is refused with a reason when it is malformed or its signature is wrong', async () => {
    const { epoch } = unit.model.log;
    const malformed = [
      { after: 'nonsense' },
      { after: 7 },
      { after: '' },
      { limit: 0 },
      { limit: 501 },
      { limit: '5' },
    ];
    for (const each of malformed) {
      expect(await platform.fetchOverNats(NAME, each)).toEqual({ reason: 'malformed' });
    }
    const send = async (body: string) => {
      const { data } = await platform.nats.request(unitCommandsSubject(NAME), body, { timeoutMs: 5_000 });
      return JSON.parse(new TextDecoder().decode(data)) as unknown;
    };
    const foreign = await platform.signer.fetch('PR-1001', Date.now(), `${epoch}:2`);
    expect(await send(JSON.stringify({ jws: foreign }))).toEqual({ reason: 'signature' });
    const stale = await platform.signer.fetch(NAME, Date.now() - 3_600_000, `${epoch}:2`);
    expect(await send(JSON.stringify({ jws: stale, limit: 1 }))).toEqual({ reason: 'signature' });
    const [head, , signature] = foreign.split('.');
    const claims = { aud: NAME, iat: 0, exp: 9_999_999_999, scope: 'events', recorded: `${epoch}:2` };
    const forged = [head, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
    expect(await send(JSON.stringify({ jws: forged }))).toEqual({ reason: 'signature' });
    expect(await send('not json')).toEqual({ reason: 'malformed' });
    expect(unit.model.log.recordedSeq).toBe(1);
  });

  test.each(['5', 'null', '"a"', '[]', '{}', '{"nonce":"00"}'])(
    'is not assumed for a malformed ping: the ping %s gets no reply',
    async (ping) => {
      const asking = platform.nats.request(unitCommandsSubject(NAME), `{"ping":${ping}}`, { timeoutMs: 300 });
      await expect(asking).rejects.toThrow(NatsUnavailableError);
    },
  );

  test('is refused as a command over HTTP, and a command is refused as a fetch', async () => {
    const jws = await platform.signer.fetch(NAME, Date.now());
    const { text } = await call(`http://${unit.address}/commands`, { method: 'POST', body: JSON.stringify({ jws }) });
    expect(JSON.parse(text)).toEqual({ commandId: '', status: 'refused', reason: 'signature' });
    const command = { commandId: newId(), expiresAt: soon(), openLocker: { locker: 'B' } };
    const authorization = `Bearer ${await platform.signer.command(NAME, command, Date.now())}`;
    expect((await call(`http://${unit.address}/events`, { headers: { authorization } })).status).toBe(401);
    expect(unit.model.lockers[1]?.door).toBe('closed');
  });
});

test('with loseNextAnswers, a command over NATS is executed and gets no reply, and its repeat gets the answer', async () => {
  await unit.setFaults({ loseNextAnswers: 1 });
  const command = { commandId: newId(), expiresAt: soon(), openLocker: { locker: 'B' } };
  const request = JSON.stringify({ jws: await platform.signer.command(NAME, command, Date.now()) });
  const lost = platform.nats.request(unitCommandsSubject(NAME), request, { timeoutMs: 500 });
  await expect(lost).rejects.toThrow(NatsUnavailableError);
  await eventually(() => unit.model.lockers[1]?.door === 'open' && unit.faults.loseNextAnswers === 0);
  const { lastSeq } = unit.model.log;
  expect(await platform.commandOverNats(NAME, command)).toMatchObject({
    commandId: command.commandId,
    status: 'done',
  });
  expect(unit.model.log.lastSeq).toBe(lastSeq);
});
