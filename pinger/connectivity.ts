/**
 * Who is online: evidence of every kind comes in, and each transition becomes one event.
 *
 * What is kept per unit is a belief (`watch.ts`); the truth is the unit's `connectivity` subject. A transition is decided
 * against the folded unit and guarded by its sequence, so two processes that own a unit for a moment cannot write two. A
 * decision that fails is not queued: the next evidence asks for it again.
 */

import { type Connectivity, goOffline, goOnline, HEARTBEAT_INTERVAL_MS } from '../domain/connectivity.ts';
import type { EventDraft } from '../domain/envelope.ts';
import type { UnitState } from '../domain/unit.ts';
import { toInstant, toMs } from '../domain/vocabulary.ts';
import type { Log } from '../platform/log.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { Outage } from './outage.ts';
import {
  type Believed,
  doubted,
  type Evidence,
  missed,
  NEW_WATCH,
  proven,
  provenElsewhere,
  recorded,
  silent,
  type Watch,
  wanted,
} from './watch.ts';

/** Decisions that are under way at a moment. What comes beyond waits for its next evidence. */
const MAX_DECISIONS_UNDER_WAY = 256;
/** Units that prove themselves before the list of targets names them. */
const MAX_GUESTS = 1_000;
/** How far the read model may lag behind a transition. */
const READ_MODEL_LAG_MS = 10_000;

const ACTOR = 'platform:pinger';
const SOURCE = '/lockfleet/pinger';

export interface ConnectivityOptions {
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Missed pings, or missed heartbeats, in a row that make a unit offline. */
  readonly failuresToOffline: number;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds during which heartbeats could be heard: it stands still while this process does, or its NATS is away. */
  readonly attended: () => number;
  readonly log: Log;
}

interface Entry {
  watch: Watch;
  /** When it was last heard of, on the clock `attended`. */
  heardMs: number;
  /** When its status last changed here, milliseconds since 1970. */
  changedAtMs: number;
  deciding: boolean;
}

export class ConnectivityTracker {
  readonly #options: ConnectivityOptions;
  readonly #units = new Map<string, Entry>();
  readonly #guests = new Set<string>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #store: Outage;
  #stopped = false;

  constructor(options: ConnectivityOptions) {
    this.#options = options;
    this.#store = new Outage('recording who is online', options.log);
  }

  /** Watches a unit from now on. */
  add(unit: string): void {
    this.#guests.delete(unit);
    if (!this.#units.has(unit)) this.#enter(unit);
  }

  remove(unit: string): void {
    this.#units.delete(unit);
  }

  /** What the read model says of a unit; where that is not what is believed here, the log is asked again. */
  hint(unit: string, status: Connectivity['status']): void {
    const entry = this.#units.get(unit);
    if (entry === undefined || entry.watch.status === 'unknown' || entry.watch.status === status) return;
    if (this.#options.now() - entry.changedAtMs > READ_MODEL_LAG_MS) entry.watch = doubted(entry.watch);
  }

  /** A unit has proved that it is there. `atMs`: milliseconds since 1970. */
  prove(unit: string, evidence: Evidence, atMs: number): void {
    const entry = this.#units.get(unit) ?? this.#welcome(unit);
    if (entry === undefined) return;
    entry.heardMs = this.#options.attended();
    entry.watch = proven(entry.watch, evidence, atMs, this.#options.failuresToOffline);
    this.#act(unit, entry);
  }

  /** A ping was not answered. `sentAtMs`: milliseconds since 1970. */
  miss(unit: string, sentAtMs: number): void {
    const entry = this.#units.get(unit);
    if (entry === undefined) return;
    entry.watch = missed(entry.watch, sentAtMs);
    this.#act(unit, entry);
  }

  /** Looks whether a unit that only heartbeats tell of has been silent for too long. */
  checkSilence(unit: string): void {
    const entry = this.#units.get(unit);
    if (entry === undefined) return;
    const silenceMs = this.#options.attended() - entry.heardMs;
    if (silenceMs <= this.#options.failuresToOffline * HEARTBEAT_INTERVAL_MS) return;
    entry.watch = silent(entry.watch, this.#options.now() - silenceMs);
    this.#act(unit, entry);
  }

  /** Whether missed pings say nothing about a unit, so that only silence does. */
  isUnpingable(unit: string): boolean {
    return this.#units.get(unit)?.watch.pingable === false;
  }

  /** How many units are believed to be in each state. */
  states(): Record<Believed, number> {
    const counts: Record<Believed, number> = { unknown: 0, 'never-seen': 0, online: 0, offline: 0 };
    for (const { watch } of this.#units.values()) counts[watch.status] += 1;
    return counts;
  }

  /** Takes no more decisions, and waits for those that are under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#underWay);
  }

  #enter(unit: string): Entry {
    const { attended, now } = this.#options;
    const entry: Entry = { watch: NEW_WATCH, heardMs: attended(), changedAtMs: now(), deciding: false };
    this.#units.set(unit, entry);
    return entry;
  }

  #welcome(unit: string): Entry | undefined {
    if (this.#guests.size >= MAX_GUESTS) return undefined;
    this.#guests.add(unit);
    return this.#enter(unit);
  }

  #act(unit: string, entry: Entry): void {
    if (this.#stopped || entry.deciding || this.#underWay.size >= MAX_DECISIONS_UNDER_WAY) return;
    const { failuresToOffline } = this.#options;
    const transition = wanted(entry.watch, failuresToOffline);
    if (transition === undefined) return;
    entry.deciding = true;
    const decision = this.#decide(unit, entry, transition).then((decided) => {
      entry.deciding = false;
      this.#underWay.delete(decision);
      // What came in meanwhile may ask for the opposite.
      if (decided && wanted(entry.watch, failuresToOffline) !== transition) this.#act(unit, entry);
    });
    this.#underWay.add(decision);
  }

  /** @returns whether the log was asked. Never rejects. */
  async #decide(unit: string, entry: Entry, transition: 'online' | 'offline'): Promise<boolean> {
    const { decider, newId, now } = this.#options;
    const evident = entry.watch;
    const meta = { commandId: newId(), actor: ACTOR, source: SOURCE };
    let outrun = false;
    try {
      const { state } = await decider.decide(unit, 'connectivity', meta, (present) => {
        outrun = transition === 'offline' && isOutrun(evident, present);
        if (outrun || present.registry.status !== 'registered') return [];
        return transition === 'online' ? online(evident, present, now()) : offline(evident, present);
      });
      this.#store.worked();
      entry.watch = outrun ? provenElsewhere(entry.watch) : recorded(entry.watch, state.connectivity.status);
      entry.changedAtMs = now();
    } catch (error) {
      this.#store.failed(error);
      return false;
    }
    return true;
  }
}

function online({ lastProof }: Watch, { connectivity }: UnitState, nowMs: number): EventDraft[] {
  return lastProof === undefined ? [] : goOnline(connectivity, lastProof.evidence, nowMs);
}

/** Whether the log heard of the unit after it began to miss here. */
function isOutrun({ missingSinceMs }: Watch, { connectivity }: UnitState): boolean {
  return connectivity.status === 'online' && missingSinceMs !== undefined && toMs(connectivity.since) > missingSinceMs;
}

function offline({ misses, lastProof }: Watch, { connectivity }: UnitState): EventDraft[] {
  if (connectivity.status !== 'online') return [];
  const lastProofMs = Math.max(lastProof?.atMs ?? 0, toMs(connectivity.since));
  return goOffline(connectivity, Math.max(1, misses), toInstant(lastProofMs));
}
