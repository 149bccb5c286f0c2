/**
 * NATS keys (nkeys) with the Ed25519 of Node. The packages of NATS compute a public key or a signature in JavaScript, which takes
 * 8 ms and would be most of the cost of registering or connecting thousands of units. Node takes 0.1 ms.
 *
 * An nkey is the base32 text of a header with the kind of the key, the 32 bytes of the key, and their CRC-16, low byte first.
 */

import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import type { KeyPair } from '@nats-io/jwt';

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const BITS_PER_LETTER = 5;
const KEY_BYTES = 32;
const SEED_HEAD_BYTES = 2;
const CHECKSUM_BYTES = 2;
/** The header of an Ed25519 private key in PKCS #8 (RFC 8410), before its 32 bytes. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The first letter of a public key, as its five bits in base32. */
const KINDS = { account: 0, operator: 14, user: 20 } as const;
const SEED_KIND = 18;
export type KeyKind = keyof typeof KINDS;

/** The private key of a seed. @throws TypeError when it is no seed */
export function signingKeyOf(seed: string): KeyObject {
  return privateKey(decodeSeed(seed).key);
}

/** Generates a random key pair. */
export function newKeyPair(kind: KeyKind): KeyPair {
  return new NodeKeyPair(KINDS[kind], randomBytes(KEY_BYTES));
}

/** The key pair of a seed. @throws TypeError when it is no seed */
export function keyPairOf(seed: string): KeyPair {
  const { kind, key } = decodeSeed(seed);
  return new NodeKeyPair(kind, key);
}

class NodeKeyPair implements KeyPair {
  readonly #kind: number;
  readonly #seed: Buffer;
  readonly #private: KeyObject;
  readonly #publicKey: string;

  constructor(kind: number, seed: Buffer) {
    this.#kind = kind;
    this.#seed = seed;
    this.#private = privateKey(seed);
    const { x } = createPublicKey(this.#private).export({ format: 'jwk' });
    this.#publicKey = encode([kind << 3], Buffer.from(x ?? '', 'base64url'));
  }

  getPublicKey(): string {
    return this.#publicKey;
  }

  getPrivateKey(): Uint8Array {
    return this.#seed;
  }

  /** The text of the seed as ASCII bytes, the form that the packages of NATS use. */
  getSeed(): Uint8Array {
    const head = [(SEED_KIND << 3) | (this.#kind >> 2), (this.#kind & 3) << 6];
    return Buffer.from(encode(head, this.#seed));
  }

  sign(input: Uint8Array): Uint8Array {
    return sign(null, input, this.#private);
  }

  verify(input: Uint8Array, signature: Uint8Array): boolean {
    return verify(null, input, createPublicKey(this.#private), signature);
  }

  clear(): void {
    this.#seed.fill(0);
  }

  seal(): Uint8Array {
    throw new TypeError('these keys sign and do not encrypt');
  }

  open(): Uint8Array | null {
    throw new TypeError('these keys sign and do not encrypt');
  }
}

function privateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
}

function decodeSeed(seed: string): { readonly kind: number; readonly key: Buffer } {
  const bytes = fromBase32(seed);
  if (bytes.length !== SEED_HEAD_BYTES + KEY_BYTES + CHECKSUM_BYTES) throw new TypeError('the seed has another length');
  const content = bytes.subarray(0, -CHECKSUM_BYTES);
  if (bytes.readUInt16LE(content.length) !== crc16(content)) throw new TypeError('the checksum of the seed is wrong');
  const [first = 0, second = 0] = content;
  if (first >> 3 !== SEED_KIND) throw new TypeError('the text is no seed');
  return { kind: ((first & 7) << 2) | (second >> 6), key: content.subarray(SEED_HEAD_BYTES) };
}

function encode(head: readonly number[], key: Uint8Array): string {
  const content = Buffer.from([...head, ...key]);
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt16LE(crc16(content));
  return toBase32(Buffer.concat([content, checksum]));
}

/** CRC-16/XMODEM. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
    crc &= 0xffff;
  }
  return crc;
}

function toBase32(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let buffered = 0;
  for (const byte of bytes) {
    buffered = (buffered << 8) | byte;
    for (bits += 8; bits >= BITS_PER_LETTER; ) {
      bits -= BITS_PER_LETTER;
      text += BASE32[(buffered >> bits) & 31];
    }
    buffered &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + BASE32[(buffered << (BITS_PER_LETTER - bits)) & 31];
}

function fromBase32(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let buffered = 0;
  for (const letter of text) {
    const value = BASE32.indexOf(letter);
    if (value < 0) throw new TypeError('the seed has a character that is not base32');
    buffered = (buffered << BITS_PER_LETTER) | value;
    bits += BITS_PER_LETTER;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((buffered >> bits) & 0xff);
    buffered &= (1 << bits) - 1;
  }
  return Buffer.from(bytes);
}
