/** Dead letters over REST: what each route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, MAX_TEXT_LENGTH, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { ListQuery, OneOf, OrNull, pageOf, strict } from '../../http/schemas.ts';

const TAG = 'Dead letters';
const params = Type.Object({ id: { ...Uuid, description: 'The id of the dead letter.' } });
const Kind = OneOf(['event', 'batch'], {
  description: '`event`: one event of a batch. `batch`: a batch or a fetched page that could not be read at all.',
});
const Status = OneOf(['open', 'recovered', 'dismissed'], {
  description:
    '`open`: an operator has to decide. `recovered`: a retry was accepted. `dismissed`: an operator closed it; it is kept.',
});

const DeadLetter = Type.Object(
  {
    id: Uuid,
    kind: Kind,
    unit: UnitName,
    epoch: OrNull(Type.String({ description: 'For an event, the epoch of its place in the log; else null.' })),
    seq: OrNull(
      Type.Integer({ description: 'For an event, the seq at which `UnitEventRejected` took its place; else null.' }),
    ),
    reason: Type.String({ description: 'Why it was refused when it arrived.' }),
    bytes: Type.Integer({ description: 'The size of what arrived, in bytes.' }),
    status: Status,
    receivedAt: Instant,
    recoveredAt: OrNull({ ...Instant, description: 'When a retry was accepted; else null.' }),
    dismissedAt: OrNull({ ...Instant, description: 'When it was dismissed; kept when it is recovered after that.' }),
    dismissedBy: OrNull(Type.String({ description: 'The operator who dismissed it.' })),
    dismissReason: OrNull(Type.String({ description: 'Why it was dismissed; null without a reason.' })),
  },
  { title: 'DeadLetter' },
);

const DeadLetterWithContent = Type.Object(
  {
    ...DeadLetter.properties,
    content: Type.Optional(Type.Unknown({ description: 'For an event, its JSON as it arrived.' })),
    text: Type.Optional(Type.String({ description: 'For a batch that is UTF-8, its text as it arrived.' })),
    base64: Type.Optional(Type.String({ description: 'For a batch that is not UTF-8, its bytes as they arrived.' })),
  },
  { title: 'DeadLetterWithContent' },
);

/** The body of a dismissal. A request may have no body. */
const DismissBody = Type.Optional(
  Type.Object(
    {
      reason: Type.Optional(
        Type.String({
          maxLength: MAX_TEXT_LENGTH,
          // Postgres stores no text with a NUL.
          pattern: '^[^\\u0000]*$',
          description: 'Why the letter is dismissed.',
        }),
      ),
    },
    { ...strict, title: 'Dismiss', examples: [{ reason: 'sent by a prototype' }] },
  ),
);

const Dismissed = Type.Object(
  { dismissed: Type.Integer({ description: 'The number of letters that were dismissed.' }) },
  { title: 'Dismissed' },
);

const EXAMPLE = {
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
} as const;

export const LIST_DEAD_LETTERS = operation({
  id: 'listDeadLetters',
  tag: TAG,
  auth: 'ops',
  summary: 'List what units sent and the platform refused, the newest first',
  description:
    'A dead letter is an event, in whose place the log has `UnitEventRejected`, or a batch that could not be read. The batches of a ' +
    'unit with 10,000 open letters wait until letters are recovered or dismissed.',
  query: Type.Object(
    {
      unit: Type.Optional({ ...UnitName, description: 'Only letters of this unit.' }),
      kind: Type.Optional(Kind),
      status: Type.Optional(Status),
      ...ListQuery,
    },
    strict,
  ),
  answers: {
    200: answer('A page of dead letters.', pageOf(DeadLetter, 'DeadLetterPage'), {
      items: [EXAMPLE],
      nextCursor: null,
    }),
  },
  problems: ['validation'],
});

export const GET_DEAD_LETTER = operation({
  id: 'getDeadLetter',
  tag: TAG,
  auth: 'ops',
  summary: 'Show a dead letter with what arrived',
  description: 'An event is in `content`. A batch is in `text`, or in `base64` when it is not UTF-8.',
  params,
  answers: {
    200: {
      ...answer('The dead letter.', DeadLetterWithContent, {
        ...EXAMPLE,
        content: {
          seq: 17,
          v: 1,
          type: 'RentalStarted',
          time: '2026-07-01T10:00:00.010Z',
          locker: 'B',
          data: { rentalId: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56' },
        },
      }),
      asResponse: true,
    },
  },
  problems: ['validation', 'not-found'],
});

export const RETRY_DEAD_LETTER = operation({
  id: 'retryDeadLetter',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Retry a dead letter',
  description:
    'The platform checks the letter by its present rules. It records an accepted event as `UnitEventRecovered`, once, however often ' +
    'it is retried, and of a batch the events that are not recorded yet. A letter that is refused again answers 409 with the reason ' +
    'and stays as it is. A dismissed letter can be retried too.',
  params,
  answers: {
    200: answer('The letter is recovered.', DeadLetter, {
      ...EXAMPLE,
      status: 'recovered',
      recoveredAt: '2026-07-02T08:30:00.000Z',
    }),
  },
  problems: ['validation', 'not-found', 'dead-letter-refused'],
});

export const DISMISS_DEAD_LETTER = operation({
  id: 'dismissDeadLetter',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Dismiss a dead letter',
  description:
    'A dismissed letter does not count as open any more. It is kept whole and can still be retried. Dismissing it again changes ' +
    'nothing: the first operator, time and reason stay. A recovered letter answers 409. The request may have no body.',
  params,
  body: DismissBody,
  answers: {
    200: answer('The letter is dismissed.', DeadLetter, {
      ...EXAMPLE,
      status: 'dismissed',
      dismissedAt: '2026-07-02T08:30:00.000Z',
      dismissedBy: 'ops:alice',
      dismissReason: 'sent by a prototype',
    }),
  },
  problems: ['validation', 'not-found', 'precondition-failed'],
});

export const DISMISS_DEAD_LETTERS = operation({
  id: 'dismissDeadLetters',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Dismiss all open dead letters of a unit',
  description:
    'One request dismisses up to 10,000 letters, the oldest first. When it answers 10,000, more may be open: send another request, ' +
    'with another `Idempotency-Key`. The request may have no body.',
  query: Type.Object(
    { unit: { ...UnitName, description: 'The unit whose letters are dismissed.' }, kind: Type.Optional(Kind) },
    strict,
  ),
  body: DismissBody,
  answers: { 200: answer('The number of dismissed letters.', Dismissed, { dismissed: 128 }) },
  problems: ['validation'],
});
