/**
 * A unit's connection to NATS with real credentials, as bare as the protocol allows: a client of the `nats` package would
 * cost a load generator more than the platform spends on the same push.
 */

import { credsAuthenticator } from '../../platform/nats/creds.ts';
import { unitHeartbeatSubject, unitPushSubject } from '../../platform/nats/subjects.ts';

const HANDSHAKE_TIMEOUT_MS = 20_000;
/** As the unit protocol says: no answer within this, and the same events go out again. */
const PUSH_TIMEOUT_MS = 5_000;
const SUBSCRIPTION = 1;
const LINE_END = '\r\n';

export interface UnitIdentity {
  readonly name: string;
  readonly natsCreds: string;
  readonly natsInboxPrefix: string;
}

interface Asked {
  readonly reply: string;
  readonly answered: (refusal: string | undefined) => void;
  readonly failed: (error: Error) => void;
}

export class UnitConnection {
  readonly #unit: UnitIdentity;
  readonly #subject: string;
  readonly #up = Promise.withResolvers<void>();
  #socket: Bun.Socket | undefined;
  #received = '';
  /** What the socket did not take yet. */
  #unsent: Buffer = Buffer.alloc(0);
  #asked: Asked | undefined;
  #requests = 0;
  #introduced = false;
  #failure: Error | undefined;

  private constructor(unit: UnitIdentity) {
    this.#unit = unit;
    this.#subject = unitPushSubject(unit.name);
  }

  static async connect(url: string, unit: UnitIdentity): Promise<UnitConnection> {
    const { hostname, port } = new URL(url);
    const connection = new UnitConnection(unit);
    const timer = setTimeout(() => connection.#fail('no handshake in time'), HANDSHAKE_TIMEOUT_MS);
    try {
      connection.#socket = await Bun.connect({
        hostname,
        port: Number(port),
        socket: {
          data: (_, chunk) => connection.#receive(chunk),
          drain: () => connection.#drain(),
          close: () => connection.#fail('the server closed the connection'),
        },
      });
      await connection.#up.promise;
    } finally {
      clearTimeout(timer);
    }
    return connection;
  }

  /**
   * Pushes a batch as a request. Resolves with why it cannot be taken for delivered, `undefined` when it is.
   * @throws Error when the connection is gone
   */
  push(batch: Buffer): Promise<string | undefined> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#requests += 1;
    const reply = `${this.#unit.natsInboxPrefix}.${this.#requests}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(reply, 'no answer in time'), PUSH_TIMEOUT_MS);
      const answered = (refusal: string | undefined) => {
        clearTimeout(timer);
        resolve(refusal);
      };
      this.#asked = { reply, answered, failed: reject };
      const head = `PUB ${this.#subject} ${reply} ${batch.length}${LINE_END}`;
      this.#send(Buffer.concat([Buffer.from(head), batch, Buffer.from(LINE_END)]));
    });
  }

  heartbeat(payload: string): void {
    const { name } = this.#unit;
    this.#send(Buffer.from(`PUB ${unitHeartbeatSubject(name)} ${payload.length}${LINE_END}${payload}${LINE_END}`));
  }

  close(): void {
    this.#asked = undefined;
    this.#socket?.end();
  }

  #send(bytes: Buffer): void {
    if (this.#unsent.length > 0) {
      this.#unsent = Buffer.concat([this.#unsent, bytes]);
      return;
    }
    const taken = this.#socket?.write(bytes) ?? 0;
    if (taken < bytes.length) this.#unsent = bytes.subarray(Math.max(0, taken));
  }

  #drain(): void {
    const bytes = this.#unsent;
    this.#unsent = Buffer.alloc(0);
    if (bytes.length > 0) this.#send(bytes);
  }

  #receive(chunk: Buffer): void {
    this.#received += chunk.toString('latin1');
    for (let end = this.#received.indexOf(LINE_END); end >= 0; end = this.#received.indexOf(LINE_END)) {
      const line = this.#received.slice(0, end);
      const bodyAt = end + LINE_END.length;
      const length = line.startsWith('MSG ') ? Number(line.slice(line.lastIndexOf(' ') + 1)) + LINE_END.length : 0;
      if (this.#received.length < bodyAt + length) return;
      const body = this.#received.slice(bodyAt, bodyAt + length);
      this.#received = this.#received.slice(bodyAt + length);
      this.#take(line, body);
    }
  }

  #take(line: string, body: string): void {
    const [word, ...rest] = line.split(' ');
    // The server says more about itself later on; it asks who we are only once.
    if (word === 'INFO' && !this.#introduced) this.#introduce(JSON.parse(rest.join(' ')) as { nonce?: string });
    else if (word === 'PING') this.#send(Buffer.from(`PONG${LINE_END}`));
    else if (word === 'PONG') this.#up.resolve();
    else if (word === 'MSG') this.#answer(rest[0] ?? '', body.includes('"seq"') ? undefined : body);
    else if (word === '-ERR') this.#fail(line);
  }

  #introduce({ nonce }: { readonly nonce?: string }): void {
    this.#introduced = true;
    const { name, natsCreds, natsInboxPrefix } = this.#unit;
    const proof = credsAuthenticator(natsCreds)(nonce);
    const options = { verbose: false, pedantic: false, lang: 'bench', version: '1', protocol: 1, name, ...proof };
    const subscribe = `SUB ${natsInboxPrefix}.* ${SUBSCRIPTION}`;
    this.#send(Buffer.from(`CONNECT ${JSON.stringify(options)}${LINE_END}${subscribe}${LINE_END}PING${LINE_END}`));
  }

  #answer(reply: string, refusal: string | undefined): void {
    if (this.#asked?.reply !== reply) return;
    const { answered } = this.#asked;
    this.#asked = undefined;
    answered(refusal);
  }

  #fail(reason: string): void {
    this.#failure ??= new Error(`${this.#unit.name}: ${reason}`);
    this.#up.reject(this.#failure);
    this.#asked?.failed(this.#failure);
  }
}
