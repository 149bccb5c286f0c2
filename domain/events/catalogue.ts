/** Every event type there is. Types, validation and the published catalogue come from here. */

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
 * The aggregate on whose subject an event stands. What a unit reports names its place in the unit's log, which tells it from
 * what the platform decides also where the type allows both. `undefined` for other types that this code does not know.
 */
export function aggregateOf(event: Pick<CloudEvent, 'type' | 'unitepoch'>): Aggregate | undefined {
  if (event.unitepoch !== undefined) return 'device';
  return isEventType(event.type) ? definitionOf(event.type).aggregates[0] : undefined;
}

/** By type, what an event of the present version names as its `dataschema`. */
const SCHEMAS: ReadonlyMap<string, string> = new Map(
  Object.entries(EVENT_CATALOGUE).map(([type, { version }]) => [type, `${type}/${version}`]),
);

/**
 * Brings a stored event to the present version of its schema. A type or a version that this code does not know yet gives
 * `undefined`: such an event is kept as it came, and a fold passes over it until an upgrade knows it.
 */
export function upcast(event: CloudEvent): KnownEvent | undefined {
  if (event.dataschema !== SCHEMAS.get(event.type)) return undefined;
  // What is stored was validated against this very schema when it was appended.
  return event as KnownEvent;
}
