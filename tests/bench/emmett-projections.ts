/** The read models of the benchmark as projections of emmett, and a processor that hands them whole batches. */

import {
  type PostgreSQLProcessor,
  type PostgreSQLProjectionDefinition,
  pongoMultiStreamProjection,
  postgreSQLProjection,
  readProcessorCheckpoint,
  storeProcessorCheckpoint,
  transactionToPostgreSQLProjectionHandlerContext,
} from '@event-driven-io/emmett-postgresql';
import { lockerOfSubject } from '../../domain/events/cloud-event.ts';
import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { evolveWith, FOLLOWED_TYPES, RECORDED_TYPES, type Recorded } from './emmett-history.ts';

const VERSION = 1;

export type RecordedProjection = PostgreSQLProjectionDefinition<Recorded>;
type UnitDocument = Pick<UnitState, keyof UnitState>;
type RecordedEvent = Parameters<RecordedProjection['handle']>[0][number];

/** One row for each event, in the table that `event_log` makes, by one statement for all that it is given. */
export function eventLogIn(schema: string): RecordedProjection {
  return postgreSQLProjection<Recorded>({
    name: `event_log_${schema}`,
    canHandle: RECORDED_TYPES,
    async handle(events, { connection }) {
      const column = <T>(value: (event: (typeof events)[number]) => T): T[] => events.map(value);
      await connection.client.query(
        `insert into ${schema}.event (sequence, index, unit, locker, type, actor, correlation, time, recorded_at, event)
         select sequence, 0, unit, locker, type, actor, correlation, time, recorded_at, event
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[])
           as batch (sequence, unit, locker, type, actor, correlation, time, recorded_at, event)`,
        [
          column(({ metadata }) => metadata.globalPosition.toString()),
          column(({ metadata }) => metadata.unit),
          column(({ data }) => lockerOfSubject(data.subject) ?? null),
          column(({ type }) => type),
          column(({ data }) => data.actor ?? null),
          column(({ data }) => data.correlationid ?? null),
          column(({ data }) => data.time),
          column(({ metadata }) => metadata.recordedAt),
          column(({ data }) => JSON.stringify(data)),
        ],
      );
    },
  });
}

/** A document for each unit, as emmett's guide says. */
export function unitDocuments(collectionName: string): RecordedProjection {
  return pongoMultiStreamProjection<UnitDocument, Recorded>({
    collectionName,
    canHandle: FOLLOWED_TYPES,
    getDocumentId: ({ metadata }) => metadata.unit,
    evolve: (document: UnitDocument | null, event: RecordedEvent) =>
      evolveWith(document ?? newUnitState(event.metadata.unit), event, positionOf(event)),
  });
}

/** What a projection of one's own does with a whole batch: the states of its units read, folded and written, each once. */
export function unitStatesIn(schema: string): RecordedProjection {
  return postgreSQLProjection<Recorded>({
    name: `unit_states_${schema}`,
    canHandle: FOLLOWED_TYPES,
    async handle(events, { connection: { client } }) {
      const byUnit = Map.groupBy(events, ({ metadata }) => metadata.unit);
      const { rows } = await client.query<{ unit: string; state: UnitState }>(
        `select unit, state from ${schema}.unit_state where unit = any($1::text[])`,
        [[...byUnit.keys()]],
      );
      const known = new Map(rows.map(({ unit, state }) => [unit, state]));
      const folded = [...byUnit].map(([unit, ofUnit]) =>
        ofUnit.reduce(
          (state, event) => evolveWith(state, event, positionOf(event)),
          known.get(unit) ?? newUnitState(unit),
        ),
      );
      await client.query(
        `insert into ${schema}.unit_state (unit, state)
         select unit, state::json from unnest($1::text[], $2::text[]) as batch (unit, state)
         on conflict (unit) do update set state = excluded.state`,
        [folded.map(({ name }) => name), folded.map((state) => JSON.stringify(state))],
      );
    },
  });
}

function positionOf({ metadata }: RecordedEvent): bigint {
  return metadata.globalPosition;
}

/**
 * A processor of one's own for emmett's consumer. emmett's projectors give a projection one event at a time and move the
 * checkpoint after each; this one does both once for a batch, in one transaction.
 */
export function batchProcessor(projection: RecordedProjection): PostgreSQLProcessor<Recorded> {
  const processorId = `batches:${projection.name}`;
  let lastCheckpoint: bigint | null = null;
  let isActive = false;
  return {
    id: processorId,
    instanceId: processorId,
    type: 'projector',
    get isActive() {
      return isActive;
    },
    init: async () => undefined,
    async start({ execute }) {
      if (execute === undefined) throw new Error('the consumer gave no connection');
      isActive = true;
      ({ lastProcessedCheckpoint: lastCheckpoint } = await readProcessorCheckpoint(execute, { processorId }));
      return lastCheckpoint === null ? 'BEGINNING' : { lastCheckpoint };
    },
    close: async () => {
      isActive = false;
    },
    async handle(messages, { connection }) {
      if (connection === undefined) throw new Error('the consumer gave no connection');
      const { connectionString, pool } = connection;
      const events = messages.filter(({ type }) => projection.canHandle.includes(type));
      const newCheckpoint = messages.at(-1)?.metadata.globalPosition ?? null;
      await pool.withTransaction(async (transaction) => {
        const context = await transactionToPostgreSQLProjectionHandlerContext(connectionString, pool, transaction);
        if (events.length > 0) await projection.handle(events, context);
        const position = { lastProcessedCheckpoint: lastCheckpoint, newCheckpoint };
        const stored = await storeProcessorCheckpoint(transaction.execute, {
          processorId,
          version: VERSION,
          ...position,
        });
        if (!stored.success) throw new Error(`the checkpoint of ${processorId} did not move: ${stored.reason}`);
        return { success: true, result: undefined };
      });
      lastCheckpoint = newCheckpoint;
    },
  };
}
