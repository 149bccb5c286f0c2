import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { PingReply } from '../../domain/unit-protocol/commands.ts';
import { parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';

/** How a unit answers. */
export type Manners =
  | 'good'
  /** The connection opens and nothing comes. */
  | 'silent'
  /** Each answer lies in its own way. */
  | 'wrong-mac'
  | 'old-nonce'
  | 'other-unit'
  | 'no-json'
  | 'no-http'
  | 'error';

/** A unit that answers pings over HTTP at an address of its own, and notes what it was asked. */
export class FakeUnit {
  readonly name: string;
  readonly key: Uint8Array;
  manners: Manners = 'good';
  delayMs = 0;
  /** When pings came, milliseconds of `performance.now`. */
  readonly pingedAtMs: number[] = [];
  /** The place that the last ping named recorded. */
  recorded: { epoch: string; seq: number } | undefined;
  /** Pings whose MAC did not hold. */
  strangers = 0;
  lastSeq = 7;
  readonly #host: string;
  #port = 0;
  #server: Server | undefined;

  /** `host`: an address of 127.0.0.0/8 of its own. */
  constructor(name: string, host: string, key: Uint8Array) {
    this.name = name;
    this.key = key;
    this.#host = host;
  }

  get address(): string {
    return `${this.#host}:${this.#port}`;
  }

  get isUp(): boolean {
    return this.#server !== undefined;
  }

  /** Listens, at the same port each time. */
  async up(): Promise<void> {
    const server = createServer((request, response) => this.#serve(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: this.#host, port: this.#port }, resolve);
    });
    const address = server.address();
    if (address !== null && typeof address === 'object') this.#port = address.port;
    this.#server = server;
  }

  /** Hangs up: connections are refused from now on. */
  async down(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.pingedAtMs.push(performance.now());
    const query = new URL(request.url ?? '/', 'http://unit').searchParams;
    const nonce = query.get('nonce') ?? '';
    const place = query.get('recorded');
    const recorded = place === null ? undefined : parsePlace(place);
    const asked = {
      unit: this.name,
      nonce,
      clockMs: Number(query.get('clock')),
      ...(recorded === undefined ? {} : { recorded }),
    };
    if (!sameMac(query.get('mac') ?? '', pingMac(this.key, asked))) this.strangers += 1;
    this.recorded = recorded;
    if (this.manners === 'silent') return;
    if (this.manners === 'no-http') {
      request.socket.end('hello?\r\n\r\n');
      return;
    }
    const answer = () => response.writeHead(this.manners === 'error' ? 500 : 200).end(this.#answer(nonce));
    if (this.delayMs > 0) setTimeout(answer, this.delayMs);
    else answer();
  }

  #answer(nonce: string): string {
    const reply: PingReply = {
      unit: this.manners === 'other-unit' ? 'somebody-else' : this.name,
      bootId: 'boot',
      uptimeS: 1,
      configurationHash: 'c'.repeat(64),
      epoch: '018f0000-0000-7000-8000-000000000001',
      lastSeq: this.lastSeq,
      time: '2026-06-01T12:00:00.000Z',
    };
    if (this.manners === 'no-json') return '<html>';
    const answered = this.manners === 'old-nonce' ? '0'.repeat(32) : nonce;
    const mac = pingReplyMac(this.key, answered, reply);
    const sent = this.manners === 'wrong-mac' ? `${mac.startsWith('0') ? '1' : '0'}${mac.slice(1)}` : mac;
    return JSON.stringify({ ...reply, nonce: answered, mac: sent });
  }
}
