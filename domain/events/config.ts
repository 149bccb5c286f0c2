import { Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration.ts';
import { Instant, Text } from '../vocabulary.ts';
import { event } from './define.ts';

const Version = Type.Integer({ minimum: 1 });
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });

export const configEvents = {
  ConfigurationChanged: event(
    'config',
    'The platform wants another configuration on a unit.',
    Type.Object({
      ...VersionedConfiguration.properties,
      mode: Type.Union([Type.Literal('live'), Type.Literal('queued')]),
    }),
  ),
  ConfigurationPushFailed: event(
    'config',
    'An attempt to bring a configuration to a unit failed.',
    Type.Object({
      version: Version,
      attempt: Type.Integer({ minimum: 1 }),
      reason: Text,
      nextAttemptAt: Type.Optional(Instant),
    }),
  ),
  ConfigurationApplied: event(
    'config',
    'A unit proved by its hash that it runs a configuration.',
    Type.Object({ version: Version, hash: Hash }),
  ),
  ConfigurationRejected: event(
    'config',
    'A unit refused a configuration.',
    Type.Object({ version: Version, hash: Hash, reason: Text }),
  ),
};
