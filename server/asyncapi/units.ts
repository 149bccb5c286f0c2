/** The messages between units and the platform: pushes, heartbeats, commands, pings and fetches. */

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

export const UNITS_TAG: Tag = { name: 'Units', description: 'The messages between units and the platform.' };

const JSON_TYPE = 'application/json';
const BYTES_PER_KIB = 1024;
const BATCH_BOUNDS = `At most ${MAX_BATCH_EVENTS} events and ${MAX_BATCH_BYTES / BYTES_PER_KIB} KiB`;
const OF_A_UNIT = ['h1', 'h2', 'unit'];

type MessageName = keyof typeof EXAMPLES;
const message = (schema: MessageName, title: string, summary: string, description?: string): Message => ({
  name: schema,
  title,
  summary,
  ...(description === undefined ? {} : { description }),
  contentType: JSON_TYPE,
  payload: referring(SCHEMAS[schema] as TSchema),
  examples: [{ name: schema, payload: EXAMPLES[schema] }],
});

const MESSAGES: Readonly<Record<MessageName, Message>> = {
  UnitBatch: message(
    'UnitBatch',
    'A batch of events',
    'A part of a unit’s log.',
    `${BATCH_BOUNDS}; at most ${MAX_EVENT_BYTES / BYTES_PER_KIB} KiB an event. The events are in the order of \`seq\`, without gaps. ` +
      'The unit sends no `Nats-Msg-Id`: the platform recognises events by `epoch` and `seq`.',
  ),
  PushStored: message('PushStored', 'The batch is stored', 'JetStream’s acknowledgement.'),
  PushRefused: message(
    'PushRefused',
    'The batch is not stored',
    'The refusal of JetStream. The unit sends the same events again later.',
    `JetStream also refuses a batch when ${MAX_INBOX_BATCHES_PER_UNIT} batches of the unit wait.`,
  ),
  Heartbeat: message('Heartbeat', 'A heartbeat', 'The content of the answer to a ping, without nonce and MAC.'),
  SignedCommand: message(
    'SignedCommand',
    'A signed command',
    'A compact Ed25519 JWS (RFC 7515).',
    'Its payload is `{aud: UNIT, iat, exp, command}`, with a command by the schema `Command`; `exp` is ' +
      `${COMMAND_SIGNATURE_TTL_S} s after \`iat\`. The command of the example, whose signature is a placeholder:\n\n` +
      `\`\`\`json\n${JSON.stringify(COMMAND_EXAMPLE, null, 2)}\n\`\`\``,
  ),
  CommandAnswer: message(
    'CommandAnswer',
    'The answer to a command',
    'The unit executes a `commandId` once and answers a repetition with the same answer.',
    '`done`: executed, now or before. `failed`: tried without success. `refused`: not executed, and a repetition is refused too.',
  ),
  FetchRequest: message(
    'FetchRequest',
    'A request for the log',
    'The scope `events` of its JWS tells it from a command.',
  ),
  FetchedBatch: message('FetchedBatch', 'A page of the log', `${BATCH_BOUNDS}, as in a push.`),
  NatsPing: message(
    'NatsPing',
    'A ping',
    'The content of the query of `GET /ping`. The unit does not answer a ping with a wrong MAC.',
  ),
  NatsPingAnswer: message('NatsPingAnswer', 'The answer to a ping', 'The content of the answer over HTTP.'),
  UnitProblem: message(
    'UnitProblem',
    'A request that the unit cannot process',
    'The unit has neither executed nor stored it.',
  ),
};

const channel = (parts: Omit<Channel, 'servers' | 'tags' | 'messages'>, names: readonly MessageName[]): Channel => ({
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
      description:
        'A unit pushes its log to this subject, batch after batch. The stream `UNIT_INBOX` stores the batches.',
      parameters: parametersOf(OF_A_UNIT),
    },
    ['UnitBatch'],
  ),
  unitInbox: channel(
    {
      address: '{inboxPrefix}.{token}',
      title: 'Inbox of a unit',
      description:
        'JetStream answers the pushes of a unit on this subject. It is the only inbox to which the unit may subscribe, and it is secret.',
      parameters: parametersOf(['inboxPrefix', 'token']),
    },
    ['PushStored', 'PushRefused'],
  ),
  unitHeartbeat: channel(
    {
      address: 'unit.{h1}.{h2}.{unit}.heartbeat',
      title: 'Heartbeats of a unit',
      description:
        'A unit publishes a heartbeat every 30 s, starting at a random time. It proves that the unit is online; the platform does not answer.',
      parameters: parametersOf(OF_A_UNIT),
    },
    ['Heartbeat'],
  ),
  unitCommands: channel(
    {
      address: 'unit.{h1}.{h2}.{unit}.commands',
      title: 'Requests to a unit',
      description:
        'The platform sends requests to a unit whose `commandChannel` or `probe` is `nats`. The unit may answer each request once.',
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

/** The possible answers with an example each, because the page shows an operation without its reply. */
function answered(names: readonly MessageName[]): string {
  const lines = names.map(
    (name) => `**${MESSAGES[name].title}** (\`${name}\`):\n\n\`\`\`json\n${JSON.stringify(EXAMPLES[name])}\n\`\`\``,
  );
  return `The answer is one of these.\n\n${lines.join('\n\n')}`;
}

interface Asked {
  readonly in: keyof typeof CHANNELS;
  readonly sends: readonly MessageName[];
  readonly answeredIn?: keyof typeof CHANNELS;
  readonly with?: readonly MessageName[];
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
  receivePush: operation(
    'receive',
    {
      title: 'A unit pushes its log',
      summary: 'The unit sends a request, and JetStream answers when the batch is on disk.',
      text:
        'The unit has one batch in flight, in order. After a refusal, or without an answer within 5 s, it sends the same events again ' +
        `with exponential backoff (250 ms to 15 s) and jitter. At most ${MAX_INBOX_BATCHES_PER_UNIT} batches of a unit wait for the platform.`,
    },
    { in: 'unitEvents', sends: ['UnitBatch'], answeredIn: 'unitInbox', with: ['PushStored', 'PushRefused'] },
  ),
  receiveHeartbeat: operation(
    'receive',
    {
      title: 'A unit proves that it is online',
      summary: 'The unit publishes a heartbeat and gets no answer.',
      text: 'The next heartbeat makes up for a lost one.',
    },
    { in: 'unitHeartbeat', sends: ['Heartbeat'] },
  ),
  sendCommand: operation(
    'send',
    {
      title: 'The platform commands a unit',
      summary: 'The platform sends a request, which the unit executes once for each `commandId`.',
      text:
        'The unit answers `refused` to a command that is signed for another unit, not signed, or received after `expiresAt`. ' +
        'Without an answer the unit may have acted; the platform may send the same command again.',
    },
    { in: 'unitCommands', sends: ['SignedCommand'], answeredIn: 'unitAnswers', with: ['CommandAnswer', 'UnitProblem'] },
  ),
  ping: operation(
    'send',
    {
      title: 'The platform pings a unit',
      summary: 'The platform sends a request to a unit whose `probe` is `nats`.',
      text: 'The unit may delete its log up to `recorded`.',
    },
    { in: 'unitCommands', sends: ['NatsPing'], answeredIn: 'unitAnswers', with: ['NatsPingAnswer'] },
  ),
  fetchLog: operation(
    'send',
    {
      title: 'The platform fetches from a unit’s log',
      summary: 'The platform requests the events after a position of the log.',
      text:
        'With an `after` of another epoch, or without one, the unit answers with the first events that it has of its present epoch. ' +
        'The unit may delete events up to the signed `recorded` only.',
    },
    { in: 'unitCommands', sends: ['FetchRequest'], answeredIn: 'unitAnswers', with: ['FetchedBatch', 'UnitProblem'] },
  ),
};

export const UNITS: Side = { channels: CHANNELS, operations: OPERATIONS, messages: MESSAGES };
