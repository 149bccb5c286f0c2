/**
 * The unit table holds what a ping needs to know about each unit, as columns in shared memory: the main thread writes them, the ping
 * threads read them, and no ping copies them. A unit is a row; threads exchange only its index.
 *
 * A thread that reads a row while the main thread writes it wastes one ping at most, with one exception: a unit deletes its log
 * up to the position that a ping names as recorded, so a thread must never read half of an old and half of a new position. A
 * sequence lock protects it: the version of a position is odd while it is written, and higher afterwards.
 */

import { Buffer } from 'node:buffer';

/** Most units of one process; more units need more processes. The system allocates memory as rows are used. */
export const MAX_UNITS = 500_000;

export const KEY_BYTES = 32;
export const NONCE_BYTES = 16;
export const NAME_HASH_BYTES = 8;
export const EPOCH_BYTES = 16;
const IP_BYTES = 16;
/** One byte for the length, and the longest name. */
const NAME_BYTES = 64;

/** The transport of a unit's pings, as a number in the column `probes`. */
export const PROBE_NUMBERS = { udp: 0, http: 1, nats: 2 } as const;
export type ProbeNumber = (typeof PROBE_NUMBERS)[keyof typeof PROBE_NUMBERS];
export const PROBE_COUNT = 3;

const IPV4 = 4;
const IPV6 = 6;

/** The columns, and the bytes of a row in each. */
const COLUMNS = {
  names: NAME_BYTES,
  nameHashes: NAME_HASH_BYTES,
  keys: KEY_BYTES,
  ips: IP_BYTES,
  families: 1,
  ports: 2,
  probes: 1,
  recordedVersions: 4,
  recordedEpochs: EPOCH_BYTES,
  recordedSeqs: 8,
  nonces: NONCE_BYTES,
} as const;
type Column = keyof typeof COLUMNS;

/** The columns of a table, for another thread. */
export type SharedColumns = Readonly<Record<Column, SharedArrayBuffer>>;

/** The position in a unit's log up to which the platform has recorded every event. */
export interface RecordedPosition {
  /** A UUID. */
  readonly epoch: string;
  readonly seq: number;
}

export interface UnitRow {
  readonly name: string;
  /** The hash of the name: 64 hex letters. */
  readonly hash: string;
  /** An IPv4 or IPv6 address. */
  readonly ip: string;
  readonly port: number;
  readonly probe: ProbeNumber;
  /** The key of the unit's pings: `KEY_BYTES`. */
  readonly key: Uint8Array;
  readonly recorded?: RecordedPosition | undefined;
}

export class UnitTable {
  readonly shared: SharedColumns;
  readonly probes: Uint8Array;
  readonly ports: Uint16Array;
  readonly nonces: Uint8Array;
  readonly #names: Buffer;
  readonly #nameHashes: Buffer;
  readonly #keys: Uint8Array;
  readonly #ips: Uint8Array;
  readonly #families: Uint8Array;
  readonly #recordedVersions: Int32Array;
  readonly #recordedEpochs: Buffer;
  readonly #recordedSeqs: Float64Array;

  constructor(shared: SharedColumns) {
    this.shared = shared;
    this.probes = new Uint8Array(shared.probes);
    this.ports = new Uint16Array(shared.ports);
    this.nonces = new Uint8Array(shared.nonces);
    this.#names = Buffer.from(shared.names);
    this.#nameHashes = Buffer.from(shared.nameHashes);
    this.#keys = new Uint8Array(shared.keys);
    this.#ips = new Uint8Array(shared.ips);
    this.#families = new Uint8Array(shared.families);
    this.#recordedVersions = new Int32Array(shared.recordedVersions);
    this.#recordedEpochs = Buffer.from(shared.recordedEpochs);
    this.#recordedSeqs = new Float64Array(shared.recordedSeqs);
  }

  static create(capacity = MAX_UNITS): UnitTable {
    const column = (name: Column) => new SharedArrayBuffer(capacity * COLUMNS[name]);
    const names = Object.keys(COLUMNS).filter((name): name is Column => name in COLUMNS);
    return new UnitTable(Object.fromEntries(names.map((name) => [name, column(name)])) as SharedColumns);
  }

  get capacity(): number {
    return this.probes.length;
  }

  /** Writes the row of a unit. @throws RangeError when a value does not fit its column */
  write(index: number, { name, hash, ip, port, probe, key, recorded }: UnitRow): void {
    const length = Buffer.byteLength(name, 'latin1');
    if (length >= NAME_BYTES || key.length !== KEY_BYTES)
      throw new RangeError(`the name or the key of unit ${name} does not fit its column of the unit table`);
    this.#names[index * NAME_BYTES] = length;
    this.#names.write(name, index * NAME_BYTES + 1, 'latin1');
    this.#nameHashes.write(hash.slice(0, NAME_HASH_BYTES * 2), index * NAME_HASH_BYTES, 'hex');
    this.#keys.set(key, index * KEY_BYTES);
    this.#writeIp(index, ip);
    this.ports[index] = port;
    this.probes[index] = probe;
    this.writeRecorded(index, recorded);
  }

  writeRecorded(index: number, recorded: RecordedPosition | undefined): void {
    const at = index * EPOCH_BYTES;
    Atomics.add(this.#recordedVersions, index, 1);
    if (recorded === undefined) this.#recordedEpochs.fill(0, at, at + EPOCH_BYTES);
    else this.#recordedEpochs.write(recorded.epoch.replaceAll('-', ''), at, 'hex');
    this.#recordedSeqs[index] = recorded?.seq ?? 0;
    Atomics.add(this.#recordedVersions, index, 1);
  }

  /**
   * Copies the epoch of the recorded position to `at` in `into`.
   * @returns the seq of the position; 0, with an epoch of zeros, when nothing is recorded or the main thread is writing the position
   */
  copyRecorded(index: number, into: Buffer, at: number): number {
    const version = Atomics.load(this.#recordedVersions, index);
    const start = index * EPOCH_BYTES;
    this.#recordedEpochs.copy(into, at, start, start + EPOCH_BYTES);
    const seq = this.#recordedSeqs[index] ?? 0;
    if (version % 2 === 0 && Atomics.load(this.#recordedVersions, index) === version) return seq;
    into.fill(0, at, at + EPOCH_BYTES);
    return 0;
  }

  /** The recorded position; `undefined` when nothing is recorded or the main thread is writing the position. */
  recorded(index: number): RecordedPosition | undefined {
    const epoch = Buffer.alloc(EPOCH_BYTES);
    const seq = this.copyRecorded(index, epoch, 0);
    return isEmptyEpoch(epoch) ? undefined : { epoch: uuidOf(epoch, 0), seq };
  }

  name(index: number): string {
    const at = index * NAME_BYTES + 1;
    return this.#names.toString('latin1', at, at + (this.#names[at - 1] ?? 0));
  }

  /** Copies the key of a unit. `into`: `KEY_BYTES`. */
  copyKey(index: number, into: Uint8Array): void {
    const at = index * KEY_BYTES;
    into.set(this.#keys.subarray(at, at + KEY_BYTES));
  }

  copyNameHash(index: number, into: Buffer, at: number): void {
    const start = index * NAME_HASH_BYTES;
    this.#nameHashes.copy(into, at, start, start + NAME_HASH_BYTES);
  }

  isIpv6(index: number): boolean {
    return this.#families[index] === IPV6;
  }

  ip(index: number): string {
    const at = index * IP_BYTES;
    const ips = this.#ips;
    if (!this.isIpv6(index)) return `${ips[at]}.${ips[at + 1]}.${ips[at + 2]}.${ips[at + 3]}`;
    const groups = Array.from({ length: IP_BYTES / 2 }, (_, group) => {
      return (((ips[at + group * 2] ?? 0) << 8) | (ips[at + group * 2 + 1] ?? 0)).toString(16);
    });
    return groups.join(':');
  }

  #writeIp(index: number, ip: string): void {
    const bytes = ip.includes(':') ? ipv6Bytes(ip) : ip.split('.').map(Number);
    if (bytes.length !== (ip.includes(':') ? IP_BYTES : IPV4))
      throw new RangeError(`"${ip}" is neither an IPv4 nor an IPv6 address`);
    this.#families[index] = ip.includes(':') ? IPV6 : IPV4;
    this.#ips.set(bytes, index * IP_BYTES);
  }
}

/** Whether the bytes of an epoch stand for no epoch: all of them are zero. */
export function isEmptyEpoch(epoch: Uint8Array): boolean {
  return epoch.every((byte) => byte === 0);
}

/** The text of the UUID at `at` in `bytes`. */
export function uuidOf(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + EPOCH_BYTES);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function ipv6Bytes(ip: string): number[] {
  // URL normalizes every notation of an address to groups in hex, with `::` for the longest run of zeros.
  const host = URL.parse(`http://[${ip}]`)?.hostname.slice(1, -1) ?? '';
  const [head = '', tail] = host.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const [first, last] = [groups(head), tail === undefined ? [] : groups(tail)];
  const zeros = tail === undefined ? 0 : IP_BYTES / 2 - first.length - last.length;
  return [...first, ...new Array<number>(Math.max(0, zeros)).fill(0), ...last].flatMap((group) => [
    group >> 8,
    group & 0xff,
  ]);
}
