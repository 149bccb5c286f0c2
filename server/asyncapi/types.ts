/** The parts of AsyncAPI 3.0 that the document uses. */

export interface Reference {
  readonly $ref: string;
}

export interface Tag {
  readonly name: string;
  readonly description: string;
}

export interface Example {
  readonly name: string;
  readonly summary?: string;
  readonly headers?: unknown;
  readonly payload: unknown;
}

export interface Message {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly description?: string;
  readonly contentType: string;
  readonly headers?: unknown;
  /** A JSON schema. */
  readonly payload: unknown;
  readonly examples: readonly Example[];
}

export interface Channel {
  /** `null`: a reply subject that the requester chooses. */
  readonly address: string | null;
  readonly title: string;
  readonly description: string;
  readonly servers: readonly Reference[];
  readonly parameters?: Readonly<Record<string, Reference>>;
  readonly messages: Readonly<Record<string, Reference>>;
  readonly tags: readonly Tag[];
}

export interface Operation {
  /** From the platform's point of view. */
  readonly action: 'send' | 'receive';
  readonly channel: Reference;
  readonly title: string;
  readonly summary: string;
  readonly description: string;
  readonly messages: readonly Reference[];
  readonly reply?: { readonly channel: Reference; readonly messages: readonly Reference[] };
}

/** A part of the document: channels, the operations on them, and messages, by name. */
export interface Side {
  readonly channels: Readonly<Record<string, Channel>>;
  readonly operations: Readonly<Record<string, Operation>>;
  readonly messages: Readonly<Record<string, Message>>;
}

export const ref = (path: string): Reference => ({ $ref: `#/${path}` });

/** The messages of a channel, as references to the messages of these names. */
export function messagesOf(names: readonly string[]): Record<string, Reference> {
  return Object.fromEntries(names.map((name) => [name, ref(`components/messages/${name}`)]));
}

/** Messages of one channel, as an operation refers to them. */
export function messagesIn(channel: string, names: readonly string[]): Reference[] {
  return names.map((name) => ref(`channels/${channel}/messages/${name}`));
}

/** The parameters of a channel, as references to the parameters of these names. */
export function parametersOf(names: readonly string[]): Record<string, Reference> {
  return Object.fromEntries(names.map((name) => [name, ref(`components/parameters/${name}`)]));
}

/** The description of a channel, after its subject: the page shows the title in place of the subject. */
export function describedWith(address: string | null, text: string): string {
  return address === null ? text : `\`${address}\`\n\n${text}`;
}
