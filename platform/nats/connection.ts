/**
 * A connection to NATS. Only this folder imports the `nats` package, and callers see none of its errors: a retryable failure is
 * a `NatsUnavailableError`.
 */

import { connect, Events, type Msg, type NatsConnection, headers as natsHeaders } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import { credsAuthenticator } from './creds.ts';

/** Pause between attempts to reconnect. */
const RECONNECT_WAIT_MS = 250;
/** The client pings the server at this interval, and reconnects when `MAX_PINGS_OUT` answers are missing. */
const PING_INTERVAL_MS = 5_000;
const MAX_PINGS_OUT = 3;

export type Headers = Readonly<Record<string, string>>;

export interface NatsOptions {
  /** Server URLs, separated by commas. */
  readonly url: string;
  /** The text of a creds file. */
  readonly creds?: string;
  /** The name of the connection in the monitoring of the server. */
  readonly name: string;
  /** Prefix of the private inbox; needed where the account allows only that. */
  readonly inboxPrefix?: string;
  /** Keep trying when the first connection fails. @default false */
  readonly waitOnFirstConnect?: boolean;
  readonly log: Log;
}

/** NATS is not reachable, refuses, or did not answer in time. Retryable. */
export class NatsUnavailableError extends Error {
  override readonly name = 'NatsUnavailableError';
}

/** The client has given its connection up, and does not reconnect. Terminal for the process. */
export class NatsClosedError extends Error {
  override readonly name = 'NatsClosedError';
}

export interface NatsMessage {
  readonly subject: string;
  readonly reply: string | undefined;
  readonly data: Uint8Array;
  header(name: string): string | undefined;
  respond(payload: string): void;
}

export class Nats {
  /** The client itself, for the adapter files in this folder only. */
  readonly client: NatsConnection;
  #connected = true;
  #isClosing = false;
  readonly #watchers = new Set<(connected: boolean) => void>();

  private constructor(client: NatsConnection, log: Log) {
    this.client = client;
    void this.#watch(log);
  }

  /** @throws NatsUnavailableError */
  static async connect(options: NatsOptions): Promise<Nats> {
    const { url, creds, name, inboxPrefix, waitOnFirstConnect = false, log } = options;
    try {
      const client = await connect({
        servers: url.split(','),
        name,
        ...(creds === undefined ? {} : { authenticator: credsAuthenticator(creds) }),
        ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
        waitOnFirstConnect,
        maxReconnectAttempts: -1,
        // Otherwise the client closes for good when the server refuses its credentials twice, as it may during a restart.
        ignoreAuthErrorAbort: true,
        reconnectTimeWait: RECONNECT_WAIT_MS,
        pingInterval: PING_INTERVAL_MS,
        maxPingOut: MAX_PINGS_OUT,
      });
      return new Nats(client, log);
    } catch (error) {
      throw new NatsUnavailableError(`no connection to NATS at ${url}: ${errorMessage(error)}`, { cause: error });
    }
  }

  get connected(): boolean {
    return this.#connected && !this.client.isClosed();
  }

  /**
   * Never resolves while the connection lives or is being restored. A process cannot work without it and ends.
   * @throws NatsClosedError when the client has closed for good, other than by `close`
   */
  async untilLost(): Promise<never> {
    const error = await this.client.closed();
    if (this.#isClosing) return new Promise<never>(() => undefined);
    throw new NatsClosedError('The NATS client has closed its connection for good. Start the process again.', {
      cause: error ?? undefined,
    });
  }

  /** Calls the watcher whenever the connection is lost or restored. @returns a function that removes the watcher */
  onConnection(watcher: (connected: boolean) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Sends a message without confirmation. @throws NatsUnavailableError when not connected */
  publish(subject: string, payload: string | Uint8Array, headers?: Headers): void {
    this.#requireConnection();
    this.client.publish(subject, payload, headers === undefined ? {} : { headers: toNatsHeaders(headers) });
  }

  /** Sends a request whose answer arrives on the subject `reply`. @throws NatsUnavailableError when not connected */
  publishRequest(subject: string, payload: string | Uint8Array, reply: string): void {
    this.#requireConnection();
    this.client.publish(subject, payload, { reply });
  }

  /** Sends a request and waits for one answer. @throws NatsUnavailableError */
  async request(
    subject: string,
    payload: string | Uint8Array,
    { timeoutMs, headers }: { readonly timeoutMs: number; readonly headers?: Headers },
  ): Promise<NatsMessage> {
    this.#requireConnection();
    try {
      const options = { timeout: timeoutMs, ...(headers === undefined ? {} : { headers: toNatsHeaders(headers) }) };
      return toMessage(await this.client.request(subject, payload, options));
    } catch (error) {
      throw new NatsUnavailableError(`no answer on ${subject}: ${errorMessage(error)}`, { cause: error });
    }
  }

  /**
   * Passes every message on a subject to `handle`, which must not throw. Of the subscribers with the same `queue`, one gets each message.
   * @returns a function that unsubscribes
   */
  subscribe(subject: string, handle: (message: NatsMessage) => void, queue?: string): () => void {
    const subscription = this.client.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        if (error === null) handle(toMessage(message));
      },
    });
    return () => subscription.unsubscribe();
  }

  /** Waits until the server has received every message that was sent. */
  async flush(): Promise<void> {
    await this.client.flush();
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.client.close();
  }

  #requireConnection(): void {
    if (!this.connected)
      throw new NatsUnavailableError('The connection to NATS is down. Nothing was sent; retry later.');
  }

  async #watch(log: Log): Promise<void> {
    for await (const status of this.client.status()) {
      if (status.type === Events.Disconnect) this.#notifyWatchers(false, log);
      if (status.type === Events.Reconnect) this.#notifyWatchers(true, log);
    }
  }

  #notifyWatchers(connected: boolean, log: Log): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    log[connected ? 'info' : 'warn'](
      connected ? 'The connection to NATS is restored.' : 'The connection to NATS is lost; the client reconnects.',
    );
    for (const watcher of this.#watchers) watcher(connected);
  }
}

export function toNatsHeaders(headers: Headers) {
  const result = natsHeaders();
  for (const [name, value] of Object.entries(headers)) result.append(name, value);
  return result;
}

export function toMessage(message: Msg): NatsMessage {
  return {
    subject: message.subject,
    reply: message.reply,
    data: message.data,
    header: (name) => message.headers?.get(name) || undefined,
    respond: (payload) => {
      message.respond(payload);
    },
  };
}
