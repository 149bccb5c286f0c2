/**
 * Who is online: evidence of every kind comes in, and each transition becomes one event.
 *
 * What is kept per unit is a belief (`watch.ts`); the truth is the unit's `connectivity` subject. A transition is decided
 * against the folded unit and guarded by its sequence, so two processes that own a unit for a moment cannot write two. A
 * decision that fails is not queued: the next evidence asks for it again.
 */

import { type Connectivity, goOffline, goOnline, HEARTBEAT_INTERVAL_MS } from '../domain/connectivity.ts';
import type { EventDraft } from '../domain/envelope.ts';
import { unitHash } from '../domain/shard.ts';
import type { UnitState } from '../domain/unit.ts';
import { toInstant, toMs } from '../domain/vocabulary.ts';
import type { Log } from '../platform/log.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import type { Clock } from './clock.ts';
import { Flapping } from './flapping.ts';
import { Outage as Trouble } from './outage.ts';
import { type Outage, Vanishing } from './vanishing.ts';
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
  readonly clock: Clock;
  /** Milliseconds during which heartbeats could be heard: it stands still while this process does, or its NATS is away. */
  readonly attended: () => number;
  /** The last proof that other processes know of a unit, milliseconds since 1970; asked before it is called offline. */
  readonly provenElsewhereMs?: (unit: string) => Promise<number | undefined>;
  readonly log: Log;
}

interface Entry {
  /** The first letter of the hash of its name. */
  readonly letter: string;
  watch: Watch;
  /** As it was counted: believed online, and missing. */
  countedOnline: boolean;
  countedMissing: boolean;
  /** When it was last heard of, on the clock `attended`. */
  heardMs: number;
  /** When its status last changed here, on the clock that never jumps. */
  changedMs: number;
  /** Since when the unit is what it is, as the log was last heard to say. */
  loggedSince: string | undefined;
  deciding: boolean;
}

export class ConnectivityTracker {
  readonly #options: ConnectivityOptions;
  readonly #units = new Map<string, Entry>();
  readonly #guests = new Set<string>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #store: Trouble;
  readonly #vanishing: Vanishing;
  readonly #flapping: Flapping;
  #wasOut = false;
  #stopped = false;

  constructor(options: ConnectivityOptions) {
    this.#options = options;
    this.#store = new Trouble('recording who is online', options.log);
    this.#vanishing = new Vanishing(options.clock.now);
    this.#flapping = new Flapping(options.clock.monotonic);
  }

  /** Watches a unit from now on. `hash`: of its name. `status`: what the read model says, believed until something else shows. */
  add(unit: string, hash: string, status?: Connectivity['status']): void {
    this.#guests.delete(unit);
    if (this.#units.has(unit)) return;
    const entry = this.#enter(unit, hash.slice(0, 1));
    if (status !== undefined) this.#become(entry, recorded(entry.watch, status));
  }

  remove(unit: string): void {
    const entry = this.#units.get(unit);
    if (entry !== undefined) this.#become(entry, NEW_WATCH);
    this.#units.delete(unit);
    this.#flapping.forget(unit);
  }

  /** What the read model says of a unit; where that is not what is believed here, the log is asked again. */
  hint(unit: string, status: Connectivity['status']): void {
    const entry = this.#units.get(unit);
    if (entry === undefined || entry.watch.status === 'unknown' || entry.watch.status === status) return;
    if (this.#options.clock.monotonic() - entry.changedMs > READ_MODEL_LAG_MS)
      this.#become(entry, doubted(entry.watch));
  }

  /** A unit has proved that it is there. `atMs`: milliseconds since 1970. */
  prove(unit: string, evidence: Evidence, atMs: number): void {
    const entry = this.#units.get(unit) ?? this.#welcome(unit);
    if (entry === undefined) return;
    entry.heardMs = this.#options.attended();
    if (isUndisputed(entry.watch)) {
      // Tens of thousands come in a second, and change nothing else.
      entry.watch.lastProof.evidence = evidence;
      entry.watch.lastProof.atMs = Math.max(atMs, entry.watch.lastProof.atMs);
      return;
    }
    this.#become(entry, proven(entry.watch, evidence, atMs, this.#options.failuresToOffline));
    this.#act(unit, entry);
  }

  /** A ping was not answered. `sentAtMs`: milliseconds since 1970. */
  miss(unit: string, sentAtMs: number): void {
    const entry = this.#units.get(unit);
    if (entry === undefined) return;
    this.#become(entry, missed(entry.watch, sentAtMs));
    this.#act(unit, entry);
  }

  /** Looks whether a unit that only heartbeats tell of has been silent for too long. */
  checkSilence(unit: string): void {
    const entry = this.#units.get(unit);
    if (entry === undefined) return;
    const silenceMs = this.#options.attended() - entry.heardMs;
    if (silenceMs <= this.#options.failuresToOffline * HEARTBEAT_INTERVAL_MS) return;
    this.#become(entry, silent(entry.watch, this.#options.clock.now() - silenceMs));
    this.#act(unit, entry);
  }

  /** Whether missed pings say nothing about a unit, so that only silence does. */
  isUnpingable(unit: string): boolean {
    return this.#units.get(unit)?.watch.pingable === false;
  }

  /** The last proof of a unit that is known here. */
  lastProof(unit: string): Watch['lastProof'] {
    return this.#units.get(unit)?.watch.lastProof;
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

  #enter(unit: string, letter: string): Entry {
    const { attended, clock } = this.#options;
    const entry: Entry = {
      letter,
      watch: NEW_WATCH,
      countedOnline: false,
      countedMissing: false,
      heardMs: attended(),
      changedMs: clock.monotonic(),
      loggedSince: undefined,
      deciding: false,
    };
    this.#units.set(unit, entry);
    return entry;
  }

  #welcome(unit: string): Entry | undefined {
    if (this.#guests.size >= MAX_GUESTS) return undefined;
    this.#guests.add(unit);
    return this.#enter(unit, unitHash(unit).slice(0, 1));
  }

  #become(entry: Entry, watch: Watch): void {
    entry.watch = watch;
    const isOnline = watch.status === 'online';
    const isMissing = isOnline && (watch.misses > 0 || watch.silent);
    const [online, missing] = [
      Number(isOnline) - Number(entry.countedOnline),
      Number(isMissing) - Number(entry.countedMissing),
    ];
    if (online === 0 && missing === 0) return;
    entry.countedOnline = isOnline;
    entry.countedMissing = isMissing;
    this.#vanishing.count(entry.letter, online, missing);
  }

  #act(unit: string, entry: Entry): void {
    if (this.#stopped || entry.deciding || this.#underWay.size >= MAX_DECISIONS_UNDER_WAY) return;
    const transition = this.#wanted(unit, entry);
    if (transition === undefined || (transition === 'offline' && this.#isOut(entry))) return;
    entry.deciding = true;
    const decision = this.#decide(unit, entry, transition).then((decided) => {
      entry.deciding = false;
      this.#underWay.delete(decision);
      // What came in meanwhile may ask for the opposite.
      if (decided && this.#wanted(unit, entry) !== transition) this.#act(unit, entry);
    });
    this.#underWay.add(decision);
  }

  #wanted(unit: string, { watch }: Entry): 'online' | 'offline' | undefined {
    const { failuresToOffline } = this.#options;
    const needed =
      watch.misses < failuresToOffline ? failuresToOffline : this.#flapping.failuresToOffline(unit, failuresToOffline);
    return wanted(watch, needed);
  }

  /** Whether so many are missing that it is us; says so when that changes. */
  #isOut({ letter }: Entry): boolean {
    const outages = this.#vanishing.outages();
    const isAny = outages.length > 0;
    const { log } = this.#options;
    if (isAny && !this.#wasOut)
      log.error('too many units vanish at once for it to be them: none goes offline', { outages });
    if (!isAny && this.#wasOut) log.info('units that vanish go offline again');
    this.#wasOut = isAny;
    return this.#vanishing.isOut(letter);
  }

  /** @returns whether the log was asked. Never rejects. */
  async #decide(unit: string, entry: Entry, transition: 'online' | 'offline'): Promise<boolean> {
    const { decider, newId, clock } = this.#options;
    const meta = { commandId: newId(), actor: ACTOR, source: SOURCE };
    let outrun = false;
    try {
      if (transition === 'offline' && (await this.#isProvenElsewhere(unit, entry))) return true;
      const evident = entry.watch;
      const { state, appended } = await decider.decide(unit, 'connectivity', meta, (present) => {
        outrun = transition === 'offline' && isOutrun(evident, present, entry.loggedSince);
        if (outrun || present.registry.status !== 'registered') return [];
        return transition === 'online' ? online(evident, present, clock.now()) : offline(evident, present);
      });
      entry.loggedSince = sinceOf(state);
      this.#store.worked();
      if (appended && transition === 'offline') this.#flapping.wentOffline(unit);
      if (this.#units.get(unit) !== entry) return true;
      this.#become(entry, outrun ? provenElsewhere(entry.watch) : recorded(entry.watch, state.connectivity.status));
      entry.changedMs = clock.monotonic();
    } catch (error) {
      this.#store.failed(error);
      return false;
    }
    return true;
  }

  /** Whether another process has heard the unit since it began to miss here: then the misses do not count. */
  async #isProvenElsewhere(unit: string, entry: Entry): Promise<boolean> {
    const provenMs = await this.#options.provenElsewhereMs?.(unit).catch(() => undefined);
    const { missingSinceMs } = entry.watch;
    if (provenMs === undefined || missingSinceMs === undefined || provenMs <= missingSinceMs) return false;
    this.#become(entry, { ...provenElsewhere(entry.watch), status: entry.watch.status });
    return true;
  }
}

/** Whether a further proof says nothing new about a unit. */
function isUndisputed(watch: Watch): watch is Watch & { lastProof: NonNullable<Watch['lastProof']> } {
  const { status, misses, silent: isSilent, pingable, lastProof } = watch;
  return status === 'online' && misses === 0 && !isSilent && pingable && lastProof !== undefined;
}

function online({ lastProof }: Watch, { connectivity }: UnitState, nowMs: number): EventDraft[] {
  return lastProof === undefined ? [] : goOnline(connectivity, lastProof.evidence, nowMs);
}

/**
 * Whether the log heard of the unit after it began to miss here. `loggedSince`: what it said before, which is no news: only on
 * a clock that was set back meanwhile is that later than the misses.
 */
function isOutrun({ missingSinceMs }: Watch, { connectivity }: UnitState, loggedSince: string | undefined): boolean {
  if (connectivity.status !== 'online' || missingSinceMs === undefined) return false;
  return connectivity.since !== loggedSince && toMs(connectivity.since) > missingSinceMs;
}

function sinceOf({ connectivity }: UnitState): string | undefined {
  return connectivity.status === 'never-seen' ? undefined : connectivity.since;
}

function offline({ misses, lastProof }: Watch, { connectivity }: UnitState): EventDraft[] {
  if (connectivity.status !== 'online') return [];
  const lastProofMs = Math.max(lastProof?.atMs ?? 0, toMs(connectivity.since));
  return goOffline(connectivity, Math.max(1, misses), toInstant(lastProofMs));
}
