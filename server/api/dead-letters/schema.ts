/** What a dead letter looks like over REST. */

import { Type } from '@sinclair/typebox';
import { Instant, MAX_TEXT_LENGTH, UnitName, Uuid } from '../../../domain/vocabulary.ts';

export const KINDS = ['event', 'batch'] as const;
export const STATUSES = ['open', 'recovered', 'dismissed'] as const;

export const DeadLetterView = Type.Object({
  id: Uuid,
  kind: Type.Union(KINDS.map((kind) => Type.Literal(kind))),
  unit: UnitName,
  epoch: Type.Union([Type.String(), Type.Null()], { description: 'of an event: the epoch of its place in the log' }),
  seq: Type.Union([Type.Integer(), Type.Null()], {
    description: 'of an event: where `UnitEventRejected` stands for it',
  }),
  reason: Type.String({ description: 'why it was not accepted when it came' }),
  bytes: Type.Integer({ description: 'of what came' }),
  status: Type.Union(STATUSES.map((status) => Type.Literal(status))),
  receivedAt: Instant,
  recoveredAt: Type.Union([Instant, Type.Null()]),
  dismissedAt: Type.Union([Instant, Type.Null()], {
    description: 'when it was put away; stays when it is recovered after that',
  }),
  dismissedBy: Type.Union([Type.String(), Type.Null()], { description: 'who put it away' }),
  dismissReason: Type.Union([Type.String(), Type.Null()], { description: 'why, if that was said' }),
});

/** Why letters are put away; the whole body may be left out. */
export const DismissBody = Type.Optional(
  Type.Object(
    // Postgres keeps no text with a NUL in it.
    { reason: Type.Optional(Type.String({ maxLength: MAX_TEXT_LENGTH, pattern: '^[^\\u0000]*$' })) },
    { additionalProperties: false, examples: [{ reason: 'sent by a prototype' }] },
  ),
);

export const Dismissed = Type.Object({ dismissed: Type.Integer({ description: 'how many letters were put away' }) });

export const WholeDeadLetterView = Type.Intersect([
  DeadLetterView,
  Type.Object({
    content: Type.Optional(Type.Unknown({ description: 'of an event: its JSON, as it came' })),
    text: Type.Optional(Type.String({ description: 'of a batch that is UTF-8' })),
    base64: Type.Optional(Type.String({ description: 'of a batch that is not UTF-8' })),
  }),
]);

export const DEAD_LETTER_EXAMPLE = {
  id: '5f0f8a52-9c1b-4f57-9d5e-1f4b6f6f4c11',
  kind: 'event',
  unit: 'PL-1000',
  epoch: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  seq: 17,
  reason: '/data/until: is missing',
  bytes: 148,
  status: 'open',
  receivedAt: '2026-07-01T10:00:00.120Z',
  recoveredAt: null,
  dismissedAt: null,
  dismissedBy: null,
  dismissReason: null,
};

export const WHOLE_DEAD_LETTER_EXAMPLE = {
  ...DEAD_LETTER_EXAMPLE,
  content: {
    seq: 17,
    v: 1,
    type: 'RentalStarted',
    time: '2026-07-01T10:00:00.010Z',
    locker: 'B',
    data: { rentalId: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56' },
  },
};

export const RECOVERED_EXAMPLE = {
  ...DEAD_LETTER_EXAMPLE,
  status: 'recovered',
  recoveredAt: '2026-07-02T08:30:00.000Z',
};

export const DISMISSED_EXAMPLE = {
  ...DEAD_LETTER_EXAMPLE,
  status: 'dismissed',
  dismissedAt: '2026-07-02T08:30:00.000Z',
  dismissedBy: 'ops:alice',
  dismissReason: 'sent by a prototype',
};
