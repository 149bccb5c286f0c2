/** The parts of an AsyncAPI 3.0 document that ours is made of. */

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
  /** `null`: a subject that the asker makes up. */
  readonly address: string | null;
  readonly title: string;
  readonly description: string;
  readonly servers: readonly Reference[];
  readonly parameters?: Readonly<Record<string, Reference>>;
  readonly messages: Readonly<Record<string, Reference>>;
  readonly tags: readonly Tag[];
}

export interface Operation {
  /** As the platform sees it. */
  readonly action: 'send' | 'receive';
  readonly channel: Reference;
  readonly title: string;
  readonly summary: string;
  readonly description: string;
  readonly messages: readonly Reference[];
  readonly reply?: { readonly channel: Reference; readonly messages: readonly Reference[] };
}

/** One side of NATS: its channels, who does what on them, and the messages by name. */
export interface Side {
  readonly channels: Readonly<Record<string, Channel>>;
  readonly operations: Readonly<Record<string, Operation>>;
  readonly messages: Readonly<Record<string, Message>>;
}

export const ref = (path: string): Reference => ({ $ref: `#/${path}` });

/** Messages of a channel by name: each refers to the message of that name. */
export function messagesOf(names: readonly string[]): Record<string, Reference> {
  return Object.fromEntries(names.map((name) => [name, ref(`components/messages/${name}`)]));
}

/** Some messages of one channel, as an operation names them. */
export function messagesIn(channel: string, names: readonly string[]): Reference[] {
  return names.map((name) => ref(`channels/${channel}/messages/${name}`));
}

/** The parameters of a channel: each refers to the parameter of that name. */
export function parametersOf(names: readonly string[]): Record<string, Reference> {
  return Object.fromEntries(names.map((name) => [name, ref(`components/parameters/${name}`)]));
}

/** What a channel is for, after its subject: pages show the title instead of it. */
export function describedWith(address: string | null, text: string): string {
  return address === null ? text : `\`${address}\`\n\n${text}`;
}
