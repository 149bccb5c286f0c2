/**
 * The connectivity tracker turns evidence of every kind into events: one for each transition of a unit between online and offline.
 *
 * The tracker keeps a belief about each unit (`unit-liveness.ts`), in columns by unit index. The unit's `connectivity` subject is
 * authoritative: a transition is decided on the folded unit and appended with its expected version, so that two processes which
 * own a unit for a moment cannot record it twice. The tracker does not queue a decision that fails; the next evidence repeats it.
 */

import {
  type Connectivity,
  HEARTBEAT_INTERVAL_MS,
  markUnitOffline,
  markUnitOnline,
} from '../../domain/connectivity/connectivity.ts';
import type { EventDraft } from '../../domain/events/drafts.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../domain/vocabulary.ts';
import { FailureLog } from '../../platform/observability/failure-log.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import type { Clock } from '../runtime/clock.ts';
import { TaskSet } from '../runtime/task-set.ts';
import type { UnitIndex } from '../units/unit-index.ts';
import { FlapDamper } from './flap-damper.ts';
import { LivenessTable } from './liveness-table.ts';
import { type Outage, OutageDetector } from './outage-detector.ts';
import {
  type BelievedStatus,
  dueTransition,
  type Evidence,
  UNKNOWN_LIVENESS,
  type UnitLiveness,
  withMiss,
  withoutMisses,
  withProof,
  withRecordedStatus,
  withSilence,
  withUnknownStatus,
} from './unit-liveness.ts';

/** Most decisions in flight. Further decisions are dropped, and the next evidence of their unit repeats them. */
const MAX_DECISIONS_IN_FLIGHT = 256;
/** How far the read model may lag behind a transition. */
const READ_MODEL_LAG_MS = 10_000;

const ACTOR = 'platform:pinger';
const SOURCE = '/lockfleet/pinger';

export interface ConnectivityTrackerOptions {
  readonly unitIndex: Pick<UnitIndex, 'capacity' | 'nameOf'>;
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Missed pings in a row, or intervals without a heartbeat, that make a unit offline. */
  readonly failuresToOffline: number;
  readonly newId: () => string;
  readonly clock: Clock;
  /** A clock of silence, in milliseconds: it advances only while this process could receive heartbeats. */
  readonly heartbeatListeningMs: () => number;
  /** The last proof of a unit in other processes, milliseconds since 1970; asked before a unit goes offline. */
  readonly lastProofElsewhereMs?: (unit: string) => Promise<number | undefined>;
  readonly log: Log;
}

type Transition = 'online' | 'offline';

export class ConnectivityTracker {
  readonly #options: ConnectivityTrackerOptions;
  readonly #liveness: LivenessTable;
  /** By unit: 1 when the tracker monitors it. */
  readonly #isMonitored: Uint8Array;
  /** By unit: the first hex letter of the hash of its name, as a number. */
  readonly #letters: Uint8Array;
  /** By unit: `heartbeatListeningMs` at its last proof. */
  readonly #lastProofListeningMs: Float64Array;
  /** By unit: when the tracker last set its status, on the monotonic clock. */
  readonly #decidedMs: Float64Array;
  /** By unit: since when it has its status in the event log, milliseconds since 1970; 0 before the first decision. */
  readonly #loggedSinceMs: Float64Array;
  /** By unit: 1 while a decision is in flight. */
  readonly #isDeciding: Uint8Array;
  /** By index: how many units have left it. A decision may end when another unit has its index. */
  readonly #generations: Uint32Array;
  readonly #counts: Record<BelievedStatus, number> = { unknown: 0, 'never-seen': 0, online: 0, offline: 0 };
  readonly #decisions = new TaskSet();
  readonly #decisionFailures: FailureLog;
  readonly #outageDetector: OutageDetector;
  readonly #flapDamper: FlapDamper;
  #hadOutage = false;
  #stopped = false;

  constructor(options: ConnectivityTrackerOptions) {
    const { unitIndex, clock, log } = options;
    const { capacity } = unitIndex;
    this.#options = options;
    this.#liveness = new LivenessTable(capacity);
    this.#isMonitored = new Uint8Array(capacity);
    this.#letters = new Uint8Array(capacity);
    this.#lastProofListeningMs = new Float64Array(capacity);
    this.#decidedMs = new Float64Array(capacity);
    this.#loggedSinceMs = new Float64Array(capacity);
    this.#isDeciding = new Uint8Array(capacity);
    this.#generations = new Uint32Array(capacity);
    this.#decisionFailures = new FailureLog({
      operation: 'recording that a unit went online or offline',
      consequence: 'The next ping or heartbeat of the unit repeats the decision.',
      log,
    });
    this.#outageDetector = new OutageDetector(clock.now);
    this.#flapDamper = new FlapDamper(capacity, clock.monotonic);
  }

  /** Monitors a unit. `hash`: of its name. `status`: its status in the read model, believed until evidence contradicts it. */
  add(index: number, hash: string, status?: Connectivity['status']): void {
    if (this.#isMonitored[index] === 1) return;
    const { heartbeatListeningMs, clock } = this.#options;
    this.#isMonitored[index] = 1;
    this.#letters[index] = Number.parseInt(hash.slice(0, 1), 16);
    this.#lastProofListeningMs[index] = heartbeatListeningMs();
    this.#decidedMs[index] = clock.monotonic();
    this.#loggedSinceMs[index] = 0;
    this.#isDeciding[index] = 0;
    this.#liveness.write(index, UNKNOWN_LIVENESS);
    this.#counts[UNKNOWN_LIVENESS.status] += 1;
    if (status !== undefined) this.#update(index, withRecordedStatus(UNKNOWN_LIVENESS, status));
  }

  remove(index: number): void {
    if (this.#isMonitored[index] !== 1) return;
    this.#flapDamper.reset(index);
    this.#update(index, UNKNOWN_LIVENESS);
    this.#counts[UNKNOWN_LIVENESS.status] -= 1;
    this.#isMonitored[index] = 0;
    this.#generations[index] = (this.#generations[index] ?? 0) + 1;
  }

  /** Compares the belief with the read model's status. After a lasting difference the next evidence asks the event log. */
  compareWithReadModel(index: number, status: Connectivity['status']): void {
    if (this.#isMonitored[index] !== 1) return;
    const believed = this.#liveness.status(index);
    if (believed === 'unknown' || believed === status) return;
    const unchangedMs = this.#options.clock.monotonic() - (this.#decidedMs[index] ?? 0);
    if (unchangedMs > READ_MODEL_LAG_MS) this.#update(index, withUnknownStatus(this.#liveness.read(index)));
  }

  /** Nothing can prove the unit alive now, and nothing has: its status is unknown until the next evidence. */
  withdrawStatus(index: number): void {
    if (this.#isMonitored[index] !== 1 || this.#liveness.status(index) !== 'online') return;
    if (this.#liveness.lastProof(index) === undefined)
      this.#update(index, withUnknownStatus(this.#liveness.read(index)));
  }

  /** Records a proof that a unit is alive. `atMs`: milliseconds since 1970. */
  recordProof(index: number, evidence: Evidence, atMs: number): void {
    if (this.#isMonitored[index] !== 1) return;
    const { heartbeatListeningMs, failuresToOffline } = this.#options;
    this.#lastProofListeningMs[index] = heartbeatListeningMs();
    const provenMs = this.#toMonotonic(atMs);
    if (this.#liveness.refreshProof(index, evidence, provenMs)) return;
    this.#update(index, withProof(this.#liveness.read(index), { evidence, atMs: provenMs }, failuresToOffline));
    this.#decideIfDue(index);
  }

  /** Records that a unit did not answer a scheduled ping. `sentAtMs`: milliseconds since 1970. */
  recordMiss(index: number, sentAtMs: number): void {
    if (this.#isMonitored[index] !== 1) return;
    this.#update(index, withMiss(this.#liveness.read(index), this.#toMonotonic(sentAtMs)));
    this.#decideIfDue(index);
  }

  /** Checks whether a unit that proves itself by heartbeats only has been silent for `failuresToOffline` heartbeat intervals. */
  checkSilence(index: number): void {
    if (this.#isMonitored[index] !== 1) return;
    const { heartbeatListeningMs, clock, failuresToOffline } = this.#options;
    const silenceMs = heartbeatListeningMs() - (this.#lastProofListeningMs[index] ?? 0);
    if (silenceMs <= failuresToOffline * HEARTBEAT_INTERVAL_MS) return;
    this.#update(index, withSilence(this.#liveness.read(index), clock.monotonic() - silenceMs));
    this.#decideIfDue(index);
  }

  /** Whether missed pings of a unit do not count, so that only silence makes it offline. */
  ignoresMisses(index: number): boolean {
    return this.#isMonitored[index] === 1 && !this.#liveness.areMissesCounted(index);
  }

  /** The last proof of a unit. `atMs`: milliseconds since 1970. */
  lastProof(index: number): { readonly evidence: Evidence; readonly atMs: number } | undefined {
    const proof = this.#isMonitored[index] === 1 ? this.#liveness.lastProof(index) : undefined;
    return proof && { evidence: proof.evidence, atMs: this.#toSystemTime(proof.atMs) };
  }

  isFlapping(index: number): boolean {
    return this.#flapDamper.isFlapping(index);
  }

  /** How many units flap. */
  get flapping(): number {
    return this.#flapDamper.count;
  }

  outages(): Outage[] {
    return this.#outageDetector.outages();
  }

  /** How many units are in each believed status. */
  states(): Record<BelievedStatus, number> {
    return { ...this.#counts };
  }

  /** Starts no further decisions, and waits for those in flight. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#decisions.settled();
  }

  /**
   * Converts milliseconds since 1970 to the monotonic clock, so that a later jump of the system clock does not change the age of a
   * proof. A time in the future counts as the present.
   */
  #toMonotonic(atMs: number): number {
    const { clock } = this.#options;
    return clock.monotonic() - Math.max(0, clock.now() - atMs);
  }

  /** Converts a moment of the monotonic clock to milliseconds since 1970. */
  #toSystemTime(monotonicMs: number): number {
    const { clock } = this.#options;
    return Math.round(clock.now() - (clock.monotonic() - monotonicMs));
  }

  /** Writes what is known about a unit, and adjusts all counts. */
  #update(index: number, liveness: UnitLiveness): void {
    const before = this.#liveness.read(index);
    this.#liveness.write(index, liveness);
    this.#counts[before.status] -= 1;
    this.#counts[liveness.status] += 1;
    const [wasOnline, isOnline] = [before.status === 'online', liveness.status === 'online'];
    const online = Number(isOnline) - Number(wasOnline);
    const missing = Number(isOnline && isMissing(liveness)) - Number(wasOnline && isMissing(before));
    if (online !== 0 || missing !== 0) this.#outageDetector.adjustCounts(this.#letters[index] ?? 0, online, missing);
  }

  /** Starts a decision when the evidence demands a transition and none is in flight for the unit. */
  #decideIfDue(index: number): void {
    if (this.#stopped || this.#isDeciding[index] === 1 || this.#decisions.size >= MAX_DECISIONS_IN_FLIGHT) return;
    const unit = this.#options.unitIndex.nameOf(index);
    const transition = this.#dueTransition(index);
    if (unit === undefined || transition === undefined) return;
    if (transition === 'offline' && this.#isInOutage(index)) return;
    const generation = this.#generations[index];
    const isStillMonitored = () => this.#isMonitored[index] === 1 && this.#generations[index] === generation;
    this.#isDeciding[index] = 1;
    const decision = this.#decide({ unit, index, isStillMonitored }, transition);
    this.#decisions.add(decision);
    void decision.then((hasDecided) => {
      if (!isStillMonitored()) return;
      this.#isDeciding[index] = 0;
      // Evidence that arrived during the decision may demand the opposite transition.
      if (hasDecided && this.#dueTransition(index) !== transition) this.#decideIfDue(index);
    });
  }

  #dueTransition(index: number): Transition | undefined {
    const { failuresToOffline } = this.#options;
    return dueTransition(this.#liveness.read(index), this.#flapDamper.failuresToOffline(index, failuresToOffline));
  }

  /** Whether a unit is missing in an outage. Logs when the first outage begins and when the last one ends. */
  #isInOutage(index: number): boolean {
    const { hasOutage } = this.#outageDetector;
    const { log } = this.#options;
    if (hasOutage && !this.#hadOutage) {
      log.error(
        'Too many units disappeared at once: the network or the machine of the platform may have failed. No unit of an outage ' +
          'goes offline until it ends. Check the network of the pinger.',
        { outages: this.#outageDetector.outages() },
      );
    }
    if (!hasOutage && this.#hadOutage) log.info('The outage is over. Units that do not answer go offline again.');
    this.#hadOutage = hasOutage;
    return this.#outageDetector.isOutage(this.#letters[index] ?? 0);
  }

  /** Never rejects. @returns whether the event log, or another process, decided; false when neither could be asked */
  async #decide({ unit, index, isStillMonitored }: DecisionSubject, transition: Transition): Promise<boolean> {
    const { decider, newId, clock } = this.#options;
    const meta = { commandId: newId(), actor: ACTOR, source: SOURCE };
    let isRefuted = false;
    try {
      if (transition === 'offline' && (await this.#isProvenElsewhere(unit, index))) return true;
      if (!isStillMonitored()) return true;
      const { state, appended } = await decider.decide(unit, 'connectivity', meta, (present) => {
        const liveness = this.#liveness.read(index);
        // A proof may have come while other processes were asked, or while the decision waited for its state.
        if (transition === 'offline' && !(isStillMonitored() && this.#dueTransition(index) === 'offline')) return [];
        isRefuted = transition === 'offline' && this.#isRefutedByLog(index, liveness, present);
        if (isRefuted || present.registry.status !== 'registered') return [];
        return transition === 'online'
          ? decideOnline(liveness, present, clock.now())
          : decideOffline(liveness, present, (provenMs) => this.#toSystemTime(provenMs));
      });
      this.#decisionFailures.recordSuccess();
      if (!isStillMonitored()) return true;
      if (appended && transition === 'offline') this.#flapDamper.recordOffline(index);
      const latest = this.#liveness.read(index);
      this.#update(index, isRefuted ? withoutMisses(latest) : withRecordedStatus(latest, state.connectivity.status));
      this.#loggedSinceMs[index] = statusSinceMs(state);
      this.#decidedMs[index] = clock.monotonic();
    } catch (error) {
      this.#decisionFailures.recordFailure(error);
      return false;
    }
    return true;
  }

  /** Whether another process has a proof of the unit that is newer than its misses here. The misses then do not count. */
  async #isProvenElsewhere(unit: string, index: number): Promise<boolean> {
    const provenAtMs = await this.#options.lastProofElsewhereMs?.(unit).catch(() => undefined);
    if (this.#options.unitIndex.nameOf(index) !== unit) return false;
    const liveness = this.#liveness.read(index);
    const { missingSinceMs } = liveness;
    if (provenAtMs === undefined || missingSinceMs === undefined) return false;
    if (this.#toMonotonic(provenAtMs) <= missingSinceMs) return false;
    this.#update(index, { ...withoutMisses(liveness), status: liveness.status });
    return true;
  }

  /**
   * Whether the event log says that the unit went online after its first miss here. A status that this tracker has seen before
   * does not count: only after a step back of the system clock does it look later than the misses.
   */
  #isRefutedByLog(index: number, { missingSinceMs }: UnitLiveness, state: UnitState): boolean {
    if (state.connectivity.status !== 'online' || missingSinceMs === undefined) return false;
    const sinceMs = statusSinceMs(state);
    return sinceMs !== this.#loggedSinceMs[index] && this.#toMonotonic(sinceMs) > missingSinceMs;
  }
}

interface DecisionSubject {
  readonly unit: string;
  readonly index: number;
  /** Whether the index still belongs to this unit. */
  readonly isStillMonitored: () => boolean;
}

function isMissing({ misses, isSilent }: UnitLiveness): boolean {
  return misses > 0 || isSilent;
}

function decideOnline({ lastProof }: UnitLiveness, { connectivity }: UnitState, nowMs: number): EventDraft[] {
  return lastProof === undefined ? [] : markUnitOnline(connectivity, lastProof.evidence, nowMs);
}

function decideOffline(
  { misses, lastProof }: UnitLiveness,
  { connectivity }: UnitState,
  toSystemTime: (monotonicMs: number) => number,
): EventDraft[] {
  if (connectivity.status !== 'online') return [];
  const provenAtMs = lastProof === undefined ? 0 : toSystemTime(lastProof.atMs);
  return markUnitOffline(connectivity, Math.max(1, misses), toInstant(Math.max(provenAtMs, toMs(connectivity.since))));
}

/** Milliseconds since 1970; 0 for a unit that was never seen. */
function statusSinceMs({ connectivity }: UnitState): number {
  return connectivity.status === 'never-seen' ? 0 : toMs(connectivity.since);
}
