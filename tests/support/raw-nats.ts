/** A NATS client that sends the given protocol lines unchanged, so that tests can send what a hostile unit might send. */

import { credsAuthenticator } from '../../platform/nats/creds.ts';
import { eventually } from './eventually.ts';

/** A received message, without its headers. */
export interface RawMessage {
  readonly subject: string;
  /** Empty when there is none. */
  readonly reply: string;
  readonly body: string;
}

export class RawNats {
  readonly messages: RawMessage[] = [];
  readonly #socket: Bun.Socket;
  #closed = false;
  #received = '';
  #errors: string[] = [];
  #pongs = 0;
  #nonce = Promise.withResolvers<string>();

  private constructor(socket: Bun.Socket) {
    this.#socket = socket;
  }

  /** @throws Error when the server refuses the credentials */
  static async connect(url: string, creds: string): Promise<RawNats> {
    let client: RawNats | undefined;
    const { hostname, port } = new URL(url);
    const socket = await Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open: (opened) => {
          client = new RawNats(opened);
        },
        data: (_, bytes) => client?.receive(bytes.toString('latin1')),
        close: () => client?.onClose(),
        error: () => client?.onClose(),
      },
    });
    const raw = client ?? new RawNats(socket);
    const { jwt, sig } = credsAuthenticator(creds)(await raw.#nonce.promise) as { jwt: string; sig: string };
    const hello = { verbose: false, pedantic: false, headers: true, no_responders: true, protocol: 1, jwt, sig };
    const refusals = await raw.send(`CONNECT ${JSON.stringify(hello)}\r\n`);
    if (refusals.length > 0) throw new Error(refusals.join(', '));
    return raw;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends protocol lines, and waits until the server has processed them. @returns the server's errors */
  async send(lines: string): Promise<string[]> {
    this.#errors = [];
    const pongs = this.#pongs;
    this.#socket.write(`${lines}PING\r\n`);
    this.#socket.flush();
    await eventually(() => this.#closed || this.#pongs > pongs, { intervalMs: 1 });
    return this.#errors;
  }

  publish(subject: string, body: string, { reply = '', headers = {} }: PublishOptions = {}): Promise<string[]> {
    const named = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    if (named.length === 0) return this.send(`PUB ${subject} ${reply} ${body.length}\r\n${body}\r\n`);
    const head = `NATS/1.0\r\n${named.join('')}\r\n`;
    const lengths = `${head.length} ${head.length + body.length}`;
    return this.send(`HPUB ${subject} ${reply} ${lengths}\r\n${head}${body}\r\n`);
  }

  subscribe(subject: string, queue = ''): Promise<string[]> {
    RawNats.#subscriptions += 1;
    return this.send(`SUB ${subject} ${queue} ${RawNats.#subscriptions}\r\n`);
  }
  static #subscriptions = 0;

  close(): void {
    this.#socket.end();
  }

  private onClose(): void {
    this.#closed = true;
    this.#nonce.reject(new Error('the server closed the connection'));
  }

  private receive(text: string): void {
    this.#received += text;
    for (let end = this.#received.indexOf('\r\n'); end >= 0; end = this.#received.indexOf('\r\n')) {
      const line = this.#received.slice(0, end);
      const message = headOf(line);
      const rest = end + 2 + (message === undefined ? 0 : message.bytes + 2);
      if (this.#received.length < rest) return;
      if (message === undefined) this.#handleLine(line);
      else {
        const body = this.#received.slice(end + 2 + message.headerBytes, rest - 2);
        this.messages.push({ subject: message.subject, reply: message.reply, body });
      }
      this.#received = this.#received.slice(rest);
    }
  }

  #handleLine(line: string): void {
    if (line.startsWith('INFO ')) this.#nonce.resolve(String(JSON.parse(line.slice(5)).nonce));
    else if (line.startsWith('-ERR ')) this.#errors.push(line.slice(5));
    else if (line === 'PING') this.#socket.write('PONG\r\n');
    else if (line === 'PONG') this.#pongs += 1;
  }
}

/** `MSG subject sid [reply] bytes`, or `HMSG subject sid [reply] header-bytes bytes`. */
function headOf(line: string) {
  const [kind, subject = '', , ...rest] = line.split(' ');
  if (kind !== 'MSG' && kind !== 'HMSG') return undefined;
  const numbers = kind === 'MSG' ? 1 : 2;
  const reply = rest.length > numbers ? (rest[0] ?? '') : '';
  const headerBytes = kind === 'MSG' ? 0 : Number(rest.at(-2));
  return { subject, reply, headerBytes, bytes: Number(rest.at(-1)) };
}

interface PublishOptions {
  readonly reply?: string;
  readonly headers?: Readonly<Record<string, string>>;
}
