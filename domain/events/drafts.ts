/** Events as deciders return them: without an envelope, which the process that appends them adds. */

import { type EventOf, type EventType, versionOf } from './catalogue.ts';
import type { CloudEvent } from './cloud-event.ts';

export type EventDraft = {
  [T in EventType]: { readonly type: T; readonly locker?: string; readonly data: EventOf<T> };
}[EventType];

/** What the envelopes of all events of one decision have in common. */
export interface DecisionContext {
  readonly unit: string;
  readonly source: string;
  /** RFC 3339 time of the decision. */
  readonly time: string;
  readonly actor: string;
  /** Id of the command; the folds recognise a repeated command by it. */
  readonly commandId: string;
  readonly correlationId?: string;
}

/** Makes events of the drafts of one decision. `newId` makes UUIDv7s. */
export function envelop(drafts: readonly EventDraft[], context: DecisionContext, newId: () => string): CloudEvent[] {
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
