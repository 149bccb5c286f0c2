/**
 * A bad network: a TCP proxy on loopback in front of one server, NATS or HTTP, whose faults a test sets. Bytes are never
 * lost, changed or reordered while a connection lives, because TCP does not do that: they come late, slowly or not at all,
 * and the connection ends in the middle of a frame.
 */

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { SeededRandom } from './random.ts';

/** `up`: from the client to the server. */
export type Direction = 'up' | 'down';

export interface LinkFaults {
  /** Every byte takes so much longer, in each direction. */
  readonly delayMs: number;
  /** And at most so much more, by chance; later bytes never overtake. */
  readonly jitterMs: number;
  /** Each direction of each connection. @default Infinity */
  readonly bytesPerS: number;
  /** Nothing passes until that changes; what was sent meanwhile then arrives. */
  readonly stalled: readonly Direction[];
  /** New connections are reset at once. */
  readonly refuse: boolean;
}

export const GOOD_LINK: LinkFaults = {
  delayMs: 0,
  jitterMs: 0,
  bytesPerS: Number.POSITIVE_INFINITY,
  stalled: [],
  refuse: false,
};

export interface FaultProxyOptions {
  /** Such as `nats://127.0.0.1:4222`; its scheme stands in the proxy's own URL. */
  readonly target: string;
  /** Where jitter comes from. */
  readonly random: Pick<SeededRandom, 'next'>;
}

/** Bytes that wait in one direction of a connection before its sender has to wait. */
const MAX_WAITING_BYTES = 1024 * 1024;
const MS_PER_S = 1_000;

export class FaultProxy {
  readonly #server: Server;
  readonly #options: FaultProxyOptions;
  readonly #links = new Set<Link>();
  #faults: LinkFaults = GOOD_LINK;
  /** How many connections there were. */
  accepted = 0;

  private constructor(options: FaultProxyOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  }

  static async start(options: FaultProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    proxy.#server.once('error', reject);
    proxy.#server.listen(0, '127.0.0.1', resolve);
    await promise;
    return proxy;
  }

  /** What clients connect to. */
  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${new URL(this.#options.target).protocol}//127.0.0.1:${port}`;
  }

  /** Connections that live now. */
  get connections(): number {
    return this.#links.size;
  }

  /** Sets the faults that are named and leaves the others, for connections that live and for new ones. */
  set(change: Partial<LinkFaults>): void {
    this.#faults = { ...this.#faults, ...change };
    for (const link of this.#links) link.wake();
  }

  /** Resets every connection now. What was under way is gone. @returns how many there were */
  cut(): number {
    const cut = this.#links.size;
    for (const link of [...this.#links]) link.reset();
    return cut;
  }

  /**
   * Ends every connection that lives in the middle of something: after `bytes` more in one direction. Its receiver gets
   * those and then the end, its sender a reset.
   */
  cutAfter(bytes: number, direction: Direction): void {
    for (const link of this.#links) link[direction].cutAfter(bytes);
  }

  /** A good network again. What waits arrives at once; connections that were to be cut live on. */
  heal(): void {
    this.#faults = GOOD_LINK;
    for (const link of this.#links) {
      for (const lane of [link.up, link.down]) lane.release();
    }
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    if (this.#faults.refuse) {
      client.on('error', ignore);
      client.resetAndDestroy();
      return;
    }
    const { hostname, port } = new URL(this.#options.target);
    const server = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    const around = { faults: () => this.#faults, random: this.#options.random };
    const link = new Link(client, server, around, () => this.#links.delete(link));
    this.#links.add(link);
  }
}

interface Surroundings {
  readonly faults: () => LinkFaults;
  readonly random: Pick<SeededRandom, 'next'>;
}

/** One client, and the connection that was made for it. */
class Link {
  readonly up: Lane;
  readonly down: Lane;
  readonly #sockets: readonly [Socket, Socket];

  constructor(client: Socket, server: Socket, around: Surroundings, onEnd: () => void) {
    this.#sockets = [client, server];
    this.up = new Lane('up', client, server, around);
    this.down = new Lane('down', server, client, around);
    for (const socket of this.#sockets) {
      socket.setNoDelay(true);
      socket.on('error', () => this.reset());
      socket.on('close', () => {
        if (this.#sockets.every(({ destroyed }) => destroyed)) onEnd();
      });
    }
  }

  wake(): void {
    this.up.wake();
    this.down.wake();
  }

  reset(): void {
    this.up.stop();
    this.down.stop();
    for (const socket of this.#sockets) if (!socket.destroyed) socket.resetAndDestroy();
  }
}

interface Waiting {
  /** Undefined: the sender has ended. */
  readonly bytes: Buffer | undefined;
  dueMs: number;
}

/** One direction of a connection: bytes wait until they are due, in order. */
class Lane {
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #around: Surroundings;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #lastDueMs = 0;
  #bytesLeft: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(direction: Direction, from: Socket, to: Socket, around: Surroundings) {
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    this.#around = around;
    from.on('data', (bytes: Buffer) => this.#take(bytes));
    from.on('end', () => this.#take(undefined));
    to.on('drain', () => this.#pace());
  }

  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  /** Faults have changed: what stood still may pass. */
  wake(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pass();
  }

  /** Lets everything that waits pass now, and takes a cut back. */
  release(): void {
    this.#bytesLeft = undefined;
    this.#lastDueMs = 0;
    for (const each of this.#waiting) each.dueMs = 0;
    this.wake();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #take(bytes: Buffer | undefined): void {
    const { delayMs, jitterMs, bytesPerS } = this.#around.faults();
    const jitter = jitterMs === 0 ? 0 : this.#around.random.next() * jitterMs;
    const travelMs = ((bytes?.length ?? 0) * MS_PER_S) / bytesPerS;
    this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + delayMs + jitter) + travelMs;
    this.#waiting.push({ bytes, dueMs: this.#lastDueMs });
    this.#waitingBytes += bytes?.length ?? 0;
    this.#pass();
  }

  #pass(): void {
    for (let [next] = this.#waiting; next !== undefined && !this.#stopped; [next] = this.#waiting) {
      if (this.#timer !== undefined || this.#around.faults().stalled.includes(this.#direction)) break;
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.wake(), waitMs);
        break;
      }
      this.#waiting.shift();
      this.#waitingBytes -= next.bytes?.length ?? 0;
      this.#forward(next.bytes);
    }
    this.#pace();
  }

  #forward(bytes: Buffer | undefined): void {
    if (bytes === undefined) {
      this.#to.end();
    } else if (this.#bytesLeft === undefined || bytes.length < this.#bytesLeft) {
      if (this.#bytesLeft !== undefined) this.#bytesLeft -= bytes.length;
      this.#to.write(bytes);
    } else {
      this.stop();
      this.#to.end(bytes.subarray(0, this.#bytesLeft), () => this.#to.destroySoon());
      this.#from.resetAndDestroy();
    }
  }

  /** A sender that exceeds the rate waits, as behind a full TCP window. */
  #pace(): void {
    if (this.#stopped) return;
    const full = this.#waitingBytes + this.#to.writableLength > MAX_WAITING_BYTES;
    if (full && !this.#from.isPaused()) this.#from.pause();
    else if (!full && this.#from.isPaused()) this.#from.resume();
  }
}

function ignore(): void {
  // The refused client has closed the connection.
}
