/**
 * A bad network: a TCP proxy on loopback in front of one server, NATS or HTTP, whose faults a test sets. Bytes are never
 * lost, changed or reordered while a connection is open, because TCP does not do that: they arrive late, slowly or not at all,
 * and the connection ends in the middle of a frame.
 */

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { SeededRandom } from './random.ts';

/** `up`: from the client to the server. */
export type Direction = 'up' | 'down';

export interface LinkFaults {
  /** The delay of every byte, in each direction. */
  readonly delayMs: number;
  /** The greatest random delay on top of `delayMs`. Bytes keep their order. */
  readonly jitterMs: number;
  /** The rate of each direction of each connection. @default Infinity */
  readonly bytesPerS: number;
  /** Directions in which bytes wait; they arrive when the direction is no longer stalled. */
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
  /** A URL such as `nats://127.0.0.1:4222`. The proxy's own URL has the same scheme. */
  readonly target: string;
  /** The source of the jitter. */
  readonly random: Pick<SeededRandom, 'next'>;
}

/** The proxy stops reading from a sender while more bytes than these wait in its direction. */
const MAX_WAITING_BYTES = 1024 * 1024;
const MS_PER_S = 1_000;

export class FaultProxy {
  readonly #server: Server;
  readonly #options: FaultProxyOptions;
  readonly #links = new Set<Link>();
  #faults: LinkFaults = GOOD_LINK;
  /** The number of connections that clients have opened. */
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

  /** The URL to which clients connect. */
  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${new URL(this.#options.target).protocol}//127.0.0.1:${port}`;
  }

  /** The number of open connections. */
  get connections(): number {
    return this.#links.size;
  }

  /** Changes the given faults and leaves the others, for open and for new connections. */
  set(change: Partial<LinkFaults>): void {
    this.#faults = { ...this.#faults, ...change };
    for (const link of this.#links) link.wake();
  }

  /** Resets every connection now; bytes on their way are lost. @returns the number of connections */
  cut(): number {
    const cut = this.#links.size;
    for (const link of [...this.#links]) link.reset();
    return cut;
  }

  /**
   * Ends every open connection in the middle of a message, after `bytes` more in one direction. The receiver gets
   * those bytes and then the end of the connection; the sender gets a reset.
   */
  cutAfter(bytes: number, direction: Direction): void {
    for (const link of this.#links) link[direction].cutAfter(bytes);
  }

  /** Removes all faults. Waiting bytes arrive at once, and `cutAfter` no longer applies. */
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
    const network = { faults: () => this.#faults, random: this.#options.random };
    const link = new Link(client, server, network, () => this.#links.delete(link));
    this.#links.add(link);
  }
}

interface Network {
  readonly faults: () => LinkFaults;
  readonly random: Pick<SeededRandom, 'next'>;
}

/** A client's connection, and the proxy's connection to the server for it. */
class Link {
  readonly up: Lane;
  readonly down: Lane;
  readonly #sockets: readonly [Socket, Socket];

  constructor(client: Socket, server: Socket, network: Network, onEnd: () => void) {
    this.#sockets = [client, server];
    this.up = new Lane('up', client, server, network);
    this.down = new Lane('down', server, client, network);
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

/** One direction of a connection: a queue of bytes, each with the time at which it is due. */
class Lane {
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #network: Network;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #lastDueMs = 0;
  #bytesLeft: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(direction: Direction, from: Socket, to: Socket, network: Network) {
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    this.#network = network;
    from.on('data', (bytes: Buffer) => this.#enqueue(bytes));
    from.on('end', () => this.#enqueue(undefined));
    to.on('drain', () => this.#applyBackpressure());
  }

  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  /** Forwards the bytes that are due under the present faults. */
  wake(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#forwardDue();
  }

  /** Forwards all waiting bytes now, and takes a cut back. */
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

  #enqueue(bytes: Buffer | undefined): void {
    const { delayMs, jitterMs, bytesPerS } = this.#network.faults();
    const jitter = jitterMs === 0 ? 0 : this.#network.random.next() * jitterMs;
    const travelMs = ((bytes?.length ?? 0) * MS_PER_S) / bytesPerS;
    this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + delayMs + jitter) + travelMs;
    this.#waiting.push({ bytes, dueMs: this.#lastDueMs });
    this.#waitingBytes += bytes?.length ?? 0;
    this.#forwardDue();
  }

  #forwardDue(): void {
    for (let [next] = this.#waiting; next !== undefined && !this.#stopped; [next] = this.#waiting) {
      if (this.#timer !== undefined || this.#network.faults().stalled.includes(this.#direction)) break;
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.wake(), waitMs);
        break;
      }
      this.#waiting.shift();
      this.#waitingBytes -= next.bytes?.length ?? 0;
      this.#forward(next.bytes);
    }
    this.#applyBackpressure();
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
  #applyBackpressure(): void {
    if (this.#stopped) return;
    const full = this.#waitingBytes + this.#to.writableLength > MAX_WAITING_BYTES;
    if (full && !this.#from.isPaused()) this.#from.pause();
    else if (!full && this.#from.isPaused()) this.#from.resume();
  }
}

function ignore(): void {
  // The refused client has closed the connection.
}
