/**
 * CloudEvents 1.0 as lockfleet stores them: the envelope, and what a decision hands to the shell before it has one.
 */

import type { EventOf, EventType } from './catalogue.ts';

export const AGGREGATES = ['registry', 'config', 'connectivity', 'booking', 'device', 'log'] as const;
export type Aggregate = (typeof AGGREGATES)[number];

/**
 * An event in the form in which it is stored.
 *
 * `id` is a UUIDv7, or `UNIT/EPOCH/SEQ` for what a unit reports. `subject` is the unit, or `unit/locker`. `time` is when
 * it occurred, on its source's clock. `dataschema` is `TYPE/VERSION`. `causationid` is the id of the command.
 * `clockoffsetms` is by how much the clock of a unit was ahead when the event was recorded; it stands only where that was
 * more than `CLOCK_OFFSET_TOLERANCE_MS`. `occurredAt` makes of both what the platform's clock would have said.
 */
export interface CloudEvent {
  readonly specversion: '1.0';
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject: string;
  readonly time: string;
  readonly dataschema: string;
  readonly datacontenttype?: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly actor?: string;
  readonly correlationid?: string;
  readonly causationid?: string;
  readonly unitepoch?: string;
  readonly unitseq?: number;
  readonly offline?: boolean;
  readonly clockoffsetms?: number;
  /** Fields of what a unit reported that this code does not know, as the JSON of an object. */
  readonly unitextra?: string;
}

/** What a decision answers with: a fact without an envelope. The shell adds id, time, actor and causation. */
export type EventDraft = {
  [T in EventType]: { readonly type: T; readonly locker?: string; readonly data: EventOf<T> };
}[EventType];

/** What stands on the envelope of every event of one decision. */
export interface DecisionContext {
  readonly unit: string;
  readonly source: string;
  /** RFC 3339 time at which the decision was taken. */
  readonly time: string;
  readonly actor: string;
  /** Id of the command; repeated commands are recognised by it. */
  readonly commandId: string;
  readonly correlationId?: string;
}

/** Envelopes the drafts of one decision. `versionOf` tells the schema version of a type, `newId` makes UUIDv7s. */
export function envelop(
  drafts: readonly EventDraft[],
  context: DecisionContext,
  versionOf: (type: EventType) => number,
  newId: () => string,
): CloudEvent[] {
  return drafts.map((draft) => ({
    specversion: '1.0',
    id: newId(),
    source: context.source,
    type: draft.type,
    subject: draft.locker === undefined ? context.unit : `${context.unit}/${draft.locker}`,
    time: context.time,
    dataschema: `${draft.type}/${versionOf(draft.type)}`,
    data: draft.data,
    actor: context.actor,
    causationid: context.commandId,
    ...(context.correlationId === undefined ? {} : { correlationid: context.correlationId }),
  }));
}

/** The locker that a CloudEvents subject names, if it names one. */
export function lockerOfSubject(subject: string): string | undefined {
  const slash = subject.indexOf('/');
  return slash < 0 ? undefined : subject.slice(slash + 1);
}
