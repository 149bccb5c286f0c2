/**
 * Distinguishes a unit that refuses a connection from a machine that cannot open one. Bun reports ECONNREFUSED in both cases,
 * whether descriptors, ports, memory or buffers are missing; a connection of the process to itself needs all of them.
 */

import { type AddressInfo, connect, createServer } from 'node:net';

/** Minimum time between the end of one attempt and the start of the next; callers in between share the next attempt. */
const MIN_PAUSE_MS = 100;
const TIMEOUT_MS = 200;
const HOST = '127.0.0.1';

export class SelfConnectCheck {
  readonly #attempt: () => Promise<boolean>;
  #lastAttempt: Promise<unknown> = Promise.resolve();
  #nextAttempt: Promise<boolean> | undefined;

  /** `attempt`: makes one attempt. Tests replace it. @default a TCP connection of this process to itself */
  constructor(attempt: () => Promise<boolean> = connectToSelf) {
    this.#attempt = attempt;
  }

  /** @returns whether this process can open a connection, by an attempt that begins after the call */
  canConnect(): Promise<boolean> {
    this.#nextAttempt ??= this.#lastAttempt.then(() => {
      this.#nextAttempt = undefined;
      const attempt = this.#attempt();
      this.#lastAttempt = attempt.then(() => Bun.sleep(MIN_PAUSE_MS));
      return attempt;
    });
    return this.#nextAttempt;
  }
}

function connectToSelf(): Promise<boolean> {
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
