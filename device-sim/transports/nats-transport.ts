/**
 * The connection of a unit to NATS, with the credentials of the unit. The transport keeps the connection open while the unit
 * is online and registered. The NATS client reconnects by itself after an interruption. The transport replaces a connection that
 * stays interrupted for more than a heartbeat interval, because the client closes it for good when the server rejects its credentials.
 */

import type { LimitFunction } from 'p-limit';
import { HEARTBEAT_INTERVAL_MS } from '../../domain/connectivity/connectivity.ts';
import { Nats, NatsUnavailableError } from '../../platform/nats/connection.ts';
import { unitCommandsSubject, unitHeartbeatSubject } from '../../platform/nats/subjects.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import type { Credentials } from '../unit/credentials.ts';
import type { UnitRequestHandler } from './request-handler.ts';

/** Exponential backoff between attempts to connect; jitter adds up to half of each wait. */
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;

export interface NatsTransportDependencies {
  readonly timers: Timers;
  readonly random: Random;
  /** Limits how many units of the fleet connect at the same moment. */
  readonly connectLimit: LimitFunction;
  readonly log: Log;
  /** The log of the NATS client. It is apart from `log`, since thousands of connections report each interruption. */
  readonly connectionLog: Log;
  /** Serves pings, commands and fetches on the unit's `.commands` subject. */
  readonly servesRequests: boolean;
  /** @default HEARTBEAT_INTERVAL_MS */
  readonly heartbeatIntervalMs?: number;
}

export class NatsTransport {
  readonly #unit: EmulatedUnit;
  readonly #requests: UnitRequestHandler;
  readonly #deps: NatsTransportDependencies;
  readonly #connectedListeners = new Set<() => void>();
  #nats: Nats | undefined;
  #connecting: Promise<void> | undefined;
  #failedAttempts = 0;
  #missedHeartbeats = 0;
  #cancelRetry: () => void = () => undefined;
  #isStopped = false;

  constructor(unit: EmulatedUnit, requests: UnitRequestHandler, deps: NatsTransportDependencies) {
    this.#unit = unit;
    this.#requests = requests;
    this.#deps = deps;
  }

  get isConnected(): boolean {
    return this.#nats?.connected === true;
  }

  start(): void {
    this.#unit.onChange((change) => {
      if (change === 'faults' || change === 'outage') this.#reconcile();
      if (change === 'credentials') void this.#replaceConnection();
    });
    this.#reconcile();
    const { timers, random, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS } = this.#deps;
    timers.after(random.between(0, heartbeatIntervalMs), () => this.#sendHeartbeat());
  }

  /** Calls `listener` each time a connection is established. */
  onConnected(listener: () => void): void {
    this.#connectedListeners.add(listener);
  }

  /** @throws NatsUnavailableError when the unit is not connected, or gets no answer in time */
  request(subject: string, payload: string, timeoutMs: number) {
    if (this.#nats === undefined) {
      throw new NatsUnavailableError(`Unit ${this.#unit.name} is not connected to NATS.`);
    }
    return this.#nats.request(subject, payload, { timeoutMs });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelRetry();
    await this.#connecting;
    await this.#disconnect();
  }

  #shouldBeConnected(): boolean {
    return !this.#isStopped && !this.#unit.isOffline && this.#unit.credentials !== undefined;
  }

  /** Connects or disconnects the unit, as its faults and credentials require. */
  #reconcile(): void {
    if (!this.#shouldBeConnected()) {
      this.#cancelRetry();
      this.#unit.setCutOff(true);
      void this.#disconnect();
    } else if (this.#nats === undefined && this.#connecting === undefined) {
      this.#cancelRetry();
      this.#failedAttempts = 0;
      this.#connect();
    }
  }

  async #replaceConnection(): Promise<void> {
    await this.#disconnect();
    this.#reconcile();
  }

  async #disconnect(): Promise<void> {
    const nats = this.#nats;
    this.#nats = undefined;
    await nats?.close();
  }

  #connect(): void {
    const { credentials } = this.#unit;
    if (this.#connecting !== undefined || this.#nats !== undefined || credentials === undefined) return;
    const attempt = this.#deps.connectLimit(() => this.#attemptConnection(credentials));
    this.#connecting = attempt.then((hasFailed) => {
      this.#connecting = undefined;
      // Faults or credentials may have changed during the attempt.
      if (!hasFailed) this.#reconcile();
    });
  }

  /** @returns whether the attempt failed; the next attempt is scheduled then */
  async #attemptConnection(credentials: Credentials): Promise<boolean> {
    const { connectionLog: log, timers, random } = this.#deps;
    const { natsUrl: url, natsCreds: creds, natsInboxPrefix: inboxPrefix } = credentials;
    // The unit may have gone offline while the attempt waited for the limit.
    if (!this.#shouldBeConnected()) return false;
    try {
      const name = this.#unit.name;
      const nats = await Nats.connect({ url, name, inboxPrefix, log, ...(creds === '' ? {} : { creds }) });
      await this.#useConnection(nats, credentials);
      return false;
    } catch (error) {
      if (!(error instanceof NatsUnavailableError)) throw error;
      log.debug('A simulated unit cannot connect to NATS. It retries with exponential backoff.', {
        unit: this.#unit.name,
        error,
      });
      this.#unit.setCutOff(true);
      this.#failedAttempts += 1;
      const waitMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#failedAttempts - 1));
      this.#cancelRetry = timers.after(waitMs + random.between(0, waitMs / 2), () => this.#connect());
      return true;
    }
  }

  async #useConnection(nats: Nats, credentials: Credentials): Promise<void> {
    if (!this.#shouldBeConnected() || this.#unit.credentials !== credentials) {
      await nats.close();
      return;
    }
    this.#nats = nats;
    this.#failedAttempts = 0;
    this.#missedHeartbeats = 0;
    nats.onConnection((isConnected) => {
      if (this.#nats !== nats) return;
      this.#unit.setCutOff(!isConnected);
      if (isConnected) this.#notifyConnected();
    });
    if (this.#deps.servesRequests) {
      nats.subscribe(unitCommandsSubject(this.#unit.name), (message) => {
        void this.#answer(message.data, message.respond);
      });
    }
    this.#unit.setCutOff(false);
    this.#notifyConnected();
  }

  async #answer(request: Uint8Array, respond: (payload: string) => void): Promise<void> {
    const { log, timers, random } = this.#deps;
    const { faults } = this.#unit;
    if (isMessageLost(faults, random)) return;
    const waitMs = networkDelayMs(faults, random);
    try {
      await timers.pause(waitMs / 2);
      const answer = await this.#requests.handleNatsRequest(request);
      await timers.pause(waitMs / 2);
      if (answer !== undefined && this.isConnected && !isMessageLost(faults, random)) respond(answer.body);
    } catch (error) {
      log.error('A simulated unit failed to answer a NATS request. It does not reply.', {
        unit: this.#unit.name,
        error,
      });
    }
  }

  #notifyConnected(): void {
    for (const listener of this.#connectedListeners) listener();
  }

  #sendHeartbeat(): void {
    const { timers, random, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS } = this.#deps;
    timers.after(heartbeatIntervalMs, () => this.#sendHeartbeat());
    const nats = this.#nats;
    if (nats === undefined) return;
    if (!nats.connected) {
      this.#missedHeartbeats += 1;
      if (this.#missedHeartbeats > 1) void this.#replaceConnection();
      return;
    }
    this.#missedHeartbeats = 0;
    if (!isMessageLost(this.#unit.faults, random)) {
      nats.publish(unitHeartbeatSubject(this.#unit.name), JSON.stringify(this.#unit.status()));
    }
  }
}
