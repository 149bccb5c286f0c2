/** A pinger without threads and without a network, on clocks that a test moves: the real rounds, runner and tracker. */

import { unitHash } from '../../domain/shard.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { ConnectivityTracker } from '../../pinger/connectivity/connectivity-tracker.ts';
import { PING_OUTCOME, SlotResults } from '../../pinger/pool/slot-results.ts';
import { SlotRunner } from '../../pinger/pool/slot-runner.ts';
import type { SlotTask } from '../../pinger/pool/slot-task.ts';
import type { Probe, ProbeListener } from '../../pinger/probes/probe.ts';
import type { PingerClock } from '../../pinger/runtime/clock.ts';
import { PingSchedule, slotWidthMs } from '../../pinger/schedule/ping-schedule.ts';
import { PING_REASON, PingScheduler } from '../../pinger/schedule/ping-scheduler.ts';
import { PingCounters } from '../../pinger/telemetry/ping-counters.ts';
import { UnitIndex } from '../../pinger/units/unit-index.ts';
import { PROBE_NUMBERS, UnitTable } from '../../pinger/units/unit-table.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { createLog } from '../../platform/observability/log.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { appendRegistration } from './registration.ts';
import { NOW_MS } from './scene.ts';

export const INTERVAL_MS = 10_000;
export const TIMEOUT_MS = 2_000;
export const FAILURES = 3;
/** How long a slot is on its way to the thread, and a unit takes to answer. */
const HANDOVER_MS = 3;
const RESPONSE_MS = 40;
/** Promises that wait for one another, at most. */
const MAX_TURNS = 40;

interface Timer {
  readonly dueMs: number;
  readonly run: () => void;
}

/** Clocks that stand still until a test moves them. */
export class SimulatedClock implements PingerClock {
  #monotonicMs = 0;
  #nowMs = NOW_MS;
  readonly #timers = new Set<Timer>();

  readonly now = () => Math.floor(this.#nowMs);
  readonly monotonic = () => this.#monotonicMs;
  readonly after = (ms: number, run: () => void) => {
    const timer = { dueMs: this.#monotonicMs + Math.max(1, ms), run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** The system's clock alone. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }

  /** @param pace how fast the system's clock runs in relation to the monotonic clock */
  async pass(ms: number, pace = 1): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await settlePromises();
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#timers.delete(next);
      this.#move(next.dueMs, pace);
      next.run();
      await settlePromises();
    }
    this.#move(endMs, pace);
  }

  #move(toMs: number, pace: number): void {
    this.#nowMs += (toMs - this.#monotonicMs) * pace;
    this.#monotonicMs = toMs;
  }

  #next(endMs: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (timer.dueMs < (first?.dueMs ?? endMs)) first = timer;
    return first;
  }
}

/** Lets promises that depend on each other settle. */
async function settlePromises(): Promise<void> {
  for (let turn = 0; turn < MAX_TURNS; turn += 1) await Promise.resolve();
}

export interface Sent {
  readonly unit: string;
  readonly atMs: number;
  /** The time of the system's clock. */
  readonly wallMs: number;
}

export interface PingerWorld {
  readonly clock: SimulatedClock;
  readonly schedule: PingSchedule;
  readonly meter: PingCounters;
  readonly tracker: ConnectivityTracker;
  readonly names: readonly string[];
  readonly sent: Sent[];
  /** Units that do not answer. */
  readonly dead: Set<string>;
  readonly lines: string[];
  /** How often units went offline, by their names. */
  offline(): Promise<Map<string, number>>;
  stop(): Promise<void>;
}

/** Registered units that are all online, and a pinger that asks them. */
export async function startPingerWorld(units: number): Promise<PingerWorld> {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line), clock.now);
  const { store, decider, newId } = platformOf(clock, log);
  const names = Array.from({ length: units }, (_, index) => `PL-${index}`);
  for (const name of names) await appendRegistration(decider, name);
  const roster = new UnitIndex(units);
  const tracker = new ConnectivityTracker({
    unitIndex: roster,
    decider,
    failuresToOffline: FAILURES,
    newId,
    clock,
    heartbeatListeningMs: clock.monotonic,
    log,
  });
  const table = UnitTable.create(units);
  const schedule = new PingSchedule(INTERVAL_MS, slotWidthMs(TIMEOUT_MS));
  const meter = new PingCounters(clock.monotonic);
  const [sent, dead]: [Sent[], Set<string>] = [[], new Set()];
  const runner = await SlotRunner.open({
    table,
    timeoutMs: TIMEOUT_MS,
    clock,
    openProbes: async (arrivals) => [simulatedProbe({ clock, names, sent, dead, arrivals })],
  });
  const ping = async (_thread: number, task: SlotTask) => {
    await new Promise<void>((handed) => clock.after(HANDOVER_MS, handed));
    return new SlotResults((await runner.run(task)).buffer);
  };
  const rounds = new PingScheduler({
    schedule,
    table,
    unitIndex: roster,
    pool: { ping },
    threads: 1,
    timeoutMs: TIMEOUT_MS,
    clock,
    counters: meter,
    log,
    onResults({ units: pinged, reasons: turns, results }) {
      for (const [place, index] of pinged.entries()) {
        const [outcome, sentAtMs = 0] = [results.outcomes[place], results.sentAtMs[place]];
        if (outcome === PING_OUTCOME.answered) tracker.recordProof(index, 'ping', sentAtMs);
        else if (outcome !== PING_OUTCOME.discarded && turns[place] === PING_REASON.scheduled)
          tracker.recordMiss(index, sentAtMs);
      }
    },
  });
  for (const [index, name] of names.entries()) {
    const hash = unitHash(name);
    roster.add(name);
    tracker.add(index, hash);
    rounds.upsert(index, { name, hash, ip: '127.0.0.1', port: 1, probe: PROBE_NUMBERS.udp, key: new Uint8Array(32) });
  }
  rounds.start();
  await clock.pass(INTERVAL_MS + TIMEOUT_MS);
  return {
    clock,
    schedule,
    meter,
    tracker,
    names,
    sent,
    dead,
    lines,
    async offline() {
      const counts = new Map<string, number>();
      for (const name of names) {
        const events = (await store.tail(name, 0)).flatMap((message) => message.events());
        const times = events.filter(({ type }) => type === 'UnitWentOffline').length;
        if (times > 0) counts.set(name, times);
      }
      return counts;
    },
    async stop() {
      const stopped = rounds.stop();
      await clock.pass(INTERVAL_MS);
      await stopped;
      await Promise.all([runner.close(), tracker.stop()]);
    },
  };
}

function platformOf(clock: SimulatedClock, log: ReturnType<typeof createLog>) {
  let ids = 0;
  const newId = () => {
    ids += 1;
    return `id-${ids}`;
  };
  const store = new MemoryEventStore(clock.now);
  const decider = new UnitDecider({
    store,
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId,
    clock: clock.now,
    random: () => 0,
    sleep: async () => undefined,
    log,
  });
  return { store, decider, newId };
}

function simulatedProbe(world: {
  readonly clock: SimulatedClock;
  readonly names: readonly string[];
  readonly sent: Sent[];
  readonly dead: ReadonlySet<string>;
  readonly arrivals: ProbeListener;
}): Probe {
  const { clock, names, sent, dead, arrivals } = world;
  const reply = { bytes: new Uint8Array(32), epochAt: 0, configurationHashAt: 16, lastSeq: 0, clockMs: Number.NaN };
  return {
    send(units) {
      for (const index of units) {
        const unit = names[index] ?? '';
        sent.push({ unit, atMs: clock.monotonic(), wallMs: clock.now() });
        arrivals.onSent(index, clock.monotonic());
        if (!dead.has(unit)) clock.after(RESPONSE_MS, () => arrivals.onAnswered(index, reply, clock.monotonic()));
      }
    },
    cancel: () => undefined,
    close: async () => undefined,
  };
}
