/**
 * The AsyncAPI document of what travels over NATS, made from the schemas of `domain/`: what units say and are asked, and
 * the catalogue of the events that the platform stores. Pure: the same code gives the same document.
 */

import { unitHash } from '../../domain/shard.ts';
import { UNIT_NAME_PATTERN } from '../../domain/vocabulary.ts';
import { CATALOGUE, CATALOGUE_TAG } from './event-catalogue.ts';
import { EXAMPLE } from './event-data.ts';
import { definition, SCHEMAS } from './schemas.ts';
import { ref, type Side } from './types.ts';
import { UNITS, UNITS_TAG } from './units.ts';

const FROM_0_TO_F = '`0` to `f`: a shard of any size is a subject filter';
const hash = unitHash(EXAMPLE.unit);
const shardLetter = (index: number, ordinal: string) => ({
  description: `${ordinal} letter of the lower-case hex of sha256(name of the unit), ${FROM_0_TO_F}`,
  examples: [hash.slice(index, index + 1)],
});

const PARAMETERS = {
  h1: shardLetter(0, 'first'),
  h2: shardLetter(1, 'second'),
  unit: { description: `unique name of the unit, \`${UNIT_NAME_PATTERN}\``, examples: [EXAMPLE.unit] },
  inboxPrefix: {
    description: '`natsInboxPrefix` of the unit’s credentials, a secret like them',
    examples: ['_INBOX_000102030405060708090a0b0c0d0e0f'],
  },
  token: { description: 'made up by the unit for each request', examples: ['3kV0tLbEx2'] },
};

const host = {
  host: '{host}:{port}',
  protocol: 'nats',
  variables: {
    host: { description: 'of `natsUrl` in a unit’s credentials', default: '127.0.0.1' },
    port: { default: '4222' },
  },
};
const SERVERS = {
  units: {
    ...host,
    title: 'NATS as units see it',
    description: 'The account `UNITS`: no JetStream, and no subject but those of the unit itself.',
    security: [ref('components/securitySchemes/unitCredentials')],
  },
  platform: {
    ...host,
    title: 'NATS as the platform sees it',
    description: 'The account `PLATFORM`, with JetStream: the streams `EVENTS` and `UNIT_INBOX`.',
    security: [ref('components/securitySchemes/platformCredentials')],
  },
};

const CREDS =
  'A creds file: a JWT that the account has signed, and an Ed25519 seed that signs the nonce of the NATS server. The ' +
  'seed itself never travels.';
const SECURITY_SCHEMES = {
  unitCredentials: {
    type: 'asymmetricEncryption',
    description:
      `${CREDS} Shown once, \`natsCreds\` in the answer to the unit’s registration. It may publish on its \`.events\` and ` +
      '`.heartbeat`, subscribe to its `.commands` and below `natsInboxPrefix`, answer each request once, and nothing else.',
  },
  platformCredentials: {
    type: 'asymmetricEncryption',
    description: `${CREDS} The setting \`NATS_CREDS\`, for processes of the platform.`,
  },
};

const DESCRIPTION = [
  'What travels over NATS: what units send and are asked (`unit.…`), and the events that the platform stores (`evt.…`).',
  'Requests over HTTP are described in [/swagger](/swagger); this document as JSON is [/asyncapi/json](/asyncapi/json).',
  '`send` and `receive` are meant as the platform sees it.',
].join(' ');

/** The document, ready to be written as JSON. `version`: of the platform. */
export function asyncApiDocument(version: string) {
  const sides: readonly Side[] = [UNITS, CATALOGUE];
  const all = <K extends keyof Side>(part: K) => Object.assign({}, ...sides.map((side) => side[part])) as Side[K];
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'lockfleet over NATS',
      version,
      description: DESCRIPTION,
      license: { name: 'MIT' },
      tags: [UNITS_TAG, CATALOGUE_TAG],
    },
    defaultContentType: 'application/json',
    servers: SERVERS,
    channels: all('channels'),
    operations: all('operations'),
    components: {
      messages: all('messages'),
      schemas: Object.fromEntries(Object.entries(SCHEMAS).map(([name, schema]) => [name, definition(schema)])),
      parameters: PARAMETERS,
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}
