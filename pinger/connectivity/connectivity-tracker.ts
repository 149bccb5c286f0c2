/**
 * Who is online: evidence of every kind comes in, and each transition becomes one event.
 *
 * What is kept per unit is a belief (`watch.ts`), in columns by its index; the truth is the unit's `connectivity` subject. A transition is decided
 * against the folded unit and guarded by its sequence, so two processes that own a unit for a moment cannot write two. A
 * decision that fails is not queued: the next evidence asks for it again.
 */

import {
  type Connectivity,
  HEARTBEAT_INTERVAL_MS,
  markUnitOffline,
  markUnitOnline,
} from '../../domain/connectivity/connectivity.ts';
import type { EventDraft } from '../../domain/events/envelope.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../domain/vocabulary.ts';
import { FailureLog } from '../../platform/observability/failure-log.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import type { Clock } from '../time/clock.ts';
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
  withMissesRefuted,
  withProof,
  withRecordedStatus,
  withSilence,
  withUnknownStatus,
} from './unit-liveness.ts';

/** Decisions that are under way at a moment. What comes beyond waits for its next evidence. */
const MAX_DECISIONS_UNDER_WAY = 256;
/** How far the read model may lag behind a transition. */
const READ_MODEL_LAG_MS = 10_000;

const ACTOR = 'platform:pinger';
const SOURCE = '/lockfleet/pinger';

export interface ConnectivityTrackerOptions {
  readonly unitIndex: Pick<UnitIndex, 'capacity' | 'nameOf'>;
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Missed pings, or missed heartbeats, in a row that make a unit offline. */
  readonly failuresToOffline: number;
  readonly newId: () => string;
  readonly clock: Clock;
  /** Milliseconds during which heartbeats could be heard: it stands still while this process does, or its NATS is away. */
  readonly heartbeatListeningMs: () => number;
  /** The last proof that other processes know of a unit, milliseconds since 1970; asked before it is called offline. */
  readonly lastProofElsewhereMs?: (unit: string) => Promise<number | undefined>;
  readonly log: Log;
}

export class ConnectivityTracker {
  readonly #options: ConnectivityTrackerOptions;
  readonly #watches: LivenessTable;
  readonly #isIn: Uint8Array;
  /** The first hex letter of the hash of the unit's name, as a number. */
  readonly #letters: Uint8Array;
  /** When it was last heard of, on the clock `attended`. */
  readonly #heardMs: Float64Array;
  /** When its status last changed here, on the clock that never jumps. */
  readonly #changedMs: Float64Array;
  /** Since when the unit is what it is, as the log was last heard to say, milliseconds since 1970; 0 before that. */
  readonly #loggedSinceMs: Float64Array;
  readonly #isDeciding: Uint8Array;
  /** Which of the units it is that have had this index: a decision may come back when another one has. */
  readonly #tenancies: Uint32Array;
  readonly #counts: Record<BelievedStatus, number> = { unknown: 0, 'never-seen': 0, online: 0, offline: 0 };
  readonly #underWay = new Set<Promise<void>>();
  readonly #store: FailureLog;
  readonly #vanishing: OutageDetector;
  readonly #flapping: FlapDamper;
  #wasOut = false;
  #stopped = false;

  constructor(options: ConnectivityTrackerOptions) {
    const { unitIndex: roster, clock, log } = options;
    const { capacity } = roster;
    this.#options = options;
    this.#watches = new LivenessTable(capacity);
    this.#isIn = new Uint8Array(capacity);
    this.#letters = new Uint8Array(capacity);
    this.#heardMs = new Float64Array(capacity);
    this.#changedMs = new Float64Array(capacity);
    this.#loggedSinceMs = new Float64Array(capacity);
    this.#isDeciding = new Uint8Array(capacity);
    this.#tenancies = new Uint32Array(capacity);
    this.#store = new FailureLog('recording who is online', log);
    this.#vanishing = new OutageDetector(clock.now);
    this.#flapping = new FlapDamper(clock.monotonic);
  }

  /** Watches a unit from now on. `hash`: of its name. `status`: what the read model says, believed until something else shows. */
  add(index: number, hash: string, status?: Connectivity['status']): void {
    if (this.#isIn[index] === 1) return;
    const { heartbeatListeningMs: attended, clock } = this.#options;
    this.#isIn[index] = 1;
    this.#letters[index] = Number.parseInt(hash.slice(0, 1), 16);
    this.#heardMs[index] = attended();
    this.#changedMs[index] = clock.monotonic();
    this.#loggedSinceMs[index] = 0;
    this.#isDeciding[index] = 0;
    this.#watches.write(index, UNKNOWN_LIVENESS);
    this.#counts[UNKNOWN_LIVENESS.status] += 1;
    if (status !== undefined) this.#become(index, withRecordedStatus(UNKNOWN_LIVENESS, status));
  }

  remove(index: number): void {
    if (this.#isIn[index] !== 1) return;
    const unit = this.#options.unitIndex.nameOf(index);
    if (unit !== undefined) this.#flapping.forget(unit);
    this.#become(index, UNKNOWN_LIVENESS);
    this.#counts[UNKNOWN_LIVENESS.status] -= 1;
    this.#isIn[index] = 0;
    this.#tenancies[index] = (this.#tenancies[index] ?? 0) + 1;
  }

  /** What the read model says of a unit; where that is not what is believed here, the log is asked again. */
  compareWithReadModel(index: number, status: Connectivity['status']): void {
    if (this.#isIn[index] !== 1) return;
    const believed = this.#watches.status(index);
    if (believed === 'unknown' || believed === status) return;
    const unchangedMs = this.#options.clock.monotonic() - (this.#changedMs[index] ?? 0);
    if (unchangedMs > READ_MODEL_LAG_MS) this.#become(index, withUnknownStatus(this.#watches.read(index)));
  }

  /** A unit has proved that it is there. `atMs`: milliseconds since 1970. */
  recordProof(index: number, evidence: Evidence, atMs: number): void {
    if (this.#isIn[index] !== 1) return;
    this.#heardMs[index] = this.#options.heartbeatListeningMs();
    const provenMs = this.#monotonicOf(atMs);
    if (this.#watches.refreshProof(index, evidence, provenMs)) return;
    this.#become(index, withProof(this.#watches.read(index), evidence, provenMs, this.#options.failuresToOffline));
    this.#act(index);
  }

  /** A ping was not answered. `sentAtMs`: milliseconds since 1970. */
  recordMiss(index: number, sentAtMs: number): void {
    if (this.#isIn[index] !== 1) return;
    this.#become(index, withMiss(this.#watches.read(index), this.#monotonicOf(sentAtMs)));
    this.#act(index);
  }

  /** Looks whether a unit that only heartbeats tell of has been silent for too long. */
  checkSilence(index: number): void {
    if (this.#isIn[index] !== 1) return;
    const { heartbeatListeningMs: attended, clock, failuresToOffline } = this.#options;
    const silenceMs = attended() - (this.#heardMs[index] ?? 0);
    if (silenceMs <= failuresToOffline * HEARTBEAT_INTERVAL_MS) return;
    this.#become(index, withSilence(this.#watches.read(index), clock.monotonic() - silenceMs));
    this.#act(index);
  }

  /** Whether missed pings say nothing about a unit, so that only silence does. */
  ignoresMisses(index: number): boolean {
    return this.#isIn[index] === 1 && !this.#watches.isPingEvidence(index);
  }

  /** The last proof of a unit, milliseconds since 1970. */
  lastProof(index: number): { readonly evidence: Evidence; readonly atMs: number } | undefined {
    const proof = this.#isIn[index] === 1 ? this.#watches.lastProof(index) : undefined;
    return proof && { evidence: proof.evidence, atMs: this.#timeOf(proof.atMs) };
  }

  isFlapping(unit: string): boolean {
    return this.#flapping.isFlapping(unit);
  }

  /** How many units flap. */
  get flapping(): number {
    return this.#flapping.count;
  }

  /** Where too many units are missing for it to be them. */
  outages(): Outage[] {
    return this.#vanishing.outages();
  }

  /** How many units are believed to be in each state. */
  states(): Record<BelievedStatus, number> {
    return { ...this.#counts };
  }

  /** Takes no more decisions, and waits for those that are under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#underWay);
  }

  /**
   * A moment of the clock that never jumps: a proof does not grow older or younger with the system's clock. One that lies ahead
   * of the present is of the present.
   */
  #monotonicOf(atMs: number): number {
    const { clock } = this.#options;
    return clock.monotonic() - Math.max(0, clock.now() - atMs);
  }

  /** The other way round. */
  #timeOf(monotonicMs: number): number {
    const { clock } = this.#options;
    return Math.round(clock.now() - (clock.monotonic() - monotonicMs));
  }

  #become(index: number, watch: UnitLiveness): void {
    const before = this.#watches.read(index);
    this.#watches.write(index, watch);
    this.#counts[before.status] -= 1;
    this.#counts[watch.status] += 1;
    const [wasOnline, isOnline] = [before.status === 'online', watch.status === 'online'];
    const online = Number(isOnline) - Number(wasOnline);
    const missing = Number(isOnline && isMissing(watch)) - Number(wasOnline && isMissing(before));
    if (online !== 0 || missing !== 0) this.#vanishing.adjustCounts(this.#letters[index] ?? 0, online, missing);
  }

  #act(index: number): void {
    if (this.#stopped || this.#isDeciding[index] === 1 || this.#underWay.size >= MAX_DECISIONS_UNDER_WAY) return;
    const unit = this.#options.unitIndex.nameOf(index);
    const transition = this.#wanted(index);
    if (unit === undefined || transition === undefined) return;
    if (transition === 'offline' && this.#isOut(index)) return;
    const tenancy = this.#tenancies[index];
    const isStillIn = () => this.#isIn[index] === 1 && this.#tenancies[index] === tenancy;
    this.#isDeciding[index] = 1;
    const decision = this.#decide({ unit, index, isStillIn }, transition).then((decided) => {
      this.#underWay.delete(decision);
      if (!isStillIn()) return;
      this.#isDeciding[index] = 0;
      // What came in meanwhile may ask for the opposite.
      if (decided && this.#wanted(index) !== transition) this.#act(index);
    });
    this.#underWay.add(decision);
  }

  #wanted(index: number): 'online' | 'offline' | undefined {
    const { failuresToOffline, unitIndex: roster } = this.#options;
    const watch = this.#watches.read(index);
    const unit = roster.nameOf(index);
    const needed =
      watch.misses < failuresToOffline || unit === undefined
        ? failuresToOffline
        : this.#flapping.failuresToOffline(unit, failuresToOffline);
    return dueTransition(watch, needed);
  }

  /** Whether so many are missing that it is us; says so when that changes. */
  #isOut(index: number): boolean {
    const { hasOutage: isAny } = this.#vanishing;
    const { log } = this.#options;
    if (isAny && !this.#wasOut) {
      const outages = this.#vanishing.outages();
      log.error('too many units vanish at once for it to be them: none goes offline', { outages });
    }
    if (!isAny && this.#wasOut) log.info('units that vanish go offline again');
    this.#wasOut = isAny;
    return this.#vanishing.isOutage(this.#letters[index] ?? 0);
  }

  /** @returns whether the log was asked. Never rejects. */
  async #decide({ unit, index, isStillIn }: Subject, transition: 'online' | 'offline'): Promise<boolean> {
    const { decider, newId, clock } = this.#options;
    const meta = { commandId: newId(), actor: ACTOR, source: SOURCE };
    let outrun = false;
    try {
      if (transition === 'offline' && (await this.#isProvenElsewhere(unit, index))) return true;
      if (!isStillIn()) return true;
      const evident = this.#watches.read(index);
      const { state, appended } = await decider.decide(unit, 'connectivity', meta, (present) => {
        outrun = transition === 'offline' && this.#isOutrun(index, evident, present);
        if (outrun || present.registry.status !== 'registered') return [];
        return transition === 'online'
          ? online(evident, present, clock.now())
          : offline(evident, present, (provenMs) => this.#timeOf(provenMs));
      });
      this.#store.recordSuccess();
      if (appended && transition === 'offline') this.#flapping.recordOffline(unit);
      if (!isStillIn()) return true;
      const watch = this.#watches.read(index);
      this.#become(index, outrun ? withMissesRefuted(watch) : withRecordedStatus(watch, state.connectivity.status));
      this.#loggedSinceMs[index] = sinceMsOf(state);
      this.#changedMs[index] = clock.monotonic();
    } catch (error) {
      this.#store.recordFailure(error);
      return false;
    }
    return true;
  }

  /** Whether another process has heard the unit since it began to miss here: then the misses do not count. */
  async #isProvenElsewhere(unit: string, index: number): Promise<boolean> {
    const provenAtMs = await this.#options.lastProofElsewhereMs?.(unit).catch(() => undefined);
    if (this.#options.unitIndex.nameOf(index) !== unit) return false;
    const watch = this.#watches.read(index);
    const { missingSinceMs } = watch;
    if (provenAtMs === undefined || missingSinceMs === undefined) return false;
    if (this.#monotonicOf(provenAtMs) <= missingSinceMs) return false;
    this.#become(index, { ...withMissesRefuted(watch), status: watch.status });
    return true;
  }

  /**
   * Whether the log heard of the unit after it began to miss here. What it said before is no news: only on a clock that was set
   * back meanwhile is that later than the misses.
   */
  #isOutrun(index: number, { missingSinceMs }: UnitLiveness, state: UnitState): boolean {
    if (state.connectivity.status !== 'online' || missingSinceMs === undefined) return false;
    const sinceMs = sinceMsOf(state);
    return sinceMs !== this.#loggedSinceMs[index] && this.#monotonicOf(sinceMs) > missingSinceMs;
  }
}

/** The unit of a decision. */
interface Subject {
  readonly unit: string;
  readonly index: number;
  /** Whether the index means this unit still. */
  readonly isStillIn: () => boolean;
}

function isMissing({ misses, isSilent }: UnitLiveness): boolean {
  return misses > 0 || isSilent;
}

function online({ lastProof }: UnitLiveness, { connectivity }: UnitState, nowMs: number): EventDraft[] {
  return lastProof === undefined ? [] : markUnitOnline(connectivity, lastProof.evidence, nowMs);
}

function offline(
  { misses, lastProof }: UnitLiveness,
  { connectivity }: UnitState,
  timeOf: (monotonicMs: number) => number,
): EventDraft[] {
  if (connectivity.status !== 'online') return [];
  const provenAtMs = lastProof === undefined ? 0 : timeOf(lastProof.atMs);
  return markUnitOffline(connectivity, Math.max(1, misses), toInstant(Math.max(provenAtMs, toMs(connectivity.since))));
}

/** 0 of a unit that was never seen. */
function sinceMsOf({ connectivity }: UnitState): number {
  return connectivity.status === 'never-seen' ? 0 : toMs(connectivity.since);
}
