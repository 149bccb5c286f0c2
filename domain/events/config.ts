import { Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration-values.ts';
import { Instant, Text, Token } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const Version = Type.Integer({ minimum: 1 });
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
/** What a unit says may be anything. */
const ReportedHash = Type.String({ ...Token, description: 'as the unit said it; over UDP the first 16 letters' });

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
      attempt: Type.Integer({ minimum: 1, description: 'how many have failed in a row, this one included' }),
      reason: Text,
      nextAttemptAt: Type.Optional(
        Type.String({ ...Instant, description: 'if the unit is online then; it is asked at once when it comes back' }),
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
        description: '`answer`: to the command that brought it; `report`: in a ping, a heartbeat or its log',
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
