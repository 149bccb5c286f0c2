/** The catalogue of event types. Types, validation and the published catalogue derive from it. */

import { bookingEvents } from './booking.ts';
import type { Aggregate, CloudEvent } from './cloud-event.ts';
import { configEvents } from './config.ts';
import { connectivityEvents } from './connectivity.ts';
import type { DataOf, EventDefinition } from './define-event.ts';
import { deviceEvents } from './device.ts';
import { logEvents } from './log.ts';
import { paymentEvents } from './payment.ts';
import { registryEvents } from './registry.ts';

export const EVENT_CATALOGUE = {
  ...registryEvents,
  ...configEvents,
  ...connectivityEvents,
  ...bookingEvents,
  ...paymentEvents,
  ...deviceEvents,
  ...logEvents,
};

export type EventType = keyof typeof EVENT_CATALOGUE;
export type EventOf<T extends EventType> = DataOf<(typeof EVENT_CATALOGUE)[T]>;

/** An event whose type is known and whose data has been brought to the present version of its schema. */
export type KnownEvent = {
  [T in EventType]: Omit<CloudEvent, 'type' | 'data'> & { readonly type: T; readonly data: EventOf<T> };
}[EventType];

export function isEventType(type: string): type is EventType {
  return Object.hasOwn(EVENT_CATALOGUE, type);
}

export function definitionOf(type: EventType): EventDefinition {
  return EVENT_CATALOGUE[type];
}

/** The present schema version of a type. */
export function versionOf(type: EventType): number {
  return EVENT_CATALOGUE[type].version;
}

/**
 * The aggregate whose subject carries an event. A reported event has a place in the unit's log; that tells it from a decision of the
 * platform where the type allows both. `undefined` for a type of the platform that this code does not know.
 */
export function aggregateOf(event: Pick<CloudEvent, 'type' | 'unitepoch'>): Aggregate | undefined {
  if (event.unitepoch !== undefined) return 'device';
  return isEventType(event.type) ? definitionOf(event.type).aggregates[0] : undefined;
}

/** The `dataschema` of the present version of each type. */
const SCHEMAS: ReadonlyMap<string, string> = new Map(
  Object.entries(EVENT_CATALOGUE).map(([type, { version }]) => [type, `${type}/${version}`]),
);

/**
 * Upcasts a stored event to the present version of its schema; `undefined` for a type or version that this code does not know. Such an
 * event stays as it is, and folds skip it until an upgrade.
 */
export function upcast(event: CloudEvent): KnownEvent | undefined {
  if (event.dataschema !== SCHEMAS.get(event.type)) return undefined;
  // A stored event was validated by this schema when it was appended.
  return event as KnownEvent;
}
