/** What the route of a unit's history takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { UnitName } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { MAX_FOLDED_EVENTS, MAX_FORECAST_DAYS, MAX_RUNNING_FOLDS } from './handlers.ts';
import { STATE_EXAMPLE, StateQuery, UnitAtATime } from './schema.ts';

export const GET_STATE = {
  params: Type.Object({ name: UnitName }),
  query: StateQuery,
  detail: documented({
    summary: 'One unit at another time, past or future',
    description: [
      'Either `at` or `atPosition`. With `view=actual` (the default) the unit as it was: everything that had happened by then counts, ' +
        'also what was recorded later, such as the log of a unit that was cut off; a reservation that the unit says was in use was, ' +
        'whenever the platform heard of it. With `view=believed` the unit as the platform took it for then: what was recorded by ' +
        'then counts, and nothing else. A position is always a place in the recording.',
      'When something happened is what the clock of its source said, without the offset of a clock that was known to be wrong, ' +
        'and never later than it was recorded. Events keep the order of the log that they stand in: a log counts up to its first event ' +
        'that happened after `at`. Where a clock was set back, what came before that event in the log, and claims to be later ' +
        'than `at`, therefore hides what follows it. Whether a unit was online is what the platform saw.',
      `An \`at\` that lies ahead, up to ${MAX_FORECAST_DAYS} days, is answered with \`forecast: true\` from the present. \`status\` of a ` +
        'reservation is what the platform decides from the clock alone: holds that are not confirmed expire, and so do, 24 ' +
        'hours after their period, reservations that nobody used. `course` is what is planned: customers use what they have confirmed, ' +
        'and give lockers back when their time is over; whoever is over time now does within 30 minutes. A configuration that waits ' +
        'is expected to be pushed when its next attempt is due, and to be applied, if the unit is online now. Assumed is that ' +
        'nobody does anything new, that the unit stays as reachable as it is, and that doors stay as they are.',
      `The past is folded from the event log, at most ${MAX_FOLDED_EVENTS} events of the unit a request: 422 when it takes more. ` +
        `${MAX_RUNNING_FOLDS} requests do so at a time in a server; others are answered 503, and so are those about a unit whose ` +
        'events are parked in the event log. Before its registration a unit is 404.',
    ].join('\n\n'),
    tag: 'Units',
    answers: { 200: { description: 'The unit then', schema: UnitAtATime, example: STATE_EXAMPLE } },
    errors: ['validation', 'not-found'],
  }),
};
