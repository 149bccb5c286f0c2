/**
 * The HTTP probe: `GET /ping`, nonce and MAC checked, on a new connection for every ping or on one that is kept.
 *
 * It speaks HTTP over `node:net` itself. `fetch` has 256 places for the whole process, and a socket of `Bun.connect` cannot
 * be given up while it connects: units that are gone would hold descriptors for minutes.
 */

import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { pingPath } from '../../platform/unit-protocol/ping.ts';
import { KEY_BYTES, NONCE_BYTES, type UnitTable } from '../units/unit-table.ts';
import { readResponse } from './http-response.ts';
import { readJsonReply } from './json-reply.ts';
import { hasFreeDescriptor, isLocalResourceError, type Probe, type ProbeListener } from './probe.ts';
import type { SelfConnectCheck } from './self-connect-check.ts';

/** Connections that one thread has open at a moment, kept ones included; what comes beyond is not sent. */
export const MAX_CONNECTIONS = 4_000;
/** With more open than this, none is kept: what remains is for units that need a new one. */
const MAX_KEPT_CONNECTIONS = 3_000;
/** How long after descriptors had run out a connection that fails says nothing: others may have given theirs back meanwhile. */
const STARVED_MS = 1_000;
const HTTP_OK = 200;

/** A connection, and the ping that is under way on it. */
interface Line {
  readonly socket: Socket;
  /** Whether an answer came over it before. */
  used: boolean;
  nonce: string;
  isAsked: boolean;
  received: Buffer;
}

export interface HttpProbeOptions {
  /** Whether a connection is kept for the next ping, where the unit agrees. */
  readonly keepAlive: boolean;
  readonly table: UnitTable;
  readonly listener: ProbeListener;
  /** Asked about connections that fail. */
  readonly selfConnect: SelfConnectCheck;
}

export class HttpProbe implements Probe {
  readonly #options: HttpProbeOptions;
  readonly #lines = new Map<number, Line>();
  /** Connections that failed, while it is asked whose fault that is. */
  readonly #doubted = new Map<number, Line>();
  readonly #key = Buffer.alloc(KEY_BYTES);
  #starvedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: HttpProbeOptions) {
    this.#options = options;
  }

  send(units: Uint32Array): void {
    for (const unit of units) this.#ping(unit);
  }

  cancel(unit: number): void {
    this.#drop(unit);
  }

  async close(): Promise<void> {
    for (const unit of [...this.#lines.keys()]) this.#drop(unit);
  }

  #ping(unit: number): void {
    const line = this.#lines.get(unit);
    if (line !== undefined && !line.isAsked && line.socket.writable) this.#ask(unit, line);
    else this.#connect(unit);
  }

  #connect(unit: number): void {
    const { table, listener: arrivals } = this.#options;
    this.#drop(unit);
    // The beginning of the wait; the response time counts from the request on.
    arrivals.onSent(unit, arrivals.monotonic());
    if (this.#lines.size >= MAX_CONNECTIONS) {
      arrivals.onUnsent(unit);
      return;
    }
    const socket = connect({ host: table.ip(unit), port: table.ports[unit] ?? 0 });
    const line: Line = { socket, used: false, nonce: '', isAsked: true, received: Buffer.alloc(0) };
    this.#lines.set(unit, line);
    const isCurrent = () => this.#lines.get(unit) === line;
    socket.on('connect', () => isCurrent() && this.#ask(unit, line));
    socket.on('data', (bytes: Buffer) => {
      if (!isCurrent()) return;
      line.received = line.received.length === 0 ? bytes : Buffer.concat([line.received, bytes]);
      // What nobody asked for ends a kept connection.
      if (line.isAsked) this.#read(unit, line, false);
      else this.#drop(unit);
    });
    socket.on('close', () => isCurrent() && this.#closed(unit, line));
    socket.on('error', (error) => isCurrent() && this.#failed(unit, line, error));
  }

  #ask(unit: number, line: Line): void {
    const { table, listener: arrivals, keepAlive } = this.#options;
    line.nonce = randomBytes(NONCE_BYTES).toString('hex');
    line.isAsked = true;
    line.received = Buffer.alloc(0);
    table.copyKey(unit, this.#key);
    const recorded = table.recorded(unit);
    const clockMs = Math.round(arrivals.now());
    const request = { unit: table.name(unit), nonce: line.nonce, clockMs };
    const path = pingPath(this.#key, recorded === undefined ? request : { ...request, recorded });
    const host = table.isIpv6(unit) ? `[${table.ip(unit)}]` : table.ip(unit);
    arrivals.onSent(unit, arrivals.monotonic());
    line.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${host}:${table.ports[unit]}\r\nAccept: application/json\r\nConnection: ${
        keepAlive ? 'keep-alive' : 'close'
      }\r\n\r\n`,
    );
  }

  #read(unit: number, line: Line, ended: boolean): void {
    const { listener: arrivals, keepAlive } = this.#options;
    const arrivedMs = arrivals.monotonic();
    const response = readResponse(line.received, ended);
    if (response === 'more') return;
    line.isAsked = false;
    line.used = true;
    const isKept = keepAlive && !ended && response !== 'malformed' && response.keepAlive;
    if (!isKept || this.#lines.size > MAX_KEPT_CONNECTIONS) this.#drop(unit);
    if (response === 'malformed' || response.status !== HTTP_OK) arrivals.onMissed(unit);
    else this.#judge(unit, line.nonce, response.body, arrivedMs);
  }

  #judge(unit: number, nonce: string, body: Buffer, arrivedMs: number): void {
    const { table, listener: arrivals } = this.#options;
    table.copyKey(unit, this.#key);
    const reply = readJsonReply(table.name(unit), this.#key, nonce, body);
    if (reply !== undefined) {
      arrivals.onAnswered(unit, reply, arrivedMs);
    } else {
      arrivals.onForged(unit);
      arrivals.onMissed(unit);
    }
  }

  #closed(unit: number, line: Line): void {
    if (!line.isAsked) this.#drop(unit);
    else if (this.#wasIdle(line)) this.#connect(unit);
    else this.#read(unit, line, true);
  }

  #failed(unit: number, line: Line, error: Error): void {
    this.#drop(unit);
    if (!line.isAsked) return;
    if (this.#wasIdle(line)) this.#connect(unit);
    else if (isLocalResourceError(error) || this.#isStarved()) this.#options.listener.onUnsent(unit);
    else void this.#doubt(unit, line);
  }

  /** The unit is missed when a connection can be had elsewhere; until that is known, its ping is under way. */
  async #doubt(unit: number, line: Line): Promise<void> {
    const { listener: arrivals, selfConnect: canary } = this.#options;
    this.#doubted.set(unit, line);
    const canConnect = await canary.canConnect();
    if (this.#doubted.get(unit) !== line) return;
    this.#doubted.delete(unit);
    if (canConnect) arrivals.onMissed(unit);
    else arrivals.onUnsent(unit);
  }

  /**
   * Whether there is, or was just now, no descriptor for a connection. Bun says of one that could not be had for that reason
   * what it says of a unit that refuses. The canary comes later, when there may be some again.
   */
  #isStarved(): boolean {
    const nowMs = this.#options.listener.monotonic();
    if (!hasFreeDescriptor()) this.#starvedUntilMs = nowMs + STARVED_MS;
    return nowMs < this.#starvedUntilMs;
  }

  /** The unit closed a kept connection while the request was under way: that says nothing about the unit. */
  #wasIdle({ used, received }: Line): boolean {
    return used && received.length === 0;
  }

  #drop(unit: number): void {
    const line = this.#lines.get(unit);
    this.#lines.delete(unit);
    this.#doubted.delete(unit);
    line?.socket.destroy();
  }
}
