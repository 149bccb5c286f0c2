/**
 * Tells a unit that refuses from a machine that has nothing left to connect with. Bun says of both ECONNREFUSED, whether it is
 * descriptors, memory or buffers that are missing; so the process connects to itself, which takes the same of all of them.
 */

import { type AddressInfo, connect, createServer } from 'node:net';

/** From the end of one attempt to the beginning of the next: what is asked meanwhile waits for that one. */
const MIN_PAUSE_MS = 100;
const TIMEOUT_MS = 200;
const HOST = '127.0.0.1';

export class SelfConnectCheck {
  readonly #connects: () => Promise<boolean>;
  #last: Promise<unknown> = Promise.resolve();
  #next: Promise<boolean> | undefined;

  /** `connects` makes one attempt, for tests. */
  constructor(connects: () => Promise<boolean> = connectsToItself) {
    this.#connects = connects;
  }

  /** Whether a connection can be had, by an attempt that begins after this call. */
  canConnect(): Promise<boolean> {
    this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      const answer = this.#connects();
      this.#last = answer.then(() => Bun.sleep(MIN_PAUSE_MS));
      return answer;
    });
    return this.#next;
  }
}

function connectsToItself(): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const deadline = setTimeout(() => resolve(false), TIMEOUT_MS);
  const fail = () => resolve(false);
  const server = createServer((accepted) => {
    accepted.on('error', fail);
    accepted.destroy();
  });
  server.on('error', fail);
  server.listen({ host: HOST, port: 0 }, () => {
    const { port } = server.address() as AddressInfo;
    const socket = connect({ host: HOST, port }, () => {
      resolve(true);
      socket.destroy();
    });
    socket.on('error', fail);
  });
  return promise.finally(() => {
    clearTimeout(deadline);
    server.close();
  });
}
