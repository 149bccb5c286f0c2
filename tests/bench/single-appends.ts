/**
 * How long single appends take, from a process of its own: one event at a time, due at a fixed rate, each on a unit of its
 * own, through the product's event store. A time counts from the moment when the append was due. Ends at SIGTERM.
 */

import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import { StoreUnavailableError } from '../../platform/event-store/store.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { createLog } from '../../platform/observability/log.ts';
import { Latencies, type LatencySummary } from './latencies.ts';
import { READY_LINE } from './measuring-process.ts';

export interface AppendTask {
  readonly natsUrl: string;
  readonly natsCreds: string;
  /** Appends a second. */
  readonly rate: number;
  /** Part of the units' names. */
  readonly run: string;
  /** The first ones, which find the code cold, are not counted. */
  readonly warmUp: number;
}

export interface AppendFindings extends LatencySummary {
  /** Appends that the store did not answer in time; they count with the time that they waited. */
  readonly failed: number;
}

/** A process that is stopped goes on until it has measured this number of appends, because percentiles need appends. */
const MIN_APPENDS = 10;

/** As a unit that the platform has seen go online: one small event. */
function sample(unit: string): CloudEvent {
  return {
    specversion: '1.0',
    id: Bun.randomUUIDv7(),
    source: '/bench',
    type: 'UnitWentOnline',
    subject: unit,
    time: new Date().toISOString(),
    dataschema: 'UnitWentOnline/1',
    data: { evidence: 'heartbeat' },
    actor: 'platform:bench',
  };
}

async function measure({ natsUrl, natsCreds, rate, run, warmUp }: AppendTask): Promise<AppendFindings> {
  const log = createLog(() => undefined, Date.now);
  const nats = await Nats.connect({ url: natsUrl, creds: natsCreds, name: 'single appends', log });
  const store = new NatsEventStore(
    nats,
    () => crypto.randomUUID(),
    () => performance.now(),
  );
  const latencies = new Latencies();
  let over = false;
  process.once('SIGTERM', () => {
    over = true;
  });
  console.log(READY_LINE);
  const pending = new Set<Promise<void>>();
  let failed = 0;
  const append = async (index: number, due: number) => {
    const unit = `${run}-${index}`;
    const events = [sample(unit)];
    try {
      await store.append({ unit, aggregate: 'connectivity', expectedSequence: 0, commandId: unit, events });
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      failed += 1;
    }
    if (index >= warmUp) latencies.add(performance.now() - due);
  };
  const start = performance.now();
  const dueAt = (index: number) => start + (index * 1_000) / rate;
  for (let issued = 0; !over || latencies.count < MIN_APPENDS; await Bun.sleep(1)) {
    for (; dueAt(issued) <= performance.now(); issued += 1) {
      const appended = append(issued, dueAt(issued)).finally(() => pending.delete(appended));
      pending.add(appended);
    }
  }
  await Promise.all(pending);
  await nats.close();
  return { ...latencies.summary(), failed };
}

console.log(JSON.stringify(await measure((await Bun.stdin.json()) as AppendTask)));
