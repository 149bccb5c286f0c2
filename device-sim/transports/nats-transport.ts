/**
 * A unit's connection to NATS, with its own credentials: there when it can be, gone when the unit is offline. The client
 * comes back by itself after an interruption; a connection that stays away longer is dialled anew, since rotated
 * credentials close it for good.
 */

import { HEARTBEAT_INTERVAL_MS } from '../../domain/connectivity/connectivity.ts';
import { Nats, NatsUnavailableError } from '../../platform/nats/connection.ts';
import { unitCommandsSubject, unitHeartbeatSubject } from '../../platform/nats/subjects.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/clock.ts';
import type { Random } from '../environment/random.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import type { Credentials } from '../unit/credentials.ts';
import type { Gate } from './gate.ts';
import type { UnitRequestHandler } from './request-handler.ts';

/** Waits between attempts to connect: doubled from the first to the longest, each with up to half of it more. */
const FIRST_REDIAL_MS = 500;
const LONGEST_REDIAL_MS = 15_000;

export interface NatsTransportDependencies {
  readonly timers: Timers;
  readonly random: Random;
  /** Shared by the fleet. */
  readonly gate: Gate;
  readonly log: Log;
  /** What connections say when they come and go: thousands of them say it at once. */
  readonly connectionLog: Log;
  /** Listens for pings, commands or fetches: the unit cannot be reached at an address. */
  readonly servesRequests: boolean;
  /** @default HEARTBEAT_INTERVAL_MS */
  readonly heartbeatIntervalMs?: number;
}

export class NatsTransport {
  readonly #unit: EmulatedUnit;
  readonly #answers: UnitRequestHandler;
  readonly #deps: NatsTransportDependencies;
  readonly #upWatchers = new Set<() => void>();
  #nats: Nats | undefined;
  #dialling: Promise<void> | undefined;
  #failures = 0;
  #missedHeartbeats = 0;
  #cancelRedial: () => void = () => undefined;
  #stopped = false;

  constructor(unit: EmulatedUnit, answers: UnitRequestHandler, deps: NatsTransportDependencies) {
    this.#unit = unit;
    this.#answers = answers;
    this.#deps = deps;
  }

  get isConnected(): boolean {
    return this.#nats?.connected === true;
  }

  start(): void {
    this.#unit.onChange((change) => {
      if (change === 'faults') this.#reconcile();
      if (change === 'credentials') void this.#renew();
    });
    this.#reconcile();
    const { timers, random, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS } = this.#deps;
    timers.after(random.between(0, heartbeatIntervalMs), () => this.#beat());
  }

  /** Calls back each time the connection is there. */
  onConnected(watcher: () => void): void {
    this.#upWatchers.add(watcher);
  }

  /** @throws NatsUnavailableError */
  request(subject: string, payload: string, timeoutMs: number) {
    if (this.#nats === undefined) throw new NatsUnavailableError('the unit is not connected');
    return this.#nats.request(subject, payload, { timeoutMs });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelRedial();
    await this.#dialling;
    await this.#hangUp();
  }

  #wanted(): boolean {
    return !this.#stopped && !this.#unit.faults.offline && this.#unit.credentials !== undefined;
  }

  #reconcile(): void {
    if (!this.#wanted()) {
      this.#cancelRedial();
      this.#unit.setCutOff(true);
      void this.#hangUp();
    } else if (this.#nats === undefined && this.#dialling === undefined) {
      this.#cancelRedial();
      this.#failures = 0;
      this.#redial();
    }
  }

  async #renew(): Promise<void> {
    await this.#hangUp();
    this.#reconcile();
  }

  async #hangUp(): Promise<void> {
    const nats = this.#nats;
    this.#nats = undefined;
    await nats?.close();
  }

  #redial(): void {
    const { credentials } = this.#unit;
    if (this.#dialling !== undefined || this.#nats !== undefined || credentials === undefined) return;
    this.#dialling = this.#dial(credentials).then((failed) => {
      this.#dialling = undefined;
      // The wish may have changed while it was dialled.
      if (!failed) this.#reconcile();
    });
  }

  /** One attempt. When it failed, the next one is set. */
  async #dial(credentials: Credentials): Promise<boolean> {
    const { gate, connectionLog: log, timers, random } = this.#deps;
    const { natsUrl: url, natsCreds: creds, natsInboxPrefix: inboxPrefix } = credentials;
    const leave = await gate.enter();
    try {
      // Whoever waited at the gate may not be wanted any more.
      if (this.#wanted()) {
        const nats = await Nats.connect({
          url,
          name: this.#unit.name,
          inboxPrefix,
          log,
          ...(creds === '' ? {} : { creds }),
        });
        await this.#welcome(nats, credentials);
      }
      return false;
    } catch (error) {
      if (!(error instanceof NatsUnavailableError)) throw error;
      log.debug('cannot connect', { error });
      this.#unit.setCutOff(true);
      this.#failures += 1;
      const wait = Math.min(LONGEST_REDIAL_MS, FIRST_REDIAL_MS * 2 ** (this.#failures - 1));
      this.#cancelRedial = timers.after(wait + random.between(0, wait / 2), () => this.#redial());
      return true;
    } finally {
      leave();
    }
  }

  async #welcome(nats: Nats, credentials: Credentials): Promise<void> {
    if (!this.#wanted() || this.#unit.credentials !== credentials) {
      await nats.close();
      return;
    }
    this.#nats = nats;
    this.#failures = 0;
    this.#missedHeartbeats = 0;
    nats.onConnection((connected) => {
      if (this.#nats !== nats) return;
      this.#unit.setCutOff(!connected);
      if (connected) this.#tellUp();
    });
    if (this.#deps.servesRequests) {
      nats.subscribe(unitCommandsSubject(this.#unit.name), (message) => {
        void this.#answer(message.data, message.respond);
      });
    }
    this.#unit.setCutOff(false);
    this.#tellUp();
  }

  async #answer(request: Uint8Array, respond: (payload: string) => void): Promise<void> {
    const { log, timers, random } = this.#deps;
    const { faults } = this.#unit;
    if (isMessageLost(faults, random)) return;
    const waitMs = networkDelayMs(faults, random);
    try {
      await timers.pause(waitMs / 2);
      const answer = await this.#answers.handleNatsRequest(request);
      await timers.pause(waitMs / 2);
      if (answer !== undefined && this.isConnected && !isMessageLost(faults, random)) respond(answer.body);
    } catch (error) {
      log.error('a request could not be answered', { unit: this.#unit.name, error });
    }
  }

  #tellUp(): void {
    for (const watcher of this.#upWatchers) watcher();
  }

  #beat(): void {
    const { timers, random, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS } = this.#deps;
    timers.after(heartbeatIntervalMs, () => this.#beat());
    const nats = this.#nats;
    if (nats === undefined) return;
    if (!nats.connected) {
      this.#missedHeartbeats += 1;
      if (this.#missedHeartbeats > 1) void this.#renew();
      return;
    }
    this.#missedHeartbeats = 0;
    if (!isMessageLost(this.#unit.faults, random))
      nats.publish(unitHeartbeatSubject(this.#unit.name), JSON.stringify(this.#unit.status()));
  }
}
