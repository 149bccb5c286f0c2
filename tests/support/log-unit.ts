/**
 * A registered unit whose log a test writes: it answers pings and fetches at its own address, and pushes the events that the
 * test names, in any order.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Credentials } from '../../device-sim/unit/credentials.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { pingReplyMac } from '../../platform/unit-protocol/ping.ts';
import { UnitVerifier } from '../../platform/unit-protocol/signatures.ts';
import type { Client } from './client.ts';
import { eventually } from './eventually.ts';
import { quietLog } from './nats.ts';
import { registrationBody } from './registration.ts';

const PUSH_TIMEOUT_MS = 5_000;

export interface LogUnitOptions {
  readonly name: string;
  readonly delivery?: 'push' | 'fetch';
  readonly lockers?: readonly string[];
  /** Whether the unit answers at its address. @default true */
  readonly online?: boolean;
}

/** JetStream's answer to a push. */
export interface PushAnswer {
  readonly stream?: string;
  readonly error?: { readonly err_code: number; readonly description: string };
}

export class LogUnit {
  readonly name: string;
  epoch: string = Bun.randomUUIDv7();
  /** All events of the epoch in order of `seq`. The unit does not have those before `firstAvailableSeq` any more. */
  events: readonly BatchEvent[] = [];
  firstAvailableSeq = 1;
  isOnline: boolean;
  /** The `after` of each fetch, whether the unit has answered it or not. */
  readonly fetches: (string | null)[] = [];
  readonly #server: Server;
  readonly #credentials: Credentials;
  readonly #verifier: UnitVerifier;
  readonly #nats: Nats;

  private constructor(options: LogUnitOptions, server: Server, connection: Connection) {
    this.name = options.name;
    this.isOnline = options.online ?? true;
    this.#server = server;
    this.#credentials = connection.credentials;
    this.#verifier = connection.verifier;
    this.#nats = connection.nats;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  /** Registers a unit; the caller stops it. */
  static async start(ops: Client, options: LogUnitOptions): Promise<LogUnit> {
    const { name, delivery = 'push', lockers = ['A', 'B'] } = options;
    const server = createServer();
    await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve));
    const bound = server.address();
    const address = `127.0.0.1:${typeof bound === 'object' ? bound?.port : ''}`;
    const body = registrationBody(name, { address, delivery, lockers: lockers.map((id) => ({ id, size: 'S' })) });
    // A platform that has just been started may not have its read models yet, and asks to try again.
    const answer = await eventually(async () => {
      const given = await ops.post('/v1/units', body);
      return given.status !== 503 && given;
    });
    if (answer.status !== 201) throw new Error(`${name} was not registered: ${JSON.stringify(answer.body)}`);
    const { credentials } = answer.body as { credentials: Credentials };
    const { natsUrl: url, natsCreds: creds, natsInboxPrefix: inboxPrefix } = credentials;
    const nats = await Nats.connect({ url, creds, inboxPrefix, name, log: quietLog });
    const verifier = await UnitVerifier.create(credentials.platformPublicKey, name);
    return new LogUnit(options, server, { credentials, verifier, nats });
  }

  /** Pushes its events from one seq to another, both inclusive, and waits for the answer of JetStream. */
  async push(fromSeq: number, toSeq: number): Promise<PushAnswer> {
    const events = this.events.filter(({ seq }) => seq >= fromSeq && seq <= toSeq);
    const batch = JSON.stringify({ unit: this.name, epoch: this.epoch, events });
    const { data } = await this.#nats.request(unitPushSubject(this.name), batch, { timeoutMs: PUSH_TIMEOUT_MS });
    return JSON.parse(new TextDecoder().decode(data)) as PushAnswer;
  }

  async stop(): Promise<void> {
    await this.#nats.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://unit');
    if (pathname === '/events') this.fetches.push(searchParams.get('after'));
    if (!this.isOnline) return void request.socket.destroy();
    if (pathname === '/ping') return void response.end(this.#pingReply(searchParams.get('nonce') ?? ''));
    if (pathname !== '/events') return void response.writeHead(404).end();
    try {
      await this.#verifier.fetch((request.headers.authorization ?? '').replace(/^Bearer /, ''), Date.now());
      response.end(JSON.stringify(this.#page(searchParams)));
    } catch {
      response.writeHead(401).end();
    }
  }

  #page(asked: URLSearchParams): object {
    const { name: unit, epoch, firstAvailableSeq } = this;
    const [afterEpoch, afterSeq] = (asked.get('after') ?? '').split(':');
    const after = afterEpoch === epoch ? Number(afterSeq) : 0;
    const behind = this.events.filter(({ seq }) => seq > after && seq >= firstAvailableSeq);
    const events = behind.slice(0, Number(asked.get('limit')));
    const more = behind.length > events.length;
    return { unit, epoch, firstAvailableSeq, lastSeq: this.events.length, more, events };
  }

  #pingReply(nonce: string): string {
    const reply = {
      unit: this.name,
      bootId: '8f0011223344556a',
      uptimeS: 1,
      configurationHash: 'c'.repeat(64),
      epoch: this.epoch,
      lastSeq: this.events.length,
      time: new Date().toISOString(),
    };
    const mac = pingReplyMac(Buffer.from(this.#credentials.unitKey, 'base64'), nonce, reply);
    return JSON.stringify({ ...reply, nonce, mac });
  }
}

interface Connection {
  readonly credentials: Credentials;
  readonly verifier: UnitVerifier;
  readonly nats: Nats;
}
