import { describe, expect, test } from 'bun:test';
import { createHash, createHmac } from 'node:crypto';
import fc from 'fast-check';
import {
  decodePing,
  decodePingReply,
  encodePing,
  encodePingReply,
  NONCE_BYTES,
  nameHash,
  PING_DATAGRAM_BYTES,
  type PingDatagram,
  pingedUnit,
  replyNonce,
} from '../../platform/unit-protocol/datagram.ts';

const KEY = Buffer.alloc(32, 7);
const OTHER_KEY = Buffer.alloc(32, 8);
const NONCE = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const EPOCH = '0197c5ed-3a00-7b1e-8f00-0a1b2c3d4e5f';
const PING: PingDatagram = {
  nameHash: nameHash('PL-1000'),
  nonce: NONCE,
  recorded: { epoch: EPOCH, seq: 40 },
  clockMs: 1_782_907_200_000,
};
const REPLY = {
  flags: 0,
  bootId: '8f0011223344556a',
  uptimeS: 86_400,
  configurationHash: 'd3116a3cf6b1fce1',
  epoch: EPOCH,
  lastSeq: 41,
  clockMs: 1_782_907_200_040,
};

/** A changed datagram with a valid MAC. */
function resealed(datagram: Buffer, change: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(datagram);
  change(bytes);
  createHmac('sha256', KEY).update(bytes.subarray(0, 80)).digest().copy(bytes, 80, 0, 16);
  return bytes;
}

describe('the bytes', () => {
  test('of a request have the layout of the protocol', () => {
    const bytes = encodePing(KEY, PING);
    expect(bytes).toHaveLength(PING_DATAGRAM_BYTES);
    expect(bytes.toString('latin1', 0, 4)).toBe('LFP1');
    expect([...bytes.subarray(4, 8)]).toEqual([1, 0, 0, 0]);
    expect(bytes.toString('hex', 8, 16)).toBe(createHash('sha256').update('PL-1000').digest('hex').slice(0, 16));
    expect(bytes.subarray(16, 32)).toEqual(NONCE);
    expect(bytes.toString('hex', 32, 48)).toBe(EPOCH.replaceAll('-', ''));
    expect(bytes.readBigUInt64LE(48)).toBe(40n);
    expect(bytes.readBigUInt64LE(56)).toBe(1_782_907_200_000n);
    expect(bytes.subarray(64, 80)).toEqual(Buffer.alloc(16));
    const mac = createHmac('sha256', KEY).update(bytes.subarray(0, 80)).digest('hex').slice(0, 32);
    expect(bytes.toString('hex', 80)).toBe(mac);
  });

  test('of a request are zero where no event is recorded', () => {
    const { recorded: _, ...unrecorded } = PING;
    const bytes = encodePing(KEY, unrecorded);
    expect(bytes.subarray(32, 56)).toEqual(Buffer.alloc(24));
    expect(decodePing(KEY, bytes)).toEqual(unrecorded);
  });

  test('of a reply have the layout of the protocol', () => {
    const bytes = encodePingReply(KEY, NONCE, { ...REPLY, flags: 5, configurationHash: `${'d3'.repeat(8)}ffff` });
    expect(bytes.toString('latin1', 0, 4)).toBe('LFP1');
    expect([...bytes.subarray(4, 8)]).toEqual([2, 5, 0, 0]);
    expect(bytes.subarray(8, 24)).toEqual(NONCE);
    expect(bytes.toString('hex', 24, 32)).toBe('8f0011223344556a');
    expect(bytes.readUInt32LE(32)).toBe(86_400);
    expect(bytes.readUInt32LE(36)).toBe(0);
    expect(bytes.toString('hex', 40, 48)).toBe('d3'.repeat(8));
    expect(bytes.toString('hex', 48, 64)).toBe(EPOCH.replaceAll('-', ''));
    expect(bytes.readBigUInt64LE(64)).toBe(41n);
    expect(bytes.readBigUInt64LE(72)).toBe(1_782_907_200_040n);
    const mac = createHmac('sha256', KEY).update(bytes.subarray(0, 80)).digest('hex').slice(0, 32);
    expect(bytes.toString('hex', 80)).toBe(mac);
  });

  test('that are reserved are ignored', () => {
    const ping = resealed(encodePing(KEY, PING), (bytes) => bytes.fill(9, 64, 80).fill(9, 5, 8));
    expect(decodePing(KEY, ping)).toEqual(PING);
    const reply = resealed(encodePingReply(KEY, NONCE, REPLY), (bytes) => bytes.fill(9, 36, 40).fill(9, 6, 8));
    expect(decodePingReply(KEY, NONCE, reply)).toEqual(REPLY);
  });
});

describe('a datagram is refused', () => {
  const ping = encodePing(KEY, PING);
  const reply = encodePingReply(KEY, NONCE, REPLY);
  const changed = (bytes: Buffer, at: number) => {
    const copy = Buffer.from(bytes);
    copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
    return copy;
  };
  const tooLarge = (at: number) => (bytes: Buffer) => {
    bytes.writeBigUInt64LE(2n ** 53n, at);
  };
  /** `isShaped`: readers that do not check the MAC accept it. */
  const table: { name: string; make: (bytes: Buffer) => Buffer; isShaped?: true; key?: Buffer }[] = [
    { name: 'that is empty', make: () => Buffer.alloc(0) },
    { name: 'that is too short', make: (bytes) => bytes.subarray(0, 95) },
    { name: 'that is too long', make: (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]) },
    { name: 'of zeros', make: () => Buffer.alloc(96) },
    { name: 'with another first letter', make: (bytes) => resealed(bytes, (copy) => copy.write('X', 0)) },
    { name: 'of another version', make: (bytes) => resealed(bytes, (copy) => copy.write('LFP2', 0)) },
    { name: 'of an unknown type', make: (bytes) => resealed(bytes, (copy) => copy.writeUInt8(3, 4)) },
    { name: 'of type 0', make: (bytes) => resealed(bytes, (copy) => copy.writeUInt8(0, 4)) },
    { name: 'sealed with another key', make: (bytes) => bytes, isShaped: true, key: OTHER_KEY },
    { name: 'with another first byte of the MAC', make: (bytes) => changed(bytes, 80), isShaped: true },
    { name: 'with another last byte of the MAC', make: (bytes) => changed(bytes, 95), isShaped: true },
    { name: 'changed behind the head', make: (bytes) => changed(bytes, 50), isShaped: true },
    { name: 'changed in a zero byte', make: (bytes) => changed(bytes, 7), isShaped: true },
    {
      name: 'with a clock beyond the safe integers',
      make: (b) => resealed(b, tooLarge(b === ping ? 56 : 72)),
      isShaped: true,
    },
    {
      name: 'with a seq beyond the safe integers',
      make: (b) => resealed(b, tooLarge(b === ping ? 48 : 64)),
      isShaped: true,
    },
  ];
  for (const { name, make, isShaped = false, key = KEY } of table) {
    test(name, () => {
      expect(decodePing(key, make(ping))).toBeUndefined();
      expect(decodePingReply(key, NONCE, make(reply))).toBeUndefined();
      expect(pingedUnit(make(ping)) !== undefined).toBe(isShaped);
      expect(replyNonce(make(reply)) !== undefined).toBe(isShaped);
    });
  }

  test('that has the other direction', () => {
    expect(decodePing(KEY, reply)).toBeUndefined();
    expect(decodePingReply(KEY, NONCE, ping)).toBeUndefined();
    expect(pingedUnit(reply)).toBeUndefined();
    expect(replyNonce(ping)).toBeUndefined();
  });

  test('that answers another request', () => {
    expect(decodePingReply(KEY, Buffer.alloc(NONCE_BYTES), reply)).toBeUndefined();
  });
});

test('a value that exceeds its field is refused at encoding', () => {
  const bad: (() => Buffer)[] = [
    () => encodePing(KEY, { ...PING, nonce: Buffer.alloc(15) }),
    () => encodePing(KEY, { ...PING, nameHash: Buffer.alloc(9) }),
    () => encodePing(KEY, { ...PING, clockMs: -1 }),
    () => encodePing(KEY, { ...PING, clockMs: 0.5 }),
    () => encodePing(KEY, { ...PING, recorded: { epoch: 'epoch-0', seq: 1 } }),
    () => encodePing(KEY, { ...PING, recorded: { epoch: EPOCH, seq: 2 ** 53 } }),
    () => encodePing(KEY, PING, Buffer.alloc(97)),
    () => encodePingReply(KEY, NONCE, { ...REPLY, bootId: 'boot' }),
    () => encodePingReply(KEY, NONCE, { ...REPLY, configurationHash: 'd311' }),
    () => encodePingReply(KEY, NONCE, { ...REPLY, flags: 256 }),
  ];
  for (const write of bad) expect(write).toThrow(RangeError);
});

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const hex = (count: number) => bytes(count).map((raw) => Buffer.from(raw).toString('hex'));
const epoch = fc.uuid();
const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

test('an encoded datagram decodes to the same values, also in a reused buffer', () => {
  const used = Buffer.alloc(PING_DATAGRAM_BYTES, 0xff);
  const pings = fc.record(
    {
      nameHash: bytes(8).map((raw) => Buffer.from(raw)),
      nonce: bytes(NONCE_BYTES).map((raw) => Buffer.from(raw)),
      recorded: fc.record({ epoch, seq: number }),
      clockMs: number,
    },
    { requiredKeys: ['nameHash', 'nonce', 'clockMs'] },
  );
  const replies = fc.record({
    flags: fc.integer({ min: 0, max: 255 }),
    bootId: hex(8),
    uptimeS: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    configurationHash: hex(8),
    epoch,
    lastSeq: number,
    clockMs: number,
  });
  fc.assert(
    fc.property(bytes(32), pings, replies, (key, ping, reply) => {
      expect(decodePing(key, encodePing(key, ping, used))).toEqual(ping);
      expect(encodePing(key, ping)).toEqual(used);
      expect(pingedUnit(used)).toBe(ping.nameHash.toString('hex'));
      expect(decodePingReply(key, ping.nonce, encodePingReply(key, ping.nonce, reply, used))).toEqual(reply);
      expect(encodePingReply(key, ping.nonce, reply)).toEqual(used);
      expect(replyNonce(used)).toEqual(ping.nonce);
    }),
  );
});

test('a datagram with one flipped bit is refused', () => {
  const ping = encodePing(KEY, PING);
  const reply = encodePingReply(KEY, NONCE, REPLY);
  for (let bit = 0; bit < PING_DATAGRAM_BYTES * 8; bit++) {
    for (const [datagram, read] of [
      [ping, () => decodePing(KEY, ping)],
      [reply, () => decodePingReply(KEY, NONCE, reply)],
    ] as const) {
      const turn = () => datagram.writeUInt8(datagram.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      turn();
      expect(read()).toBeUndefined();
      turn();
    }
  }
});

test('an uptime of more than 136 years is written as the maximum', () => {
  const reply = encodePingReply(KEY, NONCE, { ...REPLY, uptimeS: 2 ** 40 });
  expect(decodePingReply(KEY, NONCE, reply)?.uptimeS).toBe(2 ** 32 - 1);
});
