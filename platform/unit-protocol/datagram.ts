/**
 * The UDP ping, as bytes: a request and a reply of 96 bytes each, numbers little-endian.
 *
 *       request                                          reply
 *    0  "LFP1", type 1, 3 zero bytes                  0  "LFP1", type 2, flags, 2 zero bytes
 *    8  first 8 bytes of sha256(unit name)            8  nonce of the request (16)
 *   16  nonce (16)                                   24  boot id (8)
 *   32  recorded epoch (16) and seq (u64)            32  uptime s (u32), 4 zero bytes, configuration hash (8)
 *   56  platform clock ms (u64)                      48  epoch (16) and last seq (u64)
 *   64  zero                                         72  unit clock ms (u64)
 *   80  MAC: first 16 bytes of HMAC-SHA256(unit key, bytes 0 to 79), in both
 *
 * Zero bytes are reserved for later versions: the sender writes 0, and the receiver ignores them. A thread of the pinger handles
 * tens of thousands of pings a second. It therefore writes and reads single fields in a buffer that it reuses, at the offsets
 * `REQUEST_AT` and `REPLY_AT`.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { unitHash } from '../../domain/shard.ts';

export const PING_DATAGRAM_BYTES = 96;
export const NONCE_BYTES = 16;
const NAME_HASH_BYTES = 8;
const MAGIC = 0x31_50_46_4c;
const REQUEST_TYPE = 1;
const REPLY_TYPE = 2;
const UUID_BYTES = 16;
const BOOT_ID_BYTES = 8;
const CONFIGURATION_HASH_BYTES = 8;
const MAC_AT = 80;
/** Byte offsets of the fields of a request. */
export const REQUEST_AT = { nameHash: 8, nonce: 16, recordedEpoch: 32, recordedSeq: 48, clock: 56 } as const;
/** Byte offsets of the fields of a reply. */
export const REPLY_AT = { nonce: 8, configurationHash: 40, epoch: 48, lastSeq: 64, clock: 72 } as const;
const U32 = 2 ** 32;
const NO_EPOCH = Buffer.alloc(UUID_BYTES);

/** The fields of a request. */
export interface PingDatagram {
  /** `nameHash` of the addressed unit. A socket with several addresses may not know to which of them a request was sent. */
  readonly nameHash: Uint8Array;
  /** `NONCE_BYTES` random bytes, new for every ping. */
  readonly nonce: Uint8Array;
  /** The place in the unit's log up to which the platform has recorded everything. */
  readonly recorded?: { readonly epoch: string; readonly seq: number };
  /** The platform's clock, whole milliseconds since 1970. */
  readonly clockMs: number;
}

/** The fields of a reply, without the nonce of the request. */
export interface PingReplyDatagram {
  /** 0: no flag is defined yet. */
  readonly flags: number;
  /** 16 hex digits. */
  readonly bootId: string;
  readonly uptimeS: number;
  /** The first 16 hex digits of the hash. `encodePingReply` accepts a longer hash and writes its first 16 digits. */
  readonly configurationHash: string;
  readonly epoch: string;
  readonly lastSeq: number;
  /** The unit's clock, whole milliseconds since 1970. */
  readonly clockMs: number;
}

/** The 8 bytes that identify the unit in a request: the beginning of sha256(unit name). */
export function nameHash(unit: string): Buffer {
  return Buffer.from(unitHash(unit).slice(0, NAME_HASH_BYTES * 2), 'hex');
}

/**
 * Writes a request. `into`: `PING_DATAGRAM_BYTES` that are overwritten.
 * @throws RangeError when a value does not fit its field
 */
export function encodePing(key: Uint8Array, ping: PingDatagram, into = Buffer.alloc(PING_DATAGRAM_BYTES)): Buffer {
  begin(into, REQUEST_TYPE);
  writeBytes(into, ping.nameHash, 8, NAME_HASH_BYTES);
  writeBytes(into, ping.nonce, 16, NONCE_BYTES);
  if (ping.recorded !== undefined) {
    writeUuid(into, ping.recorded.epoch, 32);
    writeU64(into, ping.recorded.seq, 48);
  }
  writeU64(into, ping.clockMs, 56);
  return seal(key, into);
}

/** Reads a request; `undefined` when it is not a request, or its MAC does not match this key. The byte fields are views of `datagram`. */
export function decodePing(key: Uint8Array, datagram: Buffer): PingDatagram | undefined {
  if (!isOf(REQUEST_TYPE, datagram) || !isSealed(key, datagram)) return undefined;
  const epoch = datagram.subarray(32, 48);
  const seq = readU64(datagram, 48);
  const clockMs = readU64(datagram, 56);
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(clockMs)) return undefined;
  return {
    nameHash: datagram.subarray(8, 16),
    nonce: datagram.subarray(16, 32),
    ...(epoch.equals(NO_EPOCH) ? {} : { recorded: { epoch: uuidOf(epoch), seq } }),
    clockMs,
  };
}

/** The unit that a request is for, as hex of its `nameHash`; `undefined` when it is no request. The MAC is not checked. */
export function pingedUnit(datagram: Buffer): string | undefined {
  return isOf(REQUEST_TYPE, datagram) ? datagram.toString('hex', 8, 16) : undefined;
}

/**
 * Writes the reply to the request with this nonce. `into`: `PING_DATAGRAM_BYTES` that are overwritten.
 * @throws RangeError when a value does not fit its field
 */
export function encodePingReply(
  key: Uint8Array,
  nonce: Uint8Array,
  reply: PingReplyDatagram,
  into = Buffer.alloc(PING_DATAGRAM_BYTES),
): Buffer {
  begin(into, REPLY_TYPE);
  into.writeUInt8(reply.flags, 5);
  writeBytes(into, nonce, 8, NONCE_BYTES);
  writeHex(into, reply.bootId, 24, BOOT_ID_BYTES);
  into.writeUInt32LE(Math.min(reply.uptimeS, U32 - 1), 32);
  writeHex(into, reply.configurationHash, 40, CONFIGURATION_HASH_BYTES);
  writeUuid(into, reply.epoch, 48);
  writeU64(into, reply.lastSeq, 64);
  writeU64(into, reply.clockMs, 72);
  return seal(key, into);
}

/** Reads the reply to the request with this nonce; `undefined` when it is not that reply, or its MAC does not match this key. */
export function decodePingReply(key: Uint8Array, nonce: Uint8Array, datagram: Buffer): PingReplyDatagram | undefined {
  const answered = replyNonce(datagram);
  if (answered === undefined || !answered.equals(nonce) || !isSealed(key, datagram)) return undefined;
  const lastSeq = readU64(datagram, 64);
  const clockMs = readU64(datagram, 72);
  if (!Number.isSafeInteger(lastSeq) || !Number.isSafeInteger(clockMs)) return undefined;
  return {
    flags: datagram.readUInt8(5),
    bootId: datagram.toString('hex', 24, 32),
    uptimeS: datagram.readUInt32LE(32),
    configurationHash: datagram.toString('hex', 40, 48),
    epoch: uuidOf(datagram.subarray(48, 64)),
    lastSeq,
    clockMs,
  };
}

/**
 * The nonce that a reply answers, as a view of it; `undefined` when it is no reply. The MAC is not checked. The nonce
 * identifies the request, because a reply may come from another address than the request was sent to.
 */
export function replyNonce(datagram: Buffer): Buffer | undefined {
  return isOf(REPLY_TYPE, datagram) ? datagram.subarray(8, 24) : undefined;
}

/** Writes the constant bytes of a request and sets its fields to 0. `into`: `PING_DATAGRAM_BYTES`. */
export function beginPing(into: Buffer): void {
  begin(into, REQUEST_TYPE);
}

function begin(into: Buffer, type: number): void {
  if (into.length !== PING_DATAGRAM_BYTES)
    throw new RangeError(`the buffer of a ping has ${into.length} bytes, but a datagram has ${PING_DATAGRAM_BYTES}`);
  into.fill(0);
  into.writeUInt32LE(MAGIC, 0);
  into.writeUInt8(type, 4);
}

function isOf(type: number, datagram: Buffer): boolean {
  return (
    datagram.length === PING_DATAGRAM_BYTES && datagram.readUInt32LE(0) === MAGIC && datagram.readUInt8(4) === type
  );
}

/** Writes the MAC over the bytes before it. */
export function seal(key: Uint8Array, datagram: Buffer): Buffer {
  hmac(key, datagram).copy(datagram, MAC_AT, 0, PING_DATAGRAM_BYTES - MAC_AT);
  return datagram;
}

/** Whether the MAC was made with this key; compares in constant time. */
export function isSealed(key: Uint8Array, datagram: Buffer): boolean {
  const mac = hmac(key, datagram).subarray(0, PING_DATAGRAM_BYTES - MAC_AT);
  return timingSafeEqual(mac, datagram.subarray(MAC_AT));
}

function hmac(key: Uint8Array, datagram: Buffer): Buffer {
  return createHmac('sha256', key).update(datagram.subarray(0, MAC_AT)).digest();
}

function writeBytes(into: Buffer, bytes: Uint8Array, at: number, count: number): void {
  if (bytes.length !== count)
    throw new RangeError(`the field at byte ${at} has ${count} bytes, but the value has ${bytes.length}`);
  into.set(bytes, at);
}

function writeHex(into: Buffer, hex: string, at: number, count: number): void {
  if (into.write(hex, at, count, 'hex') !== count)
    throw new RangeError(`the field at byte ${at} needs ${count * 2} hex digits, but the value is "${hex}"`);
}

function writeUuid(into: Buffer, uuid: string, at: number): void {
  writeHex(into, uuid.replaceAll('-', ''), at, UUID_BYTES);
}

/** Writes two halves of 32 bits, which avoids creating a BigInt. @throws RangeError when `value` is not a safe integer of at least 0 */
export function writeU64(into: Buffer, value: number, at: number): void {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`the field at byte ${at} needs a safe integer of at least 0, but the value is ${value}`);
  into.writeUInt32LE(value % U32, at);
  into.writeUInt32LE(Math.floor(value / U32), at + 4);
}

/** The result is not exact beyond the safe integers, so the caller checks the range. */
export function readU64(from: Buffer, at: number): number {
  return from.readUInt32LE(at + 4) * U32 + from.readUInt32LE(at);
}

function uuidOf(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
