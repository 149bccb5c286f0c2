/**
 * A unit whose answers and log a test sets. It answers pings over HTTP and by UDP and fetches of its log over HTTP, and pushes
 * events over NATS. Unlike a unit of the device simulator it has no behaviour of its own, so it can also break the protocol.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import type { PingReply } from '../../domain/unit-protocol/commands.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { encodePingReply, NONCE_BYTES, REQUEST_AT } from '../../platform/unit-protocol/datagram.ts';
import { parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';
import { UnitVerifier } from '../../platform/unit-protocol/signatures.ts';
import type { Client } from './client.ts';
import { quietLog } from './nats.ts';
import { type RegistrationOverrides, registerUnit } from './registration.ts';

const PUSH_TIMEOUT_MS = 30_000;
const LOCALHOST = '127.0.0.1';

/** How the unit answers a ping over HTTP. */
export type PingAnswer =
  | 'good'
  /** The unit accepts the connection and does not answer. */
  | 'silent'
  /** Each of these is an invalid answer. */
  | 'wrong-mac'
  | 'old-nonce'
  | 'other-unit'
  | 'no-json'
  | 'no-http'
  | 'error';

export interface ScriptableUnitOptions {
  readonly name: string;
  readonly key: Uint8Array;
  /** An address in 127.0.0.0/8. Units that change their port need one each. @default 127.0.0.1 */
  readonly host?: string;
  /** @default a new epoch */
  readonly epoch?: string;
}

export interface RegisteredUnitOptions extends RegistrationOverrides {
  /** Whether the unit answers at its address. @default true */
  readonly isOnline?: boolean;
}

/** JetStream's answer to a push. */
export interface PushAnswer {
  readonly stream?: string;
  readonly error?: { readonly err_code: number; readonly description: string };
}

export class ScriptableUnit {
  readonly name: string;
  readonly key: Uint8Array;
  epoch: string;
  pingAnswer: PingAnswer = 'good';
  /** Delay of the answer to a ping over HTTP. */
  delayMs = 0;
  /** While false, the unit closes each HTTP connection without an answer. */
  isOnline = true;
  /** The seq that pings and pages report. Setting `events` sets it too. */
  lastSeq = 0;
  /** The unit has deleted the events before this seq. */
  firstAvailableSeq = 1;
  /** The datagrams that answer a ping by UDP. */
  datagramAnswers = (nonce: Buffer): readonly Buffer[] => [this.pingDatagram(nonce)];
  /** Arrival times of pings over HTTP, in ms of `performance.now`. */
  readonly pingedAtMs: number[] = [];
  /** Pings over HTTP whose MAC did not hold. */
  forgedPings = 0;
  /** The place that the last ping over HTTP named recorded. */
  recorded: { epoch: string; seq: number } | undefined;
  /** The `after` of each fetch, also of those that the unit did not answer. */
  readonly fetches: (string | null)[] = [];
  readonly #host: string;
  #port = 0;
  #events: readonly BatchEvent[] = [];
  #server: Server | undefined;
  #datagrams: Bun.udp.Socket<'buffer'> | undefined;
  #platform: { readonly nats: Nats; readonly verifier: UnitVerifier } | undefined;

  constructor({ name, key, host = LOCALHOST, epoch = Bun.randomUUIDv7() }: ScriptableUnitOptions) {
    this.name = name;
    this.key = key;
    this.epoch = epoch;
    this.#host = host;
  }

  /** Starts a unit with an HTTP listener, registers it over REST, and connects it to NATS. The caller stops it. */
  static async register(ops: Client, name: string, options: RegisteredUnitOptions = {}): Promise<ScriptableUnit> {
    const { isOnline = true, ...overrides } = options;
    const key = new Uint8Array(32);
    const unit = new ScriptableUnit({ name, key });
    // Without its key, the unit cannot answer the pings that begin with the registration.
    unit.isOnline = false;
    await unit.listen();
    const credentials = await registerUnit(ops, name, { address: unit.address, ...overrides });
    key.set(Buffer.from(credentials.unitKey, 'base64'));
    const { natsUrl: url, natsCreds: creds, natsInboxPrefix: inboxPrefix } = credentials;
    const verifier = await UnitVerifier.create(credentials.platformPublicKey, name);
    unit.#platform = { nats: await Nats.connect({ url, creds, inboxPrefix, name, log: quietLog }), verifier };
    unit.isOnline = isOnline;
    return unit;
  }

  /** HOST:PORT of the HTTP listener. */
  get address(): string {
    return `${this.#host}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  get isListening(): boolean {
    return this.#server !== undefined;
  }

  /** All events of the epoch in order of `seq`. */
  get events(): readonly BatchEvent[] {
    return this.#events;
  }

  set events(events: readonly BatchEvent[]) {
    this.#events = events;
    this.lastSeq = events.length;
  }

  /** Opens the HTTP listener. The port stays the same after the first time. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: this.#host, port: this.#port }, resolve);
    });
    const address = server.address();
    if (address !== null && typeof address === 'object') this.#port = address.port;
    this.#server = server;
  }

  /** Closes the HTTP listener and its connections: the host refuses further connections. */
  async stopListening(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }

  /** Opens the UDP listener. @returns its port */
  async listenForDatagrams(): Promise<number> {
    this.#datagrams = await Bun.udpSocket({
      hostname: this.#host,
      binaryType: 'buffer',
      socket: {
        data: (socket, request, port, address) => {
          const nonce = Buffer.from(request.subarray(REQUEST_AT.nonce, REQUEST_AT.nonce + NONCE_BYTES));
          for (const answer of this.datagramAnswers(nonce)) socket.send(answer, port, address);
        },
      },
    });
    return this.#datagrams.port;
  }

  /** The answer to a ping by UDP. With another `key` it is forged. */
  pingDatagram(nonce: Uint8Array, key = this.key): Buffer {
    const { time, ...reply } = this.#reply();
    return encodePingReply(key, nonce, { ...reply, flags: 0, clockMs: Date.parse(time) });
  }

  /** Pushes events in a batch, or a payload as it is, with the unit's credentials, and waits for the answer of JetStream. */
  async push(content: readonly object[] | string | Uint8Array): Promise<PushAnswer> {
    if (this.#platform === undefined) throw new Error(`${this.name} has no credentials: register it`);
    const isPayload = typeof content === 'string' || content instanceof Uint8Array;
    const payload = isPayload ? content : JSON.stringify({ unit: this.name, epoch: this.epoch, events: content });
    const subject = unitPushSubject(this.name);
    const { data } = await this.#platform.nats.request(subject, payload, { timeoutMs: PUSH_TIMEOUT_MS });
    return JSON.parse(new TextDecoder().decode(data)) as PushAnswer;
  }

  /** Pushes the events from one seq of `events` to another, both inclusive. */
  pushRange(fromSeq: number, toSeq: number): Promise<PushAnswer> {
    return this.push(this.#events.filter(({ seq }) => seq >= fromSeq && seq <= toSeq));
  }

  /** Closes the listeners and the connection. */
  async stop(): Promise<void> {
    this.#datagrams?.close();
    await this.#platform?.nats.close();
    await this.stopListening();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://unit');
    if (pathname === '/events') this.fetches.push(searchParams.get('after'));
    if (!this.isOnline) request.socket.destroy();
    else if (pathname === '/ping') this.#answerPing(searchParams, request, response);
    else if (pathname === '/events') await this.#answerFetch(searchParams, request, response);
    else response.writeHead(404).end();
  }

  #answerPing(query: URLSearchParams, request: IncomingMessage, response: ServerResponse): void {
    this.pingedAtMs.push(performance.now());
    const nonce = query.get('nonce') ?? '';
    const recorded = parsePlace(query.get('recorded') ?? '');
    const clockMs = Number(query.get('clock'));
    const ping = { unit: this.name, nonce, clockMs, ...(recorded === undefined ? {} : { recorded }) };
    if (!sameMac(query.get('mac') ?? '', pingMac(this.key, ping))) this.forgedPings += 1;
    this.recorded = recorded;
    if (this.pingAnswer === 'silent') return;
    if (this.pingAnswer === 'no-http') {
      request.socket.end('hello?\r\n\r\n');
      return;
    }
    const answer = () => response.writeHead(this.pingAnswer === 'error' ? 500 : 200).end(this.#pingBody(nonce));
    if (this.delayMs > 0) setTimeout(answer, this.delayMs);
    else answer();
  }

  #pingBody(nonce: string): string {
    if (this.pingAnswer === 'no-json') return '<html>';
    const reply = { ...this.#reply(), ...(this.pingAnswer === 'other-unit' ? { unit: 'OTHER-UNIT' } : {}) };
    const answered = this.pingAnswer === 'old-nonce' ? '0'.repeat(32) : nonce;
    const mac = pingReplyMac(this.key, answered, reply);
    const sent = this.pingAnswer === 'wrong-mac' ? `${mac.startsWith('0') ? '1' : '0'}${mac.slice(1)}` : mac;
    return JSON.stringify({ ...reply, nonce: answered, mac: sent });
  }

  #reply(): PingReply {
    return {
      unit: this.name,
      bootId: '8f0011223344556a',
      uptimeS: 1,
      configurationHash: 'c'.repeat(64),
      epoch: this.epoch,
      lastSeq: this.lastSeq,
      time: new Date().toISOString(),
    };
  }

  async #answerFetch(query: URLSearchParams, request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
      if (this.#platform === undefined) throw new Error('The unit has no key of the platform.');
      await this.#platform.verifier.fetch(token, Date.now());
      response.end(JSON.stringify(this.#page(query)));
    } catch {
      response.writeHead(401).end();
    }
  }

  #page(query: URLSearchParams): object {
    const { name: unit, epoch, firstAvailableSeq, lastSeq } = this;
    const [afterEpoch, afterSeq] = (query.get('after') ?? '').split(':');
    const after = afterEpoch === epoch ? Number(afterSeq) : 0;
    const later = this.#events.filter(({ seq }) => seq > after && seq >= firstAvailableSeq);
    const events = later.slice(0, Number(query.get('limit')));
    return { unit, epoch, firstAvailableSeq, lastSeq, more: later.length > events.length, events };
  }
}
