/** `append`: single decisions through the decider, beside the same publishes without our code. */

import { holdLocker } from '../../domain/booking/customer-decisions.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { publishAtomically } from '../../platform/nats/jetstream.ts';
import { eventSubject } from '../../platform/nats/subjects.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { connectPlatform, quietLog } from '../support/nats.ts';
import { registration } from '../support/registration.ts';
import { Latencies, type LatencySummary } from './latencies.ts';
import type { BenchReport, Figure } from './report.ts';

const CONCURRENCY = [1, 8, 32, 128] as const;
const ATOMIC_MESSAGES = 100;
const HOUR_MS = 3_600_000;

export interface AppendScale {
  readonly units: number;
  /** How long each row is measured. */
  readonly runMs: number;
}

export const APPEND_SCALES = {
  full: { units: 512, runMs: 4_000 },
  smoke: { units: 64, runMs: 100 },
} as const satisfies Record<string, AppendScale>;

interface Rate extends LatencySummary {
  readonly perSecond: number;
}

export async function benchAppend(scale: AppendScale): Promise<BenchReport> {
  const nats = await connectPlatform();
  const stop = new AbortController();
  const decider = new UnitDecider({
    store: new NatsEventStore(
      nats,
      () => crypto.randomUUID(),
      () => performance.now(),
    ),
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId: () => Bun.randomUUIDv7(),
    clock: Date.now,
    random: Math.random,
    sleep: Bun.sleep,
    log: quietLog,
  });
  const following = decider.followStore(stop.signal);
  const units = await registerUnits(decider, scale.units);
  const holdOne = holder(decider, units);
  const figures: Figure[] = [];
  for (const concurrency of CONCURRENCY) {
    const raw = await measure(scale.runMs, concurrency, rawPublisher(nats, `raw-${concurrency}`, scale.units));
    const ours = await measure(scale.runMs, concurrency, holdOne);
    figures.push({
      name: `decisions, ${concurrency} at once`,
      value: ours.perSecond,
      unit: 'per second',
      against: { name: 'publishes one by one without our code', value: raw.perSecond },
      ...(concurrency === 1 ? { goal: { atLeast: 0.7 } } : {}),
      note: `p50 ${ours.p50Ms.toFixed(1)} ms, p99 ${ours.p99Ms.toFixed(1)} ms (publishes ${raw.p50Ms.toFixed(1)} and ${raw.p99Ms.toFixed(1)})`,
    });
  }
  const ceiling = await measure(scale.runMs, 1, atomicPublisher(nats));
  figures.push({
    name: `ceiling: atomic batches of ${ATOMIC_MESSAGES}, nothing decided`,
    value: ceiling.perSecond * ATOMIC_MESSAGES,
    unit: 'messages per second',
  });
  stop.abort();
  await following;
  await nats.close();
  const conditions = [
    `sync_interval always, ${scale.units} units, ${scale.runMs / 1_000} s a row, one process, NATS on the same machine`,
  ];
  return { bench: 'append', conditions, figures };
}

async function registerUnits(decider: UnitDecider, count: number): Promise<string[]> {
  const units = Array.from({ length: count }, (_, index) => `APPEND-${index}`);
  await Promise.all(
    units.map((name) =>
      decider.decide(name, 'registry', { actor: 'ops:bench', source: '/bench', commandId: `register-${name}` }, () => [
        { type: 'UnitRegistered', data: { ...registration(name), lockers: [{ id: 'A', size: 'M' }] } },
      ]),
    ),
  );
  return units;
}

/** Each call holds a locker for an hour in which the locker is free. */
function holder(decider: UnitDecider, units: readonly string[]): () => Promise<void> {
  let calls = 0;
  const baseMs = Date.now();
  return async () => {
    calls += 1;
    const unit = units[calls % units.length] ?? '';
    const commandId = Bun.randomUUIDv7();
    const fromMs = baseMs + (Math.floor(calls / units.length) + 1) * HOUR_MS;
    const period = { from: new Date(fromMs).toISOString(), until: new Date(fromMs + HOUR_MS).toISOString() };
    const command = { commandId, reservationId: `${unit}.${commandId}`, customer: 'bench', ...period };
    await decider.decide(unit, 'booking', { actor: 'customer:bench', source: '/bench', commandId }, (state) =>
      holdLocker(state, { ...command, requested: { size: 'M' }, nowMs: Date.now() }),
    );
  };
}

/** The same bytes with the same guards, straight through the client. */
function rawPublisher(nats: Nats, prefix: string, units: number): () => Promise<void> {
  let calls = 0;
  const last = new Map<string, number>();
  const payload = JSON.stringify([SAMPLE_EVENT]);
  return async () => {
    calls += 1;
    const subject = eventSubject(`${prefix}-${calls % units}`, 'booking');
    const headers = {
      'Content-Type': 'application/cloudevents-batch+json',
      'Nats-Msg-Id': Bun.randomUUIDv7(),
      'Nats-Expected-Last-Subject-Sequence': String(last.get(subject) ?? 0),
    };
    const answer = await nats.request(subject, payload, { timeoutMs: 5_000, headers });
    const { seq } = JSON.parse(new TextDecoder().decode(answer.data)) as { seq?: number };
    if (seq === undefined) throw new Error('the raw publish was refused');
    last.set(subject, seq);
  };
}

function atomicPublisher(nats: Nats): () => Promise<void> {
  let calls = 0;
  const payload = JSON.stringify([SAMPLE_EVENT]);
  return async () => {
    calls += 1;
    const messages = Array.from({ length: ATOMIC_MESSAGES }, (_, index) => ({
      subject: eventSubject(`atomic-${calls}-${index}`, 'booking'),
      payload,
      headers: { 'Nats-Msg-Id': `atomic-${calls}-${index}` },
    }));
    await publishAtomically(nats, messages, crypto.randomUUID(), 10_000);
  };
}

async function measure(runMs: number, concurrency: number, one: () => Promise<void>): Promise<Rate> {
  const latencies = new Latencies();
  const start = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let now = performance.now(); now < start + runMs; now = performance.now()) {
        await one();
        latencies.add(performance.now() - now);
      }
    }),
  );
  return { ...latencies.summary(), perSecond: (latencies.count * 1_000) / (performance.now() - start) };
}

/** As large as the commit of a hold. */
const SAMPLE_EVENT = {
  specversion: '1.0',
  id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  source: '/bench',
  type: 'ReservationHeld',
  subject: 'APPEND-100/A',
  time: '2026-07-01T10:00:00.000Z',
  dataschema: 'ReservationHeld/1',
  data: {
    reservationId: 'APPEND-100.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
    customer: 'bench',
    locker: 'A',
    size: 'M',
    from: '2026-07-01T11:00:00.000Z',
    until: '2026-07-01T12:00:00.000Z',
    holdExpiresAt: '2026-07-01T10:10:00.000Z',
    price: { amount: 300, currency: 'EUR' },
    configurationVersion: 1,
  },
  actor: 'customer:bench',
  causationid: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
};
