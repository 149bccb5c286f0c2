/** The envelope in which every event is stored: CloudEvents 1.0 with the extensions of lockfleet. */

export const AGGREGATES = ['registry', 'config', 'connectivity', 'booking', 'device', 'log'] as const;
/** A part of a unit with a subject, and so a sequence, of its own in the event store. */
export type Aggregate = (typeof AGGREGATES)[number];

export interface CloudEvent {
  readonly specversion: '1.0';
  /** UUIDv7, or `UNIT/EPOCH/SEQ` for an event that a unit reports. */
  readonly id: string;
  readonly source: string;
  readonly type: string;
  /** The unit, or `UNIT/LOCKER`. */
  readonly subject: string;
  /** RFC 3339 time at which the event occurred, on the clock of its source. */
  readonly time: string;
  /** `TYPE/VERSION` */
  readonly dataschema: string;
  readonly datacontenttype?: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly actor?: string;
  readonly correlationid?: string;
  /** Id of the command that caused the event. */
  readonly causationid?: string;
  readonly unitepoch?: string;
  readonly unitseq?: number;
  readonly offline?: boolean;
  /**
   * Milliseconds by which the unit's clock was ahead when the platform recorded the event. Ingest sets it only where the
   * offset exceeded `CLOCK_OFFSET_TOLERANCE_MS`; `occurredAt` corrects the time of the event by it.
   */
  readonly clockoffsetms?: number;
  /** JSON object of the fields of a reported event that this version of the platform does not know. */
  readonly unitextra?: string;
}

/** The locker that a CloudEvents subject names; `undefined` for an event about the whole unit. */
export function lockerOfSubject(subject: string): string | undefined {
  const slash = subject.indexOf('/');
  return slash < 0 ? undefined : subject.slice(slash + 1);
}
