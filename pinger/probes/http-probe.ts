/**
 * The HTTP probe sends `GET /ping` and checks nonce and MAC of the answer, on a new connection for every ping or on a kept one.
 *
 * It implements HTTP over `node:net`, because `fetch` allows 256 connections for the whole process, and a socket of
 * `Bun.connect` cannot be closed while it connects: unreachable units would hold descriptors for minutes.
 */

import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { pingPath } from '../../platform/unit-protocol/ping.ts';
import { KEY_BYTES, NONCE_BYTES, type UnitTable } from '../units/unit-table.ts';
import { readResponse } from './http-response.ts';
import { readJsonReply } from './json-reply.ts';
import { hasFreeDescriptor, isLocalResourceError, type Probe, type ProbeListener } from './probe.ts';
import type { SelfConnectCheck } from './self-connect-check.ts';

/** Most open connections of one thread, including kept ones; further pings are unsent. */
export const MAX_CONNECTIONS = 4_000;
/** Above this number of open connections none is kept, so that units without a connection can open one. */
const MAX_KEPT_CONNECTIONS = 3_000;
/** After descriptors ran out, failed connections are not held against units for this long: other parts may have freed some meanwhile. */
const EXHAUSTED_MS = 1_000;
const HTTP_OK = 200;

interface Connection {
  readonly socket: Socket;
  /** Whether an answer has arrived over this connection. */
  hasAnswered: boolean;
  /** Of the last request. */
  nonce: string;
  /** Whether a request is in flight, or will be as soon as the socket is connected. */
  isBusy: boolean;
  /** The bytes of the answer that have arrived so far. */
  received: Buffer;
}

export interface HttpProbeOptions {
  /** Whether the probe keeps connections for the next ping, where the unit agrees. */
  readonly keepAlive: boolean;
  readonly table: UnitTable;
  readonly listener: ProbeListener;
  /** Decides whether a failed connection is the unit's fault. */
  readonly selfConnect: SelfConnectCheck;
}

export class HttpProbe implements Probe {
  readonly #options: HttpProbeOptions;
  readonly #connections = new Map<number, Connection>();
  /** Failed connections that await the self-connect check, by unit. */
  readonly #unexplained = new Map<number, Connection>();
  readonly #key = Buffer.alloc(KEY_BYTES);
  #exhaustedUntilMs = Number.NEGATIVE_INFINITY;

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
    for (const unit of [...this.#connections.keys()]) this.#drop(unit);
  }

  #ping(unit: number): void {
    const connection = this.#connections.get(unit);
    if (connection !== undefined && !connection.isBusy && connection.socket.writable) this.#request(unit, connection);
    else this.#connect(unit);
  }

  #connect(unit: number): void {
    const { table, listener } = this.#options;
    this.#drop(unit);
    // Starts the time-out. The response time counts from the request, which calls `onSent` again.
    listener.onSent(unit, listener.monotonic());
    if (this.#connections.size >= MAX_CONNECTIONS) {
      listener.onUnsent(unit);
      return;
    }
    const socket = connect({ host: table.ip(unit), port: table.ports[unit] ?? 0 });
    const connection: Connection = { socket, hasAnswered: false, nonce: '', isBusy: true, received: Buffer.alloc(0) };
    this.#connections.set(unit, connection);
    const isCurrent = () => this.#connections.get(unit) === connection;
    socket.on('connect', () => isCurrent() && this.#request(unit, connection));
    socket.on('data', (bytes: Buffer) => {
      if (!isCurrent()) return;
      connection.received = connection.received.length === 0 ? bytes : Buffer.concat([connection.received, bytes]);
      // Unsolicited bytes on a kept connection break its framing, so the probe closes it.
      if (connection.isBusy) this.#read(unit, connection, false);
      else this.#drop(unit);
    });
    socket.on('close', () => isCurrent() && this.#onClosed(unit, connection));
    socket.on('error', (error) => isCurrent() && this.#onFailed(unit, connection, error));
  }

  #request(unit: number, connection: Connection): void {
    const { table, listener, keepAlive } = this.#options;
    connection.nonce = randomBytes(NONCE_BYTES).toString('hex');
    connection.isBusy = true;
    connection.received = Buffer.alloc(0);
    table.copyKey(unit, this.#key);
    const recorded = table.recorded(unit);
    const clockMs = Math.round(listener.now());
    const request = { unit: table.name(unit), nonce: connection.nonce, clockMs };
    const path = pingPath(this.#key, recorded === undefined ? request : { ...request, recorded });
    const host = table.isIpv6(unit) ? `[${table.ip(unit)}]` : table.ip(unit);
    listener.onSent(unit, listener.monotonic());
    connection.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${host}:${table.ports[unit]}\r\nAccept: application/json\r\nConnection: ${
        keepAlive ? 'keep-alive' : 'close'
      }\r\n\r\n`,
    );
  }

  #read(unit: number, connection: Connection, ended: boolean): void {
    const { listener, keepAlive } = this.#options;
    const arrivedMs = listener.monotonic();
    const response = readResponse(connection.received, ended);
    if (response === 'more') return;
    connection.isBusy = false;
    connection.hasAnswered = true;
    const isKept = keepAlive && !ended && response !== 'malformed' && response.keepAlive;
    if (!isKept || this.#connections.size > MAX_KEPT_CONNECTIONS) this.#drop(unit);
    if (response === 'malformed' || response.status !== HTTP_OK) listener.onMissed(unit);
    else this.#verify(unit, connection.nonce, response.body, arrivedMs);
  }

  #verify(unit: number, nonce: string, body: Buffer, arrivedMs: number): void {
    const { table, listener } = this.#options;
    table.copyKey(unit, this.#key);
    const reply = readJsonReply(table.name(unit), this.#key, nonce, body);
    if (reply !== undefined) {
      listener.onAnswered(unit, reply, arrivedMs);
    } else {
      listener.onForged(unit);
      listener.onMissed(unit);
    }
  }

  #onClosed(unit: number, connection: Connection): void {
    if (!connection.isBusy) this.#drop(unit);
    else if (isClosedWhileIdle(connection)) this.#connect(unit);
    else this.#read(unit, connection, true);
  }

  #onFailed(unit: number, connection: Connection, error: Error): void {
    this.#drop(unit);
    if (!connection.isBusy) return;
    if (isClosedWhileIdle(connection)) this.#connect(unit);
    else if (isLocalResourceError(error) || this.#isExhausted()) this.#options.listener.onUnsent(unit);
    else void this.#explainFailure(unit, connection);
  }

  /** The unit is missed if this process can connect to itself, otherwise its ping is unsent. The ping is in flight until then. */
  async #explainFailure(unit: number, connection: Connection): Promise<void> {
    const { listener, selfConnect } = this.#options;
    this.#unexplained.set(unit, connection);
    const canConnect = await selfConnect.canConnect();
    if (this.#unexplained.get(unit) !== connection) return;
    this.#unexplained.delete(unit);
    if (canConnect) listener.onMissed(unit);
    else listener.onUnsent(unit);
  }

  /**
   * Whether this process has no free descriptor, or had none within the last `EXHAUSTED_MS`. Bun reports a connection that failed
   * for lack of a descriptor as refused, and the self-connect check runs later, when descriptors may be free again.
   */
  #isExhausted(): boolean {
    const nowMs = this.#options.listener.monotonic();
    if (!hasFreeDescriptor()) this.#exhaustedUntilMs = nowMs + EXHAUSTED_MS;
    return nowMs < this.#exhaustedUntilMs;
  }

  #drop(unit: number): void {
    const connection = this.#connections.get(unit);
    this.#connections.delete(unit);
    this.#unexplained.delete(unit);
    connection?.socket.destroy();
  }
}

/** The unit closed a kept connection before it saw the request. The probe repeats the request on a new connection. */
function isClosedWhileIdle({ hasAnswered, received }: Connection): boolean {
  return hasAnswered && received.length === 0;
}
