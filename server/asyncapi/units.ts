/** What units and the platform say to one another: pushes, heartbeats, commands and fetches. */

import type { TSchema } from '@sinclair/typebox';
import { MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES } from '../../domain/unit-protocol/batch.ts';
import { COMMAND_SIGNATURE_TTL_S } from '../../domain/unit-protocol/commands.ts';
import { MAX_INBOX_BATCHES_PER_UNIT } from '../../platform/nats/streams.ts';
import { COMMAND_EXAMPLE, EXAMPLES } from './examples.ts';
import { referring, SCHEMAS } from './schemas.ts';
import {
  type Channel,
  describedWith,
  type Message,
  messagesIn,
  messagesOf,
  type Operation,
  parametersOf,
  ref,
  type Side,
  type Tag,
} from './types.ts';

export const UNITS_TAG: Tag = { name: 'Units', description: 'What units and the platform say to one another.' };

const JSON_TYPE = 'application/json';
const BYTES_PER_KIB = 1024;
const BATCH_BOUNDS = `At most ${MAX_BATCH_EVENTS} events and ${MAX_BATCH_BYTES / BYTES_PER_KIB} KiB`;
const OF_A_UNIT = ['h1', 'h2', 'unit'];

type Said = keyof typeof EXAMPLES;
const message = (schema: Said, title: string, summary: string, description?: string): Message => ({
  name: schema,
  title,
  summary,
  ...(description === undefined ? {} : { description }),
  contentType: JSON_TYPE,
  payload: referring(SCHEMAS[schema] as TSchema),
  examples: [{ name: schema, payload: EXAMPLES[schema] }],
});

const MESSAGES: Readonly<Record<Said, Message>> = {
  UnitBatch: message(
    'UnitBatch',
    'A batch of events',
    'A piece of a unit’s log.',
    `${BATCH_BOUNDS}, an event at most ${MAX_EVENT_BYTES / BYTES_PER_KIB} KiB; in the order of \`seq\`, without gaps. ` +
      'No `Nats-Msg-Id`: the platform knows what it has by `epoch` and `seq`.',
  ),
  PushStored: message('PushStored', 'The batch is stored', 'JetStream’s acknowledgement.'),
  PushRefused: message(
    'PushRefused',
    'The batch is not stored',
    'JetStream’s refusal: the same events again, later.',
    `Also what a unit hears of which ${MAX_INBOX_BATCHES_PER_UNIT} batches wait already.`,
  ),
  Heartbeat: message('Heartbeat', 'A heartbeat', 'What a ping’s answer says, without nonce and MAC.'),
  SignedCommand: message(
    'SignedCommand',
    'A signed command',
    'A compact Ed25519 JWS (RFC 7515).',
    'Its payload is `{aud: UNIT, iat, exp, command}`, the command as in the schema `Command`; `exp` is ' +
      `${COMMAND_SIGNATURE_TTL_S} s after \`iat\`. That of the example, whose signature is none:\n\n` +
      `\`\`\`json\n${JSON.stringify(COMMAND_EXAMPLE, null, 2)}\n\`\`\``,
  ),
  CommandAnswer: message(
    'CommandAnswer',
    'The answer to a command',
    'Given once per `commandId`: the same command again is answered the same.',
    '`done`: carried out, now or before. `failed`: tried, and it did not work. `refused`: not carried out, and never will be.',
  ),
  FetchRequest: message(
    'FetchRequest',
    'A request for the log',
    'Told from a command by the scope of its JWS, `events`.',
  ),
  FetchedBatch: message('FetchedBatch', 'A page of the log', `${BATCH_BOUNDS}, as in a push.`),
  NatsPing: message(
    'NatsPing',
    'A ping',
    'What the query of `GET /ping` says. A MAC that does not hold gets no answer.',
  ),
  NatsPingAnswer: message('NatsPingAnswer', 'The answer to a ping', 'The same as over HTTP.'),
  UnitProblem: message('UnitProblem', 'A request that cannot be read', 'Neither carried out nor stored.'),
};

const channel = (parts: Omit<Channel, 'servers' | 'tags' | 'messages'>, names: readonly Said[]): Channel => ({
  ...parts,
  description: describedWith(parts.address, parts.description),
  servers: [ref('servers/units')],
  messages: messagesOf(names),
  tags: [UNITS_TAG],
});

const CHANNELS = {
  unitEvents: channel(
    {
      address: 'unit.{h1}.{h2}.{unit}.events',
      title: 'Events of a unit',
      description: 'Where a unit pushes its log, batch after batch. The stream `UNIT_INBOX` takes them.',
      parameters: parametersOf(OF_A_UNIT),
    },
    ['UnitBatch'],
  ),
  unitInbox: channel(
    {
      address: '{inboxPrefix}.{token}',
      title: 'Inbox of a unit',
      description:
        'Where a unit’s pushes are answered: the only inbox that it may subscribe to, and nobody else knows it.',
      parameters: parametersOf(['inboxPrefix', 'token']),
    },
    ['PushStored', 'PushRefused'],
  ),
  unitHeartbeat: channel(
    {
      address: 'unit.{h1}.{h2}.{unit}.heartbeat',
      title: 'Heartbeats of a unit',
      description: 'Every 30 s, from a random moment on. It is proof of being online, and waits for no answer.',
      parameters: parametersOf(OF_A_UNIT),
    },
    ['Heartbeat'],
  ),
  unitCommands: channel(
    {
      address: 'unit.{h1}.{h2}.{unit}.commands',
      title: 'Requests to a unit',
      description:
        'Where a unit is asked whose `commandChannel` or `probe` is `nats`. It may answer each request once.',
      parameters: parametersOf(OF_A_UNIT),
    },
    ['SignedCommand', 'FetchRequest', 'NatsPing'],
  ),
  unitAnswers: channel(
    {
      address: null,
      title: 'Answers of a unit',
      description: 'The reply subject of the request.',
    },
    ['CommandAnswer', 'FetchedBatch', 'UnitProblem', 'NatsPingAnswer'],
  ),
};

/** What comes back, with an example of each: pages show an operation without its reply. */
function answered(names: readonly Said[]): string {
  const lines = names.map(
    (name) => `**${MESSAGES[name].title}** (\`${name}\`):\n\n\`\`\`json\n${JSON.stringify(EXAMPLES[name])}\n\`\`\``,
  );
  return `Answered with one of these.\n\n${lines.join('\n\n')}`;
}

interface Asked {
  readonly in: keyof typeof CHANNELS;
  readonly sends: readonly Said[];
  readonly answeredIn?: keyof typeof CHANNELS;
  readonly with?: readonly Said[];
}

function operation(
  action: Operation['action'],
  { title, summary, text }: { readonly title: string; readonly summary: string; readonly text: string },
  asked: Asked,
): Operation {
  const { in: place, sends, answeredIn, with: answers = [] } = asked;
  const description = `${summary} ${text}`;
  const base = { action, channel: ref(`channels/${place}`), title, summary, messages: messagesIn(place, sends) };
  if (answeredIn === undefined) return { ...base, description };
  return {
    ...base,
    description: `${description}\n\n${answered(answers)}`,
    reply: { channel: ref(`channels/${answeredIn}`), messages: messagesIn(answeredIn, answers) },
  };
}

const OPERATIONS = {
  takePush: operation(
    'receive',
    {
      title: 'A unit pushes its log',
      summary: 'A request by the unit, answered by JetStream when the batch is on disk.',
      text:
        'One batch in flight, in order. A refusal, or no answer within 5 s: the same events again, after 250 ms, doubled ' +
        `each time up to 15 s. At most ${MAX_INBOX_BATCHES_PER_UNIT} batches of a unit wait for the platform.`,
    },
    { in: 'unitEvents', sends: ['UnitBatch'], answeredIn: 'unitInbox', with: ['PushStored', 'PushRefused'] },
  ),
  takeHeartbeat: operation(
    'receive',
    {
      title: 'A unit is there',
      summary: 'Published by the unit, without an answer.',
      text: 'A lost one costs nothing.',
    },
    { in: 'unitHeartbeat', sends: ['Heartbeat'] },
  ),
  sendCommand: operation(
    'send',
    {
      title: 'The platform commands a unit',
      summary: 'A request by the platform, which the unit carries out once per `commandId`.',
      text:
        'What is signed for another unit, not signed, or later than `expiresAt` is answered `refused`. ' +
        'No answer says nothing: the unit may have acted, and the same command may be sent again.',
    },
    { in: 'unitCommands', sends: ['SignedCommand'], answeredIn: 'unitAnswers', with: ['CommandAnswer', 'UnitProblem'] },
  ),
  ping: operation(
    'send',
    {
      title: 'The platform pings a unit',
      summary: 'A request by the platform, for units whose `probe` is `nats`.',
      text: 'The unit may delete its log up to `recorded`.',
    },
    { in: 'unitCommands', sends: ['NatsPing'], answeredIn: 'unitAnswers', with: ['NatsPingAnswer'] },
  ),
  fetchLog: operation(
    'send',
    {
      title: 'The platform fetches from a unit’s log',
      summary: 'A request by the platform for what comes after a place.',
      text:
        'With `after` in another epoch, or none, the unit answers from the start of what it has of its present epoch. ' +
        'Only what the signed `recorded` names may be deleted.',
    },
    { in: 'unitCommands', sends: ['FetchRequest'], answeredIn: 'unitAnswers', with: ['FetchedBatch', 'UnitProblem'] },
  ),
};

export const UNITS: Side = { channels: CHANNELS, operations: OPERATIONS, messages: MESSAGES };
