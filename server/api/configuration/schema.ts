/** The configuration of a unit over REST: what each route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { CONFIGURATION_STATUSES } from '../../../domain/configuration/configuration.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { ConfigurationValues, VersionedConfiguration } from '../../../domain/configuration-values.ts';
import { Instant, MAX_VERSION, Token, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { ifMatchHeader } from '../../http/etags.ts';
import { answer, operation } from '../../http/operation.ts';
import type { ProblemName } from '../../http/problems.ts';
import { ListQuery, MinPosition, OneOf, OrNull, PageQuery, pageOf, type Shown, strict } from '../../http/schemas.ts';

const TAG = 'Configuration';
const params = Type.Object({ name: UnitName });
const Version = Type.Integer({
  minimum: 1,
  maximum: MAX_VERSION,
  description: 'The number of the version. Each change of a unit has the next.',
});

const IfMatch = ifMatchHeader(
  'The `ETag` of the configuration that the client read: `"` version `"`. When another version is desired by now, the ' +
    'answer is 412 and nothing changes.',
);

const Mode = OneOf(['live', 'queued'], {
  description: '`live`: the platform sends the change within this request. `queued`: the background queue sends it.',
});
const IfOffline = Type.Optional({
  ...OneOf(['refuse', 'queue'], {
    description: 'What becomes of a live change when the unit is known to be offline: it is refused, or queued.',
  }),
  default: 'refuse',
});

const EXAMPLE_VALUES = defaultConfiguration(600);

const ChangeBody = Type.Object(
  { mode: Mode, values: ConfigurationValues, ifOffline: IfOffline },
  { ...strict, title: 'ChangeConfiguration', examples: [{ mode: 'live', values: EXAMPLE_VALUES.values }] },
);
export type ChangeBody = Static<typeof ChangeBody>;

const RollbackBody = Type.Object(
  {
    version: { ...Version, description: 'The version whose values are desired again.' },
    mode: Mode,
    ifOffline: IfOffline,
  },
  { ...strict, title: 'RollBackConfiguration', examples: [{ version: 1, mode: 'queued' }] },
);
export type RollbackBody = Static<typeof RollbackBody>;

export const ConfigurationView = Type.Object(
  {
    unit: UnitName,
    desired: { ...VersionedConfiguration, description: 'What the platform wants on the unit.' },
    reported: OrNull(
      Type.Object(
        { hash: Token, at: Instant },
        {
          description:
            'The configuration that the unit reported last, by its hash. It is null before the first report.',
        },
      ),
    ),
    status: OneOf(CONFIGURATION_STATUSES, {
      description:
        '`applied`: the unit proved the hash. `pending`: it is being sent, or the unit was never heard of. `queued`: it waits for ' +
        'its turn or for the unit. `drifted`: the unit reported another configuration. `failed`: the last push failed and is ' +
        'repeated. `rejected`: the unit refused it, and the platform sends nothing before the next change.',
    }),
    wantedAt: { ...Instant, description: 'When the desired configuration was changed last.' },
    attempts: Type.Integer({ minimum: 0, description: 'The number of pushes that failed in a row.' }),
    nextAttemptAt: OrNull({
      ...Instant,
      description: 'When the next push is due. It is null while none is due, for example while the unit is offline.',
    }),
    lastPushedAt: OrNull({
      ...Instant,
      description: 'When the platform last sent a configuration; null before the first.',
    }),
    reason: OrNull(Type.String({ description: 'Why the last push failed, or why the unit refused; else null.' })),
  },
  { title: 'Configuration' },
);
export type ConfigurationView = Shown<typeof ConfigurationView>;

export const VIEW_EXAMPLE: ConfigurationView = {
  unit: 'PL-1000',
  desired: { ...EXAMPLE_VALUES, version: 3 },
  reported: { hash: EXAMPLE_VALUES.hash, at: '2026-07-01T10:00:00.120Z' },
  status: 'applied',
  wantedAt: '2026-07-01T09:59:59.900Z',
  attempts: 0,
  nextAttemptAt: null,
  lastPushedAt: '2026-07-01T10:00:00.120Z',
  reason: null,
};

const Difference = Type.Object({
  path: Type.String({ description: 'The JSON pointer of the value; prices are listed under their size.' }),
  before: Type.Optional(
    Type.Unknown({ description: 'The value of the version before. It is absent where there was none.' }),
  ),
  after: Type.Optional(Type.Unknown({ description: 'The value of this version. It is absent where there is none.' })),
});

const VersionView = Type.Object(
  {
    version: Version,
    hash: VersionedConfiguration.properties.hash,
    mode: OrNull({ ...Mode, description: 'How it was sent; null for the version of the registration.' }),
    rolloutId: OrNull({ ...Uuid, description: 'The rollout that made the change; else null.' }),
    wantedAt: { ...Instant, description: 'When the change was made.' },
    wantedBy: Type.String({ description: 'The actor who made the change, such as `ops:me`.' }),
    status: OneOf([...CONFIGURATION_STATUSES, 'replaced'], {
      description:
        '`replaced`: the next version was made before the unit proved this one. Others: as in a configuration.',
    }),
    reason: OrNull(Type.String({ description: 'Why the last push failed, or why the unit refused; else null.' })),
    appliedAt: OrNull({ ...Instant, description: 'When the unit first proved that it runs the version; else null.' }),
    changes: Type.Array(Difference, { description: 'The differences from the version before.' }),
  },
  { title: 'ConfigurationVersion' },
);

const VersionWithValues = Type.Object(
  { ...VersionView.properties, values: ConfigurationValues },
  { title: 'ConfigurationVersionWithValues' },
);

const VERSION_EXAMPLE = {
  version: 3,
  hash: EXAMPLE_VALUES.hash,
  mode: 'live',
  rolloutId: null,
  wantedAt: '2026-07-01T09:59:59.900Z',
  wantedBy: 'ops:me',
  status: 'applied',
  reason: null,
  appliedAt: '2026-07-01T10:00:00.120Z',
  changes: [{ path: '/prices/S', before: { perHour: 200, currency: 'EUR' }, after: { perHour: 250, currency: 'EUR' } }],
} as const;

const Attempt = Type.Object(
  {
    at: Instant,
    version: Version,
    outcome: OneOf(['applied', 'reported', 'drifted', 'rejected', 'failed'], {
      description:
        '`applied`: the unit answered that it runs the version. `reported`: a ping, a heartbeat or the log of the unit proved it. ' +
        '`drifted`: one of them reported another configuration. `rejected`: the unit refused. `failed`: the push failed.',
    }),
    attempt: OrNull(Type.Integer({ description: 'For a failed push, how many had failed in a row; else null.' })),
    reason: OrNull(Type.String({ description: 'Why the push failed, or why the unit refused; else null.' })),
    reportedHash: OrNull(Type.String({ description: 'The hash that the unit reported; null where it reported none.' })),
    nextAttemptAt: OrNull({ ...Instant, description: 'When the next push was due after this one; else null.' }),
  },
  { title: 'ConfigurationAttempt' },
);

const changeAnswers = {
  200: answer('The unit proved that it runs the configuration.', ConfigurationView, VIEW_EXAMPLE),
  202: answer('The change is recorded and left to the queue. `status` and `reason` say why.', ConfigurationView, {
    ...VIEW_EXAMPLE,
    status: 'queued',
  }),
};

const CHANGE_PROBLEMS: readonly ProblemName[] = [
  'validation',
  'not-found',
  'precondition-failed',
  'unit-rejected',
  'unit-offline',
];

export const CHANGE_CONFIGURATION = operation({
  id: 'changeConfiguration',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Change the desired configuration of a unit',
  description:
    'The body has all values, which are checked against each other; each change is a version. `live` sends the change now and ' +
    'answers within 5 seconds: 200 when the unit proved it, 409 `unit-rejected` with the reason of the unit, 202 when the unit could ' +
    'not apply it or did not answer, and 503 `unit-offline`, with nothing recorded, when the unit was known to be offline. `queued` ' +
    'answers 202 at once: the queue sends the change as soon as the unit is online, and repeats a failed push by its retry ' +
    'schedule (`CONFIG_RETRY_SCHEDULE_S`). Values that are desired already make no new version, unless the unit has rejected them.',
  params,
  headers: IfMatch,
  body: ChangeBody,
  answers: changeAnswers,
  problems: CHANGE_PROBLEMS,
});

export const ROLL_BACK_CONFIGURATION = operation({
  id: 'rollBackConfiguration',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Make the values of an earlier version the desired ones',
  description: 'The rollback is a new version. It is sent, answered and refused like any other change.',
  params,
  headers: IfMatch,
  body: RollbackBody,
  answers: changeAnswers,
  problems: CHANGE_PROBLEMS,
});

export const GET_CONFIGURATION = operation({
  id: 'getConfiguration',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'units' },
  summary: 'Show the desired and the reported configuration of a unit, and why they differ',
  description: 'A change takes the header `ETag` of the answer as its `If-Match`.',
  params,
  query: Type.Object({ ...MinPosition }, strict),
  answers: {
    200: {
      ...answer('The desired and the reported configuration.', ConfigurationView, VIEW_EXAMPLE),
      headers: { etag: 'The desired version in quotes.' },
    },
  },
  problems: ['validation', 'not-found'],
});

export const LIST_VERSIONS = operation({
  id: 'listConfigurationVersions',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'configuration' },
  summary: 'List every version that was desired on a unit, the newest first',
  description:
    'Each version shows who made it, when, what it changed, and when the unit first proved it. The list begins with the registration: ' +
    'the versions of a retired unit that had the name before are in `GET /v1/events` and `GET /v1/units/{name}/state`.',
  params,
  query: Type.Object({ ...ListQuery, ...MinPosition }, strict),
  answers: {
    200: answer('A page of versions.', pageOf(VersionView, 'ConfigurationVersionPage'), {
      items: [VERSION_EXAMPLE],
      nextCursor: null,
    }),
  },
  problems: ['validation', 'not-found'],
});

export const GET_VERSION = operation({
  id: 'getConfigurationVersion',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'configuration' },
  summary: 'Show one version with its values',
  params: Type.Object({
    name: UnitName,
    version: Type.String({
      pattern: '^[1-9]\\d{0,8}$',
      description: 'The number of the version.',
      expects: 'the number of a version, such as 3',
    }),
  }),
  query: Type.Object({ ...MinPosition }, strict),
  answers: {
    200: answer('The version.', VersionWithValues, { ...VERSION_EXAMPLE, values: VIEW_EXAMPLE.desired.values }),
  },
  problems: ['validation', 'not-found'],
});

export const LIST_ATTEMPTS = operation({
  id: 'listConfigurationAttempts',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'configuration' },
  summary: 'List the pushes and reports of a unit’s configuration, the newest first',
  params,
  query: Type.Object({ ...PageQuery, ...MinPosition }, strict),
  answers: {
    200: answer('A page of attempts.', pageOf(Attempt, 'ConfigurationAttemptPage'), {
      items: [
        {
          at: '2026-07-01T09:59:00.000Z',
          version: 3,
          outcome: 'failed',
          attempt: 1,
          reason:
            'no answer from PL-1000 over HTTP at 127.0.1.5:7800: the operation was aborted; check the unit and its network',
          reportedHash: null,
          nextAttemptAt: '2026-07-01T10:00:00.000Z',
        },
      ],
      nextCursor: null,
    }),
  },
  problems: ['validation', 'not-found'],
});
