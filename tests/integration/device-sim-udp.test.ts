import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { NO_FAULTS } from '../../device-sim/faults/faults.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { rentAtScreen } from '../../device-sim/unit/customer-actions.ts';
import { createLog } from '../../platform/observability/log.ts';
import {
  decodePingReply,
  encodePing,
  NONCE_BYTES,
  nameHash,
  type PingReplyDatagram,
  replyNonce,
} from '../../platform/unit-protocol/datagram.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const SEED = 170;
const CHANNELS = { probe: 'udp', delivery: 'push', commandChannel: 'http' } as const;

let platform: FieldPlatform;
let fleet: Fleet;
let pinger: Pinger;
let unit: EmulatedUnit;
let other: EmulatedUnit;

/** One socket that pings every unit. It finds the ping of a reply by the nonce. */
class Pinger {
  readonly #socket: Bun.udp.Socket<'buffer'>;
  readonly #pings = new Map<string, { key: Buffer; done: (reply: PingReplyDatagram) => void }>();
  replies = 0;

  private constructor(socket: Bun.udp.Socket<'buffer'>) {
    this.#socket = socket;
  }

  static async open(): Promise<Pinger> {
    const socket = await Bun.udpSocket({
      hostname: '127.0.0.1',
      socket: { data: (_, datagram) => opened.#receive(Buffer.from(datagram)) },
    });
    const opened = new Pinger(socket);
    return opened;
  }

  /** @param change changes the datagram before it is sent. @default it is sent as it is */
  send(
    asked: EmulatedUnit,
    recorded?: { epoch: string; seq: number },
    change: (datagram: Buffer) => Buffer = (d) => d,
  ) {
    const nonce = randomBytes(NONCE_BYTES);
    const key = keyOf(asked);
    const answered = Promise.withResolvers<PingReplyDatagram>();
    this.#pings.set(nonce.toString('hex'), { key, done: answered.resolve });
    const ping = { nameHash: nameHash(asked.name), nonce, clockMs: Date.now() };
    const datagram = encodePing(key, { ...ping, ...(recorded === undefined ? {} : { recorded }) });
    const [host = '', port] = asked.address.split(':');
    this.#socket.send(change(datagram), Number(port), host);
    return answered.promise;
  }

  close(): void {
    this.#socket.close();
  }

  #receive(datagram: Buffer): void {
    this.replies += 1;
    const nonce = replyNonce(datagram);
    const asked = this.#pings.get(nonce?.toString('hex') ?? '');
    if (nonce === undefined || asked === undefined) throw new Error('the reply has the nonce of no ping');
    const reply = decodePingReply(asked.key, nonce, datagram);
    if (reply === undefined) throw new Error('the reply has a wrong MAC');
    asked.done(reply);
  }
}

function keyOf({ credentials }: EmulatedUnit): Buffer {
  if (credentials === undefined) throw new Error('the unit is not registered');
  return Buffer.from(credentials.unitKey, 'base64');
}

function unitOf(of: Fleet, name: string): EmulatedUnit {
  const found = of.units.get(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

/** Whether `send` is answered before a later ping of another unit is. Datagrams keep their order on one machine. */
async function isAnswered(send: () => Promise<unknown>): Promise<boolean> {
  const before = pinger.replies;
  void send();
  await pinger.send(other);
  return pinger.replies - before > 1;
}

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, { seed: SEED, channels: CHANNELS });
  pinger = await Pinger.open();
  [unit, other] = [unitOf(fleet, 'VY-1000'), unitOf(fleet, 'VY-1001')];
  await eventually(() => fleet.readiness().registered === 2);
});
afterAll(async () => {
  pinger.close();
  await fleet.stop();
  await platform.stop();
});
beforeEach(async () => {
  await unit.setFaults(NO_FAULTS);
});

test('each unit of a fleet answers a datagram with the same state as over HTTP', async () => {
  for (const each of [unit, other]) {
    const [overHttp, reply] = [await platform.ping(each), await pinger.send(each)];
    const { bootId, configurationHash, epoch, lastSeq, time = '' } = overHttp ?? {};
    expect(reply).toMatchObject({ flags: 0, bootId, epoch, lastSeq });
    expect(configurationHash).toStartWith(reply.configurationHash);
    expect(Math.abs(reply.clockMs - Date.parse(time))).toBeLessThan(5_000);
  }
  await eventually(() => fleet.readiness().ready);
});

test('a datagram that was changed or has the MAC of another key gets no reply, and deletes no event', async () => {
  const { epoch, lastSeq } = unit.model.log;
  const all = { epoch, seq: lastSeq };
  const withFlippedBit = (at: number) => (datagram: Buffer) => {
    datagram.writeUInt8(datagram.readUInt8(at) ^ 1, at);
    return datagram;
  };
  const signedByOther = (datagram: Buffer) => {
    const { nonce, recorded, clockMs } = { nonce: datagram.subarray(16, 32), recorded: all, clockMs: 1 };
    return encodePing(keyOf(other), { nameHash: nameHash(unit.name), nonce, recorded, clockMs });
  };
  expect(await isAnswered(() => pinger.send(unit, all, withFlippedBit(95)))).toBe(false);
  expect(await isAnswered(() => pinger.send(unit, all, withFlippedBit(0)))).toBe(false);
  expect(await isAnswered(() => pinger.send(unit, all, withFlippedBit(8)))).toBe(false);
  expect(await isAnswered(() => pinger.send(unit, all, (datagram) => datagram.subarray(0, 95)))).toBe(false);
  expect(await isAnswered(() => pinger.send(unit, all, signedByOther))).toBe(false);
  expect(unit.model.log.recordedSeq).toBe(0);
  expect(await isAnswered(() => pinger.send(unit))).toBe(true);
});

test('a datagram deletes the events that it names as recorded, but not for an unknown epoch or a seq beyond the log', async () => {
  const { epoch, lastSeq } = unit.model.log;
  await pinger.send(unit, { epoch: '0197c5ed-3a00-7b1e-8f00-0a1b2c3d4e5f', seq: 1 });
  await pinger.send(unit, { epoch, seq: lastSeq + 1 });
  await pinger.send(unit);
  expect(unit.model.log.recordedSeq).toBe(0);
  await pinger.send(unit, { epoch, seq: 1 });
  await eventually(() => unit.model.log.recordedSeq === 1);
});

test('an offline unit does not answer', async () => {
  await unit.setFaults({ offline: true });
  expect(await isAnswered(() => pinger.send(unit))).toBe(false);
  await unit.setFaults({ offline: false });
  expect(await isAnswered(() => pinger.send(unit))).toBe(true);
});

test('a reply is delayed by the latency, and has the time of the unit', async () => {
  await unit.setFaults({ latencyMs: 60, jitterMs: 20, clockSkewMs: 3_600_000 });
  const sentMs = performance.now();
  const { clockMs } = await pinger.send(unit);
  expect(performance.now() - sentMs).toBeGreaterThanOrEqual(55);
  expect(clockMs - Date.now()).toBeGreaterThan(3_500_000);
});

test('loss drops some requests and some replies', async () => {
  for (let each = 0; each < 40; each++) {
    await unit.decide((model, around) =>
      rentAtScreen(model, { minutes: 60 }, { ...around, doesTerminalDecline: true }),
    );
  }
  const { epoch, recordedSeq: before } = unit.model.log;
  await unit.setFaults({ lossRate: 0.5 });
  const seen = { answered: 0, processed: 0, lost: 0 };
  for (let seq = before + 1; seq <= before + 60; seq++) {
    const answered = await isAnswered(() => pinger.send(unit, { epoch, seq }));
    // This decision changes nothing, but it waits for the decisions before it.
    await unit.markAcknowledged(epoch, 0);
    const processed = unit.model.log.recordedSeq === seq;
    if (answered) expect(processed).toBe(true);
    seen[answered ? 'answered' : processed ? 'processed' : 'lost'] += 1;
  }
  expect(seen.answered).toBeGreaterThan(0);
  expect(seen.processed).toBeGreaterThan(0);
  expect(seen.lost).toBeGreaterThan(0);
});

test('with its UDP port taken, a fleet with UDP probes fails to start and another fleet logs it', async () => {
  const squatter = await Bun.udpSocket({ hostname: '0.0.0.0', port: 0 });
  const unitPort = squatter.port;
  await expect(startTestFleet(platform, { seed: SEED + 1, unitPort, channels: CHANNELS })).rejects.toThrow(
    `The simulator cannot listen on 0.0.0.0:${unitPort} (UDP)`,
  );
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line), Date.now);
  const others = await startTestFleet(platform, { seed: SEED + 1, unitPort, log });
  expect(lines.join('')).toContain('do not answer pings by UDP');
  await others.stop();
  squatter.close();
});
