import { Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration-values.ts';
import { Instant, Text, Token } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const Version = Type.Integer({ minimum: 1 });
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
/** A unit can report any text. */
const ReportedHash = Type.String({
  ...Token,
  description: 'The hash as the unit reported it. Over UDP it has only the first 16 letters.',
});

export const configEvents = {
  ConfigurationChanged: defineEvent(
    'config',
    'The platform wants another configuration on a unit.',
    Type.Object({
      ...VersionedConfiguration.properties,
      mode: Type.Union([Type.Literal('live'), Type.Literal('queued')]),
    }),
  ),
  ConfigurationPushFailed: defineEvent(
    'config',
    'An attempt to bring a configuration to a unit failed.',
    Type.Object({
      version: Version,
      attempt: Type.Integer({ minimum: 1, description: 'The number of pushes that failed in a row, with this one.' }),
      reason: Text,
      unanswered: Type.Optional(
        Type.Boolean({
          description: 'Whether the unit did not answer, which may pass by itself. Absent: it answered.',
        }),
      ),
      nextAttemptAt: Type.Optional(
        Type.String({
          ...Instant,
          description:
            'When the platform pushes again, if the unit is online then. A unit that comes back gets the push at once.',
        }),
      ),
    }),
  ),
  ConfigurationApplied: defineEvent(
    'config',
    'A unit proved by its hash that it runs a configuration.',
    Type.Object({
      version: Version,
      hash: Hash,
      evidence: Type.Union([Type.Literal('answer'), Type.Literal('report')], {
        description: '`answer`: in the answer to the command. `report`: in a ping, a heartbeat or the log of the unit.',
      }),
    }),
  ),
  ConfigurationDrifted: defineEvent(
    'config',
    'A unit said that it runs another configuration than the one that is wanted of it.',
    Type.Object({ version: Version, hash: Hash, reportedHash: ReportedHash }),
  ),
  ConfigurationRejected: defineEvent(
    'config',
    'A unit refused a configuration.',
    Type.Object({ version: Version, hash: Hash, reason: Text }),
  ),
};
