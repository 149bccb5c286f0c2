/** One schema per event type and version; types, validation and the published catalogue all come from it. */

import type { Static, TObject } from '@sinclair/typebox';
import type { Aggregate } from './cloud-event.ts';

export interface EventDefinition<S extends TObject = TObject> {
  /** The aggregates whose subjects carry this type. */
  readonly aggregates: readonly Aggregate[];
  /** Version of the schema; stored events of older versions are upcast when read. */
  readonly version: number;
  readonly summary: string;
  readonly schema: S;
}

export type DataOf<D extends EventDefinition> = Static<D['schema']>;

export function defineEvent<S extends TObject>(
  aggregate: Aggregate | readonly Aggregate[],
  summary: string,
  schema: S,
): EventDefinition<S> {
  return { aggregates: typeof aggregate === 'string' ? [aggregate] : aggregate, version: 1, summary, schema };
}
