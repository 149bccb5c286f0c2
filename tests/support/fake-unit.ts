import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { PingReply } from '../../domain/unit-protocol/commands.ts';
import { parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';

/** How the unit answers a ping. */
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

/** A unit that answers pings over HTTP as a test has chosen, and records the pings that it gets. */
export class FakeUnit {
  readonly name: string;
  readonly key: Uint8Array;
  pingAnswer: PingAnswer = 'good';
  delayMs = 0;
  /** Arrival times of pings, in ms of `performance.now`. */
  readonly pingedAtMs: number[] = [];
  /** The place that the last ping has named recorded. */
  recorded: { epoch: string; seq: number } | undefined;
  /** Pings whose MAC did not hold. */
  forgedPings = 0;
  lastSeq = 7;
  readonly #host: string;
  #port = 0;
  #server: Server | undefined;

  /** @param host an address in 127.0.0.0/8 that no other unit of the test has */
  constructor(name: string, host: string, key: Uint8Array) {
    this.name = name;
    this.key = key;
    this.#host = host;
  }

  get address(): string {
    return `${this.#host}:${this.#port}`;
  }

  get isListening(): boolean {
    return this.#server !== undefined;
  }

  /** Opens the listener. The port stays the same after the first time. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => this.#serve(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: this.#host, port: this.#port }, resolve);
    });
    const address = server.address();
    if (address !== null && typeof address === 'object') this.#port = address.port;
    this.#server = server;
  }

  /** Closes the listener and its connections: further connections are refused. */
  async stopListening(): Promise<void> {
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
    if (!sameMac(query.get('mac') ?? '', pingMac(this.key, asked))) this.forgedPings += 1;
    this.recorded = recorded;
    if (this.pingAnswer === 'silent') return;
    if (this.pingAnswer === 'no-http') {
      request.socket.end('hello?\r\n\r\n');
      return;
    }
    const answer = () => response.writeHead(this.pingAnswer === 'error' ? 500 : 200).end(this.#answer(nonce));
    if (this.delayMs > 0) setTimeout(answer, this.delayMs);
    else answer();
  }

  #answer(nonce: string): string {
    const reply: PingReply = {
      unit: this.pingAnswer === 'other-unit' ? 'somebody-else' : this.name,
      bootId: 'boot',
      uptimeS: 1,
      configurationHash: 'c'.repeat(64),
      epoch: '018f0000-0000-7000-8000-000000000001',
      lastSeq: this.lastSeq,
      time: '2026-06-01T12:00:00.000Z',
    };
    if (this.pingAnswer === 'no-json') return '<html>';
    const answered = this.pingAnswer === 'old-nonce' ? '0'.repeat(32) : nonce;
    const mac = pingReplyMac(this.key, answered, reply);
    const sent = this.pingAnswer === 'wrong-mac' ? `${mac.startsWith('0') ? '1' : '0'}${mac.slice(1)}` : mac;
    return JSON.stringify({ ...reply, nonce: answered, mac: sent });
  }
}
