/**
 * The NATS probe sends a request on the unit's commands subject, with the content of `GET /ping`, and checks nonce and MAC of the
 * answer.
 */

import { randomBytes } from 'node:crypto';
import { Nats, type NatsMessage, type NatsOptions } from '../../platform/nats/connection.ts';
import { unitCommandsSubject } from '../../platform/nats/subjects.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import { natsPing } from '../../platform/unit-protocol/ping.ts';
import { KEY_BYTES, NONCE_BYTES, type UnitTable } from '../units/unit-table.ts';
import { readJsonReply } from './json-reply.ts';
import type { Probe, ProbeListener } from './probe.ts';

const INBOX_BYTES = 12;

export interface NatsProbeOptions {
  readonly nats: Pick<NatsOptions, 'url' | 'creds'>;
  readonly table: UnitTable;
  readonly listener: ProbeListener;
  readonly log: Log;
}

export class NatsProbe implements Probe {
  readonly #options: NatsProbeOptions;
  /** Units answer to `<inbox>.<index of the unit>.<nonce>`. */
  readonly #inbox = `_INBOX.${randomBytes(INBOX_BYTES).toString('hex')}`;
  /** The nonce of each ping in flight, by unit. */
  readonly #nonces = new Map<number, string>();
  readonly #key = Buffer.alloc(KEY_BYTES);
  #nats: Nats | undefined;
  #connecting: Promise<void> | undefined;

  constructor(options: NatsProbeOptions) {
    this.#options = options;
  }

  send(units: Uint32Array): void {
    if (units.length > 0) this.#connecting ??= this.#connect();
    for (const unit of units) this.#ping(unit);
  }

  cancel(unit: number): void {
    this.#nonces.delete(unit);
  }

  async close(): Promise<void> {
    await this.#connecting;
    await this.#nats?.close();
  }

  /** The first ping opens the connection of this thread, because most pingers have no units with this probe. */
  async #connect(): Promise<void> {
    const { nats: server, log } = this.#options;
    try {
      const nats = await Nats.connect({ ...server, name: 'pinger', waitOnFirstConnect: true, log });
      nats.subscribe(`${this.#inbox}.*.*`, (message) => this.#receive(message));
      this.#nats = nats;
    } catch (error) {
      log.warn('The NATS probe could not connect. Pings over NATS are discarded until the next slot connects.', {
        reason: errorMessage(error),
      });
      this.#connecting = undefined;
    }
  }

  #ping(unit: number): void {
    const { table, listener } = this.#options;
    listener.onSent(unit, listener.monotonic());
    if (this.#nats?.connected !== true) {
      listener.onUnsent(unit);
      return;
    }
    const [name, nonce] = [table.name(unit), randomBytes(NONCE_BYTES).toString('hex')];
    const recorded = table.recorded(unit);
    const request = { unit: name, nonce, clockMs: Math.round(listener.now()) };
    table.copyKey(unit, this.#key);
    const payload = natsPing(this.#key, recorded === undefined ? request : { ...request, recorded });
    this.#nonces.set(unit, nonce);
    this.#nats.publishRequest(unitCommandsSubject(name), payload, `${this.#inbox}.${unit}.${nonce}`);
  }

  #receive({ subject, data }: NatsMessage): void {
    const { table, listener } = this.#options;
    const arrivedMs = listener.monotonic();
    const [, , index = '', nonce = ''] = subject.split('.');
    const unit = Number(index);
    if (this.#nonces.get(unit) !== nonce) listener.onAnomaly('late');
    // The server answers without content when no unit subscribes to the subject.
    else if (data.length === 0) this.#endMissed(unit);
    else {
      table.copyKey(unit, this.#key);
      const reply = readJsonReply(table.name(unit), this.#key, nonce, data);
      if (reply === undefined) {
        listener.onForged(unit);
      } else {
        this.#nonces.delete(unit);
        listener.onAnswered(unit, reply, arrivedMs);
      }
    }
  }

  #endMissed(unit: number): void {
    this.#nonces.delete(unit);
    this.#options.listener.onMissed(unit);
  }
}
