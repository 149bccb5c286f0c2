/** Faults of decisions. Both are terminal: the same decision on the same state fails again. */

import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { MAX_COMMIT_EVENTS } from '../event-store/store.ts';

/** A decision has more events than one commit holds. Nothing was appended. */
export class DecisionTooLargeError extends Error {
  override readonly name = 'DecisionTooLargeError';

  constructor({ unit, aggregate, events }: Subject & { readonly events: readonly Pick<CloudEvent, 'type'>[] }) {
    const types = [...new Set(events.map(({ type }) => type))].join(', ');
    super(
      `A decision on the ${aggregate} subject of unit ${unit} has ${events.length} events (${types}); a commit holds at most ` +
        `${MAX_COMMIT_EVENTS}. Nothing was changed.`,
    );
  }
}

/** A decision that is made in chunks has still events after the bound of chunks: it does not converge. */
export class EndlessDecisionError extends Error {
  override readonly name = 'EndlessDecisionError';

  constructor({ unit, aggregate, chunks }: Subject & { readonly chunks: number }) {
    super(`A decision on the ${aggregate} subject of unit ${unit} is not complete after ${chunks} chunks.`);
  }
}

interface Subject {
  readonly unit: string;
  readonly aggregate: Aggregate;
}
