/**
 * The AsyncAPI document of the NATS side, generated from the schemas of `domain/`: the messages between units and the platform, and
 * the catalogue of the events that the platform stores. Pure: the same code generates the same document.
 */

import { unitHash } from '../../domain/shard.ts';
import { UNIT_NAME_PATTERN } from '../../domain/vocabulary.ts';
import { CATALOGUE, CATALOGUE_TAG } from './event-catalogue.ts';
import { EXAMPLE } from './event-data.ts';
import { definition, SCHEMAS } from './schemas.ts';
import { ref, type Side } from './types.ts';
import { UNITS, UNITS_TAG } from './units.ts';

const FROM_0_TO_F = '`0` to `f`, so that a shard of any size is a subject filter';
const hash = unitHash(EXAMPLE.unit);
const shardLetter = (index: number, ordinal: string) => ({
  description: `The ${ordinal} letter of the lower-case hex of sha256(name of the unit): ${FROM_0_TO_F}.`,
  examples: [hash.slice(index, index + 1)],
});

const PARAMETERS = {
  h1: shardLetter(0, 'first'),
  h2: shardLetter(1, 'second'),
  unit: { description: `The unique name of the unit: \`${UNIT_NAME_PATTERN}\`.`, examples: [EXAMPLE.unit] },
  inboxPrefix: {
    description: 'The secret `natsInboxPrefix` of the unit’s credentials.',
    examples: ['_INBOX_000102030405060708090a0b0c0d0e0f'],
  },
  token: { description: 'A token that the unit chooses for each request.', examples: ['3kV0tLbEx2'] },
};

const host = {
  host: '{host}:{port}',
  protocol: 'nats',
  variables: {
    host: { description: 'The host of `natsUrl` in the unit’s credentials.', default: '127.0.0.1' },
    port: { default: '4222' },
  },
};
const SERVERS = {
  units: {
    ...host,
    title: 'NATS for units',
    description: 'The account `UNITS`: it has no JetStream, and a unit reaches only its own subjects.',
    security: [ref('components/securitySchemes/unitCredentials')],
  },
  platform: {
    ...host,
    title: 'NATS for the platform',
    description: 'The account `PLATFORM` with JetStream: the streams `EVENTS` and `UNIT_INBOX`.',
    security: [ref('components/securitySchemes/platformCredentials')],
  },
};

const CREDS =
  'A creds file: a JWT that the account has signed, and an Ed25519 seed with which the client signs the nonce of the NATS server. ' +
  'The client never sends the seed.';
const SECURITY_SCHEMES = {
  unitCredentials: {
    type: 'asymmetricEncryption',
    description:
      `${CREDS} The answer to the registration of the unit shows it once, as \`natsCreds\`. The unit may publish on its \`.events\` ` +
      'and `.heartbeat`, subscribe to its `.commands` and below `natsInboxPrefix`, and answer each request once.',
  },
  platformCredentials: {
    type: 'asymmetricEncryption',
    description: `${CREDS} Processes of the platform get it by the setting \`NATS_CREDS\`.`,
  },
};

const DESCRIPTION = [
  'The messages over NATS: between units and the platform (`unit.…`), and the events that the platform stores (`evt.…`).',
  '[/swagger](/swagger) describes requests over HTTP; [/asyncapi/json](/asyncapi/json) is this document as JSON.',
  '`send` and `receive` are from the platform’s point of view.',
].join(' ');

/** The document as an object for `JSON.stringify`. `version` is the version of the platform. */
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
