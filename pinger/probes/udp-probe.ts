/**
 * The UDP probe: the datagram of `platform/unit-protocol/datagram.ts`, thousands a second without an object or a timer for
 * each.
 *
 * A nonce begins with the index of its unit and goes on with random bytes, and the last one of each unit stands in the table:
 * a reply finds its ping without a search, from whatever address it comes, and proves itself by the whole nonce and the MAC.
 * Several sockets, because each has room for few hundred datagrams while the thread is busy.
 */

import { randomFillSync } from 'node:crypto';
import {
  beginPing,
  isSealed,
  PING_DATAGRAM_BYTES,
  REPLY_AT,
  REQUEST_AT,
  readU64,
  replyNonce,
  seal,
  writeU64,
} from '../../platform/unit-protocol/datagram.ts';
import { KEY_BYTES, NONCE_BYTES, type UnitTable } from '../units/unit-table.ts';
import { isLocalResourceError, type Probe, type ProbeListener } from './probe.ts';

/** Sockets of a thread, for each family of addresses. */
const SOCKETS = 16;
/** Datagrams that are handed to the system at once. */
const MAX_BURST = 32;
/** How often a datagram is sent that the system refuses: it may tell of an error of an earlier one. */
const MAX_SEND_ATTEMPTS = 3;
/** Nonces that are drawn at once. */
const RANDOM_NONCES = 1_024;
const INDEX_BYTES = 4;
/** Where the data, the port and the address of a datagram stand in a list of them. */
const PACKET_FIELDS = 3;

type Packet = Buffer | number | string;
type Socket = Awaited<ReturnType<typeof openSocket>>;

export class UdpProbe implements Probe {
  readonly #table: UnitTable;
  readonly #arrivals: ProbeListener;
  readonly #v4: readonly Socket[];
  readonly #v6: readonly Socket[];
  readonly #v4Burst = new Burst();
  readonly #v6Burst = new Burst();
  readonly #random = Buffer.alloc(RANDOM_NONCES * NONCE_BYTES);
  #randomAt = this.#random.length;
  readonly #key = Buffer.alloc(KEY_BYTES);
  /** The units whose last ping was answered. */
  readonly #answered: Uint8Array;
  #turn = 0;
  readonly #reply = {
    bytes: new Uint8Array(0) as Uint8Array,
    epochAt: REPLY_AT.epoch,
    configurationHashAt: REPLY_AT.configurationHash,
    lastSeq: 0,
    clockMs: 0,
  };

  private constructor(table: UnitTable, arrivals: ProbeListener, v4: readonly Socket[], v6: readonly Socket[]) {
    this.#table = table;
    this.#arrivals = arrivals;
    this.#answered = new Uint8Array(table.capacity);
    this.#v4 = v4;
    this.#v6 = v6;
  }

  /** @throws what the system throws when there is no socket to be had */
  static async open(table: UnitTable, arrivals: ProbeListener): Promise<UdpProbe> {
    let take: (datagram: Buffer) => void = () => undefined;
    const openAll = (host: string) => openSockets(host, (datagram) => take(datagram));
    // A machine without IPv6 pings by IPv4 alone.
    const v4 = await openAll('0.0.0.0');
    const v6 = await openAll('::').catch(() => []);
    const probe = new UdpProbe(table, arrivals, v4, v6);
    take = (datagram) => probe.#take(datagram);
    return probe;
  }

  send(units: Uint32Array): void {
    for (const unit of units) {
      const burst = this.#table.isIpv6(unit) ? this.#v6Burst : this.#v4Burst;
      this.#writeRequest(unit, burst.begin(unit));
      burst.end(this.#table.ports[unit] ?? 0, this.#table.ip(unit));
      if (burst.isFull) this.#flush(burst);
    }
    this.#flush(this.#v4Burst);
    this.#flush(this.#v6Burst);
  }

  cancel(): void {
    // Nothing is kept of a ping but its nonce, and that tells a late answer.
  }

  async close(): Promise<void> {
    for (const socket of [...this.#v4, ...this.#v6]) socket.close();
  }

  #writeRequest(unit: number, request: Buffer): void {
    const nonceAt = unit * NONCE_BYTES;
    if (this.#randomAt === this.#random.length) {
      randomFillSync(this.#random);
      this.#randomAt = 0;
    }
    this.#random.copy(request, REQUEST_AT.nonce, this.#randomAt, this.#randomAt + NONCE_BYTES);
    this.#randomAt += NONCE_BYTES;
    request.writeUInt32LE(unit, REQUEST_AT.nonce);
    for (let byte = 0; byte < NONCE_BYTES; byte += 1) {
      this.#table.nonces[nonceAt + byte] = request[REQUEST_AT.nonce + byte] ?? 0;
    }
    this.#answered[unit] = 0;
    this.#table.copyNameHash(unit, request, REQUEST_AT.nameHash);
    writeU64(request, this.#table.copyRecorded(unit, request, REQUEST_AT.recordedEpoch), REQUEST_AT.recordedSeq);
    writeU64(request, Math.round(this.#arrivals.now()), REQUEST_AT.clock);
    this.#table.copyKey(unit, this.#key);
    seal(this.#key, request);
  }

  #flush(burst: Burst): void {
    if (burst.size === 0) return;
    const sockets = burst === this.#v4Burst ? this.#v4 : this.#v6;
    const socket = sockets[this.#turn % sockets.length];
    this.#turn += 1;
    const atMs = this.#arrivals.monotonic();
    for (const unit of burst.units) this.#arrivals.onSent(unit, atMs);
    if (socket === undefined) for (const unit of burst.units) this.#arrivals.onUnsent(unit);
    else this.#sendAll(socket, burst);
    burst.clear();
  }

  /** The system takes datagrams up to the first that it refuses, and does not say why. */
  #sendAll(socket: Socket, burst: Burst): void {
    for (let first = 0; first < burst.size; ) {
      let taken = 0;
      try {
        taken = socket.sendMany(burst.from(first));
      } catch {
        // What the first of them meets is looked at below.
      }
      first += taken;
      if (first < burst.size) {
        this.#sendOne(socket, burst, first);
        first += 1;
      }
    }
  }

  #sendOne(socket: Socket, burst: Burst, index: number): void {
    const unit = burst.units[index] ?? 0;
    let failure: unknown;
    for (let attempt = 1; attempt <= MAX_SEND_ATTEMPTS; attempt += 1) {
      try {
        if (socket.sendMany(burst.only(index)) === 1) return;
        failure = undefined;
      } catch (error) {
        failure = error;
      }
    }
    if (failure === undefined || isLocalResourceError(failure)) this.#arrivals.onUnsent(unit);
    else this.#arrivals.onMissed(unit);
  }

  #take(datagram: Buffer): void {
    const arrivedMs = this.#arrivals.monotonic();
    const nonce = replyNonce(datagram);
    const unit = nonce?.readUInt32LE(0) ?? this.#table.capacity;
    if (nonce === undefined || unit >= this.#table.capacity) {
      this.#arrivals.onAnomaly('malformed');
      return;
    }
    this.#table.copyKey(unit, this.#key);
    if (!isSealed(this.#key, datagram)) this.#arrivals.onForged(unit);
    else if (!this.#isLastNonce(unit, datagram)) this.#arrivals.onAnomaly('late');
    else if (this.#arrivals.isAwaited(unit)) this.#accept(unit, datagram, arrivedMs);
    else this.#arrivals.onAnomaly(this.#answered[unit] === 1 ? 'duplicate' : 'late');
  }

  #accept(unit: number, datagram: Buffer, arrivedMs: number): void {
    const lastSeq = readU64(datagram, REPLY_AT.lastSeq);
    const clockMs = readU64(datagram, REPLY_AT.clock);
    if (!Number.isSafeInteger(lastSeq) || !Number.isSafeInteger(clockMs)) {
      this.#arrivals.onAnomaly('malformed');
      return;
    }
    this.#answered[unit] = 1;
    this.#reply.bytes = datagram;
    this.#reply.lastSeq = lastSeq;
    this.#reply.clockMs = clockMs;
    this.#arrivals.onAnswered(unit, this.#reply, arrivedMs);
  }

  #isLastNonce(unit: number, datagram: Buffer): boolean {
    const nonces = this.#table.nonces;
    for (let byte = INDEX_BYTES; byte < NONCE_BYTES; byte += 1) {
      if (nonces[unit * NONCE_BYTES + byte] !== datagram[REPLY_AT.nonce + byte]) return false;
    }
    return true;
  }
}

/** Datagrams that leave together, in buffers that are used again. */
class Burst {
  readonly #requests = Array.from({ length: MAX_BURST }, newRequest);
  readonly #packets: Packet[] = [];
  readonly units: number[] = [];

  get size(): number {
    return this.units.length;
  }

  get isFull(): boolean {
    return this.size >= MAX_BURST;
  }

  /** @returns where the request is to be written */
  begin(unit: number): Buffer {
    const request = this.#requests[this.size] ?? newRequest();
    this.units.push(unit);
    this.#packets.push(request);
    return request;
  }

  end(port: number, ip: string): void {
    this.#packets.push(port, ip);
  }

  from(first: number): Packet[] {
    return first === 0 ? this.#packets : this.#packets.slice(first * PACKET_FIELDS);
  }

  only(index: number): Packet[] {
    return this.#packets.slice(index * PACKET_FIELDS, (index + 1) * PACKET_FIELDS);
  }

  clear(): void {
    this.units.length = 0;
    this.#packets.length = 0;
  }
}

function newRequest(): Buffer {
  const request = Buffer.alloc(PING_DATAGRAM_BYTES);
  beginPing(request);
  return request;
}

/** All of them or none: what cannot be had now is tried again, and must not hold what others need meanwhile. */
async function openSockets(hostname: string, take: (datagram: Buffer) => void): Promise<Socket[]> {
  const sockets: Socket[] = [];
  try {
    while (sockets.length < SOCKETS) sockets.push(await openSocket(hostname, take));
    return sockets;
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw error;
  }
}

function openSocket(hostname: string, take: (datagram: Buffer) => void) {
  return Bun.udpSocket({
    hostname,
    binaryType: 'buffer',
    socket: {
      data: (_socket, datagram) => take(datagram),
      // What the network says of datagrams that did not arrive names no unit: its ping is missed without it.
      error: () => undefined,
    },
  });
}
