import { Type } from '@sinclair/typebox';
import { Instant } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const Evidence = Type.Union([Type.Literal('ping'), Type.Literal('heartbeat'), Type.Literal('command')]);

export const connectivityEvents = {
  UnitWentOnline: defineEvent(
    'connectivity',
    'The first proof that a unit answers, after it was offline or never seen.',
    Type.Object({
      evidence: Evidence,
      awayMs: Type.Optional(Type.Integer({ minimum: 0, description: 'how long it was offline' })),
    }),
  ),
  UnitWentOffline: defineEvent(
    'connectivity',
    'A unit missed too many pings in a row.',
    Type.Object({ lastProofAt: Instant, missedPings: Type.Integer({ minimum: 1 }) }),
  ),
};
