/** What a busy unit has in its log: customers who pay, rent, open, close and give back, some 180 bytes an event. */

import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { toInstant } from '../../domain/vocabulary.ts';

export const LOCKERS = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'] as const;
const RENTAL_MS = 3_600_000;
const BETWEEN_EVENTS_MS = 1_000;

type Draft = Pick<BatchEvent, 'type' | 'data'> & { readonly locker?: string };

/** The first `count` events of an epoch, `lastMs` being the time of the last one. */
export function unitLog(count: number, lastMs: number): BatchEvent[] {
  const firstMs = lastMs - count * BETWEEN_EVENTS_MS;
  const drafts: Draft[] = [stateReport()];
  for (let visit = 0; drafts.length < count; visit += 1) {
    drafts.push(...visitOf(LOCKERS[visit % LOCKERS.length] ?? 'A', firstMs + drafts.length * BETWEEN_EVENTS_MS));
  }
  return drafts.slice(0, count).map(({ type, locker, data }, index) => ({
    seq: index + 1,
    v: 1,
    type,
    time: toInstant(firstMs + index * BETWEEN_EVENTS_MS),
    ...(locker === undefined ? {} : { locker }),
    data,
  }));
}

/** The batches in which a unit pushes its log, as JSON. */
export function batchTexts(unit: string, epoch: string, events: readonly BatchEvent[], batchEvents: number): string[] {
  const batches: string[] = [];
  for (let start = 0; start < events.length; start += batchEvents) {
    batches.push(JSON.stringify({ unit, epoch, events: events.slice(start, start + batchEvents) }));
  }
  return batches;
}

function stateReport(): Draft {
  const { hash: configurationHash } = defaultConfiguration(600);
  const lockers = LOCKERS.map((id) => ({ id, door: 'closed' }));
  return { type: 'UnitStateReported', data: { reason: 'new-epoch', configurationHash, lockers } };
}

function visitOf(locker: string, atMs: number): Draft[] {
  const rentalId = Bun.randomUUIDv7();
  const price = { amount: 300, currency: 'EUR' };
  const payment = { reference: Bun.randomUUIDv7(), ...price, rentalId };
  return [
    { type: 'PaymentStarted', locker, data: payment },
    { type: 'PaymentSucceeded', locker, data: payment },
    { type: 'RentalStarted', locker, data: { rentalId, until: toInstant(atMs + RENTAL_MS), price } },
    { type: 'LockerOpened', locker, data: { cause: 'walk-up' } },
    { type: 'LockerClosed', locker, data: {} },
    { type: 'RentalEnded', locker, data: { rentalId, reason: 'given-back' } },
  ];
}
