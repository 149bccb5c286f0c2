/**
 * One running unit. It takes decisions one after another in memory, writes each to the store, and answers only after the
 * commit: neither the platform nor the control API ever sees a state that a crash could undo. `model` is the state
 * of the last commit.
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

export type UnitChange = 'entries' | 'faults' | 'outage' | 'credentials';

export interface UnitDependencies {
  readonly store: FleetStore;
  readonly clock: Clock;
  /** A new UUIDv7 at every call. */
  readonly newId: () => string;
  readonly metrics: FleetMetrics;
  /** The configuration of a unit before its first `applyConfiguration`, and after its store was wiped. */
  readonly factoryConfiguration: VersionedConfiguration;
  /** Most unrecorded events that a unit keeps. */
  readonly maxUnrecordedEvents: number;
}

export class EmulatedUnit {
  readonly name: string;
  /** host:port. */
  readonly address: string;
  readonly #id: number;
  readonly #deps: UnitDependencies;
  #credentials: Credentials | undefined;
  #faults: Faults;
  /** The state after the last decision, which may still wait for its commit. */
  #latest: UnitModel;
  /** The state of the last commit. */
  #durable: UnitModel;
  #hasOutage = false;
  #isCutOff = false;
  #wasPinged = false;
  readonly #changeListeners = new Set<(change: UnitChange) => void>();

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

  /** The state of the last commit. */
  get model(): UnitModel {
    return this.#durable;
  }

  get faults(): Faults {
    return this.#faults;
  }

  /** Whether the unit has no network: by its fault `offline`, or by an outage of a scenario. */
  get isOffline(): boolean {
    return this.#faults.offline || this.#hasOutage;
  }

  /** Undefined before the unit is registered. */
  get credentials(): Credentials | undefined {
    return this.#credentials;
  }

  /** Whether the platform has pinged the unit since the simulator started. */
  get wasPinged(): boolean {
    return this.#wasPinged;
  }

  /** The unit's own clock: the clock of the simulator with the fault `clockSkewMs`. */
  nowMs(): number {
    return this.#deps.clock.nowMs() + this.#faults.clockSkewMs;
  }

  /** The content of a ping's answer and of a heartbeat. */
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

  /** Calls `listener` after each commit that appended to the log, and after each change of faults, outage or credentials. */
  onChange(listener: (change: UnitChange) => void): void {
    this.#changeListeners.add(listener);
  }

  /**
   * Takes a decision on the latest state. Resolves with the answer when every state that the answer depends on is durable.
   * @throws StoreError when the store cannot write, or is closed
   */
  async decide<A>(decision: (unit: UnitModel, context: DecisionContext) => Decision<A>): Promise<A> {
    const { store, metrics, maxUnrecordedEvents } = this.#deps;
    const before = this.#latest;
    const context = this.#decisionContext();
    const decided = boundLog(decision(before, context), context, maxUnrecordedEvents);
    if (decided.unit === before) {
      await store.settled();
      return decided.answer;
    }
    this.#latest = decided.unit;
    await store.saveDecision(this.#id, before, decided, () => {
      this.#durable = decided.unit;
      metrics.countCommit(before, decided.unit);
      if (decided.entries.length > 0) this.#notifyChange('entries');
    });
    return decided.answer;
  }

  reboot(): Promise<{ bootId: string }> {
    return this.decide(rebootUnit);
  }

  wipe(): Promise<{ epoch: string; bootId: string }> {
    return this.decide((unit, context) => wipeUnit(unit, this.#deps.factoryConfiguration, context));
  }

  /** Deletes the log up to the place that the platform has named recorded. */
  markRecorded(place: { readonly epoch: string; readonly seq: number }): Promise<void> {
    return this.#mark((unit) => markRecorded(unit, place));
  }

  /** Stores the place up to which JetStream has acknowledged the log. */
  markAcknowledged(epoch: string, seq: number): Promise<void> {
    return this.#mark((unit) => markAcknowledged(unit, epoch, seq));
  }

  /** The platform repeats both marks, so a mark may be lost when the store closes. */
  async #mark(decision: (unit: UnitModel) => Decision<null>): Promise<void> {
    try {
      await this.decide(decision);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  markPinged(): void {
    this.#wasPinged = true;
  }

  /** Sets whether the unit has no connection to the platform. While it has none, its events have `offline: true`. */
  setCutOff(isCutOff: boolean): void {
    this.#isCutOff = isCutOff;
  }

  /** Sets the named faults and leaves the others as they are. Resolves when the change is durable. */
  async setFaults(change: FaultChange): Promise<Faults> {
    this.#faults = { ...this.#faults, ...change };
    this.#notifyChange('faults');
    await this.#deps.store.saveFaults(this.#id, this.#faults);
    return this.#faults;
  }

  /** Lowers `loseNextAnswers` by one, at once. Resolves with whether the network loses the answer when the change is durable. */
  async loseAnswer(): Promise<boolean> {
    const { loseNextAnswers } = this.#faults;
    if (loseNextAnswers === 0) return false;
    await this.setFaults({ loseNextAnswers: loseNextAnswers - 1 });
    return true;
  }

  /** Begins or ends an outage of a scenario. The store does not keep it: an outage ends with the process at the latest. */
  setOutage(hasOutage: boolean): void {
    if (this.#hasOutage === hasOutage) return;
    this.#hasOutage = hasOutage;
    this.#notifyChange('outage');
  }

  async setCredentials(credentials: Credentials): Promise<void> {
    await this.#deps.store.saveCredentials(this.#id, credentials);
    this.#credentials = credentials;
    this.#notifyChange('credentials');
  }

  /** Durable log entries from `fromSeq` on as JSON texts, in order of `seq`. */
  entries(fromSeq: number, limit: number): { readonly epoch: UnitBatch['epoch']; readonly bodies: string[] } {
    return { epoch: this.#durable.log.epoch, bodies: this.#deps.store.readLog(this.#id, fromSeq, limit) };
  }

  #decisionContext(): DecisionContext {
    const { jammed, declinePayments, applying } = this.#faults;
    return {
      nowMs: this.nowMs(),
      newId: this.#deps.newId,
      isOffline: this.isOffline || this.#isCutOff,
      jammedLockers: new Set(jammed),
      doesTerminalDecline: declinePayments,
      configurationFault: applying,
    };
  }

  #notifyChange(change: UnitChange): void {
    for (const listener of this.#changeListeners) listener(change);
  }
}
