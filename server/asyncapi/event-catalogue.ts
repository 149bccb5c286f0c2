/** The published catalogue of events: a channel for each aggregate, a message for each event type. */

import { definitionOf, type EventType } from '../../domain/events/catalogue.ts';
import { AGGREGATES, type Aggregate } from '../../domain/events/cloud-event.ts';
import { MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS } from '../../platform/event-store/store.ts';
import { exampleCommitHeaders, exampleEvent } from './examples.ts';
import { commitWith, EVENT_TYPES, referring, SCHEMAS } from './schemas.ts';
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

export const CATALOGUE_TAG: Tag = {
  name: 'Catalogue of events',
  description: 'Every event type, by the aggregate whose subjects carry it.',
};

const CONTENT_TYPE = 'application/cloudevents-batch+json';

const ABOUT: Readonly<Record<Aggregate, string>> = {
  registry: 'The registered units and their lockers.',
  config: 'The desired configuration of a unit, and its delivery.',
  connectivity: 'Whether a unit answers.',
  booking: 'The decisions of the platform about reservations, and payments in the app.',
  device: 'The events that a unit reports, in the order of its log.',
  log: 'Gaps, lost ranges, refused and recovered events of a unit’s log.',
};

const nameOf = (aggregate: Aggregate) => `${aggregate}Events`;
const typesOf = (aggregate: Aggregate) =>
  EVENT_TYPES.filter((type) => definitionOf(type).aggregates.includes(aggregate));

function messageOf(type: EventType): Message {
  const { summary, version, aggregates } = definitionOf(type);
  const places = aggregates.map((aggregate) => `\`${aggregate}\``).join(' and ');
  return {
    name: type,
    title: type,
    summary,
    description: `${summary} Version ${version}, on subjects of ${places}. Its commit may hold other events too.`,
    contentType: CONTENT_TYPE,
    headers: referring(SCHEMAS.CommitHeaders),
    payload: referring(commitWith(type)),
    examples: [{ name: type, headers: exampleCommitHeaders(type), payload: [exampleEvent(type)] }],
  };
}

function channelOf(aggregate: Aggregate): Channel {
  const address = `evt.{h1}.{h2}.{unit}.${aggregate}`;
  const text = `${ABOUT[aggregate]} The stream \`EVENTS\` stores them. The platform never changes or deletes an event.`;
  return {
    address,
    title: `Events of ${aggregate}`,
    description: describedWith(address, text),
    servers: [ref('servers/platform')],
    parameters: parametersOf(['h1', 'h2', 'unit']),
    messages: messagesOf(typesOf(aggregate)),
    tags: [CATALOGUE_TAG],
  };
}

function operationOf(aggregate: Aggregate): Operation {
  const summary = `Commits to \`${aggregate}\`: ${ABOUT[aggregate]}`;
  return {
    action: 'send',
    channel: ref(`channels/${nameOf(aggregate)}`),
    title: `The platform records events of ${aggregate}`,
    summary,
    description:
      `A message is one commit: the events of one decision, or of one batch of a unit, as a CloudEvents JSON batch of at ` +
      `most ${MAX_COMMIT_EVENTS} events and ${MAX_COMMIT_BYTES / 1024} KiB. It is stored whole or not at all. The position of an ` +
      'event is the stream sequence of its message and its index in it, such as `1234.0`.',
    messages: messagesIn(nameOf(aggregate), typesOf(aggregate)),
  };
}

export const CATALOGUE: Side = {
  channels: Object.fromEntries(AGGREGATES.map((aggregate) => [nameOf(aggregate), channelOf(aggregate)])),
  operations: Object.fromEntries(AGGREGATES.map((aggregate) => [`record-${aggregate}`, operationOf(aggregate)])),
  messages: Object.fromEntries(EVENT_TYPES.map((type) => [type, messageOf(type)])),
};
