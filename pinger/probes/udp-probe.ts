/**
 * The UDP probe sends the datagrams of `platform/unit-protocol/datagram.ts`, thousands a second, without an object or a timer for each.
 *
 * A nonce begins with the index of its unit and continues with random bytes; the table keeps the last nonce of each unit. A reply
 * therefore finds its ping without a search, regardless of its source address, and is authentic by the whole nonce and the MAC.
 * The probe uses several sockets, because the receive buffer of one holds only a few hundred datagrams while the thread is busy.
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

/** Sockets of a thread for each address family. */
const SOCKETS_PER_FAMILY = 16;
/** Datagrams that one system call sends. */
const MAX_BURST = 32;
/** Most attempts to send one datagram: a refusal may report the error of an earlier datagram. */
const MAX_SEND_ATTEMPTS = 3;
/** Nonces that are generated at once. */
const NONCES_PER_REFILL = 1_024;
const INDEX_BYTES = 4;
/** Elements of a datagram in the list that `sendMany` takes: data, port and address. */
const PACKET_FIELDS = 3;

type Packet = Buffer | number | string;
type Socket = Awaited<ReturnType<typeof openSocket>>;

export class UdpProbe implements Probe {
  readonly #table: UnitTable;
  readonly #listener: ProbeListener;
  readonly #v4Sockets: readonly Socket[];
  readonly #v6Sockets: readonly Socket[];
  readonly #v4Burst = new Burst();
  readonly #v6Burst = new Burst();
  readonly #randomBytes = Buffer.alloc(NONCES_PER_REFILL * NONCE_BYTES);
  #randomAt = this.#randomBytes.length;
  readonly #key = Buffer.alloc(KEY_BYTES);
  /** By unit: 1 when its last ping was answered. */
  readonly #isAnswered: Uint8Array;
  #bursts = 0;
  readonly #reply = {
    bytes: new Uint8Array(0) as Uint8Array,
    epochAt: REPLY_AT.epoch,
    configurationHashAt: REPLY_AT.configurationHash,
    lastSeq: 0,
    clockMs: 0,
  };

  private constructor(table: UnitTable, listener: ProbeListener, v4: readonly Socket[], v6: readonly Socket[]) {
    this.#table = table;
    this.#listener = listener;
    this.#isAnswered = new Uint8Array(table.capacity);
    this.#v4Sockets = v4;
    this.#v6Sockets = v6;
  }

  /** @throws what the system throws when it has no socket left */
  static async open(table: UnitTable, listener: ProbeListener): Promise<UdpProbe> {
    let receive: (datagram: Buffer) => void = () => undefined;
    const openAll = (host: string) => openSockets(host, (datagram) => receive(datagram));
    // A machine without IPv6 pings over IPv4 only.
    const v4 = await openAll('0.0.0.0');
    const v6 = await openAll('::').catch(() => []);
    const probe = new UdpProbe(table, listener, v4, v6);
    receive = (datagram) => probe.#receive(datagram);
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
    // The probe holds nothing for a ping in flight. The nonce in the table identifies a late answer.
  }

  async close(): Promise<void> {
    for (const socket of [...this.#v4Sockets, ...this.#v6Sockets]) socket.close();
  }

  #writeRequest(unit: number, request: Buffer): void {
    const nonceAt = unit * NONCE_BYTES;
    if (this.#randomAt === this.#randomBytes.length) {
      randomFillSync(this.#randomBytes);
      this.#randomAt = 0;
    }
    this.#randomBytes.copy(request, REQUEST_AT.nonce, this.#randomAt, this.#randomAt + NONCE_BYTES);
    this.#randomAt += NONCE_BYTES;
    request.writeUInt32LE(unit, REQUEST_AT.nonce);
    for (let byte = 0; byte < NONCE_BYTES; byte += 1) {
      this.#table.nonces[nonceAt + byte] = request[REQUEST_AT.nonce + byte] ?? 0;
    }
    this.#isAnswered[unit] = 0;
    this.#table.copyNameHash(unit, request, REQUEST_AT.nameHash);
    writeU64(request, this.#table.copyRecorded(unit, request, REQUEST_AT.recordedEpoch), REQUEST_AT.recordedSeq);
    writeU64(request, Math.round(this.#listener.now()), REQUEST_AT.clock);
    this.#table.copyKey(unit, this.#key);
    seal(this.#key, request);
  }

  #flush(burst: Burst): void {
    if (burst.size === 0) return;
    const sockets = burst === this.#v4Burst ? this.#v4Sockets : this.#v6Sockets;
    const socket = sockets[this.#bursts % sockets.length];
    this.#bursts += 1;
    const atMs = this.#listener.monotonic();
    for (const unit of burst.units) this.#listener.onSent(unit, atMs);
    if (socket === undefined) for (const unit of burst.units) this.#listener.onUnsent(unit);
    else this.#sendAll(socket, burst);
    burst.clear();
  }

  /** `sendMany` sends datagrams up to the first one that the system refuses, without naming the error. */
  #sendAll(socket: Socket, burst: Burst): void {
    for (let first = 0; first < burst.size; ) {
      let sent = 0;
      try {
        sent = socket.sendMany(burst.packetsFrom(first));
      } catch {
        // `#sendOne` repeats the first datagram alone and judges its error.
      }
      first += sent;
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
        if (socket.sendMany(burst.packet(index)) === 1) return;
        failure = undefined;
      } catch (error) {
        failure = error;
      }
    }
    if (failure === undefined || isLocalResourceError(failure)) this.#listener.onUnsent(unit);
    else this.#listener.onMissed(unit);
  }

  #receive(datagram: Buffer): void {
    const arrivedMs = this.#listener.monotonic();
    const nonce = replyNonce(datagram);
    const unit = nonce?.readUInt32LE(0) ?? this.#table.capacity;
    if (nonce === undefined || unit >= this.#table.capacity) {
      this.#listener.onAnomaly('malformed');
      return;
    }
    this.#table.copyKey(unit, this.#key);
    if (!isSealed(this.#key, datagram)) this.#listener.onForged(unit);
    else if (!this.#hasLastNonce(unit, datagram)) this.#listener.onAnomaly('late');
    else if (this.#listener.isAwaited(unit)) this.#accept(unit, datagram, arrivedMs);
    else this.#listener.onAnomaly(this.#isAnswered[unit] === 1 ? 'duplicate' : 'late');
  }

  #accept(unit: number, datagram: Buffer, arrivedMs: number): void {
    const lastSeq = readU64(datagram, REPLY_AT.lastSeq);
    const clockMs = readU64(datagram, REPLY_AT.clock);
    if (!Number.isSafeInteger(lastSeq) || !Number.isSafeInteger(clockMs)) {
      this.#listener.onAnomaly('malformed');
      return;
    }
    this.#isAnswered[unit] = 1;
    this.#reply.bytes = datagram;
    this.#reply.lastSeq = lastSeq;
    this.#reply.clockMs = clockMs;
    this.#listener.onAnswered(unit, this.#reply, arrivedMs);
  }

  #hasLastNonce(unit: number, datagram: Buffer): boolean {
    const nonces = this.#table.nonces;
    for (let byte = INDEX_BYTES; byte < NONCE_BYTES; byte += 1) {
      if (nonces[unit * NONCE_BYTES + byte] !== datagram[REPLY_AT.nonce + byte]) return false;
    }
    return true;
  }
}

/** Datagrams that one system call sends, in buffers that are reused. */
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

  /** Adds a datagram to `unit`. @returns its buffer, which the caller fills before `end` */
  begin(unit: number): Buffer {
    const request = this.#requests[this.size] ?? newRequest();
    this.units.push(unit);
    this.#packets.push(request);
    return request;
  }

  /** Sets the destination of the datagram that `begin` added. */
  end(port: number, ip: string): void {
    this.#packets.push(port, ip);
  }

  packetsFrom(first: number): Packet[] {
    return first === 0 ? this.#packets : this.#packets.slice(first * PACKET_FIELDS);
  }

  packet(index: number): Packet[] {
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

/** Opens all sockets or none: after a failure the thread tries again, and meanwhile holds no descriptors that others need. */
async function openSockets(hostname: string, receive: (datagram: Buffer) => void): Promise<Socket[]> {
  const sockets: Socket[] = [];
  try {
    while (sockets.length < SOCKETS_PER_FAMILY) sockets.push(await openSocket(hostname, receive));
    return sockets;
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw error;
  }
}

function openSocket(hostname: string, receive: (datagram: Buffer) => void) {
  return Bun.udpSocket({
    hostname,
    binaryType: 'buffer',
    socket: {
      data: (_socket, datagram) => receive(datagram),
      // An ICMP error names no unit. The ping that caused it runs into its time-out.
      error: () => undefined,
    },
  });
}
