import { Type } from '@sinclair/typebox';
import { Count, Identifier, Instant, Seq, Text } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const Epoch = Identifier;
const Gap = Type.Object({ epoch: Epoch, fromSeq: Seq, toSeq: Seq });

export const logEvents = {
  UnitLogGapDetected: defineEvent('log', 'Events of a unit are missing between those that arrived.', Gap),
  UnitLogGapClosed: defineEvent(
    'log',
    'A gap ended: the events arrived, or can never arrive.',
    Type.Object({ ...Gap.properties, lost: Type.Boolean() }),
  ),
  UnitBatchRejected: defineEvent(
    'log',
    'A batch could not be read at all.',
    Type.Object({ reason: Text, bytes: Count }),
  ),
  UnitEventRecovered: defineEvent(
    'log',
    'An event that was rejected has been accepted after all. `time` is when it happened, on the clock of the unit.',
    Type.Object({
      epoch: Epoch,
      seq: Seq,
      type: Identifier,
      v: Type.Integer({ minimum: 1 }),
      time: Instant,
      data: Type.Record(Type.String(), Type.Unknown()),
      offline: Type.Optional(Type.Boolean()),
      causationId: Type.Optional(Identifier),
      extra: Type.Optional(
        Type.Record(Type.String(), Type.Unknown(), { description: 'fields that are not known yet' }),
      ),
      clockOffsetMs: Type.Optional(
        Type.Integer({
          description: 'by how much the clock of the unit was ahead when the event came, if it was known to be wrong',
        }),
      ),
    }),
  ),
};
