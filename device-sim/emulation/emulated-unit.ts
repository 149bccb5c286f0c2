/**
 * One unit at work: takes decisions one after another in memory, has them written, and lets nobody hear of anything that
 * is not durable. What the platform and the control API see is always `model`, the state of the last commit.
 */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import type { UnitBatch } from '../../domain/unit-protocol/batch.ts';
import type { PingReply } from '../../domain/unit-protocol/commands.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { Clock } from '../environment/clock.ts';
import type { FaultChange, Faults } from '../faults/faults.ts';
import type { FleetStore, StoredUnit } from '../store/fleet-store.ts';
import { StoreError } from '../store/group-commit.ts';
import type { Credentials } from '../unit/credentials.ts';
import { markAcknowledged, markRecorded, rebootUnit, wipeUnit } from '../unit/lifecycle.ts';
import { boundLog } from '../unit/log-bound.ts';
import type { Decision, DecisionContext, UnitModel } from '../unit/model.ts';
import type { FleetMetrics } from './fleet-metrics.ts';

const MS_PER_S = 1_000;

export type UnitChange = 'entries' | 'faults' | 'credentials';

export interface UnitDependencies {
  readonly store: FleetStore;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly metrics: FleetMetrics;
  /** What a unit runs before anybody configured it, and after its store was wiped. */
  readonly factoryConfiguration: VersionedConfiguration;
  /** Most events that a unit keeps for a platform that has not recorded them. */
  readonly maxUnrecordedEvents: number;
}

export class EmulatedUnit {
  readonly name: string;
  readonly address: string;
  readonly #id: number;
  readonly #deps: UnitDependencies;
  #credentials: Credentials | undefined;
  #faults: Faults;
  #latest: UnitModel;
  #durable: UnitModel;
  #cutOff = false;
  #pinged = false;
  readonly #watchers = new Set<(change: UnitChange) => void>();

  constructor(stored: StoredUnit, deps: UnitDependencies) {
    this.name = stored.model.name;
    this.address = stored.address;
    this.#id = stored.id;
    this.#deps = deps;
    this.#credentials = stored.credentials;
    this.#faults = stored.faults;
    this.#latest = stored.model;
    this.#durable = stored.model;
  }

  /** As of the last commit. */
  get model(): UnitModel {
    return this.#durable;
  }

  get faults(): Faults {
    return this.#faults;
  }

  get credentials(): Credentials | undefined {
    return this.#credentials;
  }

  /** The platform has pinged it since the simulator started. */
  get wasPinged(): boolean {
    return this.#pinged;
  }

  /** The unit's own clock. */
  nowMs(): number {
    return this.#deps.clock.nowMs() + this.#faults.clockSkewMs;
  }

  /** What it tells about itself in a ping's answer and in a heartbeat. */
  status(): PingReply {
    const { bootId, bootedAtMs, configuration, log } = this.#durable;
    const nowMs = this.nowMs();
    return {
      unit: this.name,
      bootId,
      uptimeS: Math.max(0, Math.floor((nowMs - bootedAtMs) / MS_PER_S)),
      configurationHash: configuration.hash,
      epoch: log.epoch,
      lastSeq: log.lastSeq,
      time: toInstant(nowMs),
    };
  }

  /** Calls back after every commit that added to the log, and when faults or credentials have changed. */
  onChange(watcher: (change: UnitChange) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Takes a decision. Resolves with its answer once everything that the answer rests on is durable. */
  async decide<A>(decision: (unit: UnitModel, around: DecisionContext) => Decision<A>): Promise<A> {
    const { store, metrics, maxUnrecordedEvents } = this.#deps;
    const before = this.#latest;
    const around = this.#surroundings();
    const taken = boundLog(decision(before, around), around, maxUnrecordedEvents);
    if (taken.unit === before) {
      await store.settled();
      return taken.answer;
    }
    this.#latest = taken.unit;
    await store.saveDecision(this.#id, before, taken, () => {
      this.#durable = taken.unit;
      metrics.countCommit(before, taken.unit);
      if (taken.entries.length > 0) this.#tell('entries');
    });
    return taken.answer;
  }

  reboot(): Promise<{ bootId: string }> {
    return this.decide(rebootUnit);
  }

  wipe(): Promise<{ epoch: string; bootId: string }> {
    return this.decide((unit, around) => wipeUnit(unit, this.#deps.factoryConfiguration, around));
  }

  /** The platform named a place recorded; nobody waits for the entries to go. */
  markRecorded(place: { readonly epoch: string; readonly seq: number }): Promise<void> {
    return this.#note((unit) => markRecorded(unit, place));
  }

  markAcknowledged(epoch: string, seq: number): Promise<void> {
    return this.#note((unit) => markAcknowledged(unit, epoch, seq));
  }

  /** What others have can be told again: a store that cannot keep it any more has said so itself. */
  async #note(decision: (unit: UnitModel) => Decision<null>): Promise<void> {
    try {
      await this.decide(decision);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  markPinged(): void {
    this.#pinged = true;
  }

  /** Whether the unit knows itself to be cut off: its events say so. */
  setCutOff(cutOff: boolean): void {
    this.#cutOff = cutOff;
  }

  /** Sets the faults that are named and leaves the others. */
  async setFaults(change: FaultChange): Promise<Faults> {
    this.#faults = { ...this.#faults, ...change };
    this.#tell('faults');
    await this.#deps.store.saveFaults(this.#id, this.#faults);
    return this.#faults;
  }

  async setCredentials(credentials: Credentials): Promise<void> {
    await this.#deps.store.saveCredentials(this.#id, credentials);
    this.#credentials = credentials;
    this.#tell('credentials');
  }

  /** Durable entries from `fromSeq` on, as JSON, in order. */
  entries(fromSeq: number, limit: number): { readonly epoch: UnitBatch['epoch']; readonly bodies: string[] } {
    return { epoch: this.#durable.log.epoch, bodies: this.#deps.store.readLog(this.#id, fromSeq, limit) };
  }

  #surroundings(): DecisionContext {
    const { jammed, declinePayments, applying, offline } = this.#faults;
    return {
      nowMs: this.nowMs(),
      newId: this.#deps.newId,
      isOffline: offline || this.#cutOff,
      jammedLockers: new Set(jammed),
      doesTerminalDecline: declinePayments,
      configurationFault: applying,
    };
  }

  #tell(change: UnitChange): void {
    for (const watcher of this.#watchers) watcher(change);
  }
}
