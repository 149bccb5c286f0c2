/** The work and the settings that the main thread hands to a thread. */

import type { NatsOptions } from '../../platform/nats/connection.ts';
import type { SharedTable } from '../units/unit-table.ts';

/** What a thread is started with. */
export interface ThreadSettings {
  readonly table: SharedTable;
  readonly timeoutMs: number;
  /** Whether connections of the HTTP probe are kept for the next ping. */
  readonly httpKeepAlive: boolean;
  /** Where units of the NATS probe are asked; without it they are not. */
  readonly nats?: Pick<NatsOptions, 'url' | 'creds'>;
}

export interface SlotTask {
  /** When the slot begins, milliseconds since 1970. */
  readonly startMs: number;
  /** The units, by their index in the table, in the order of their instants. */
  readonly units: Uint32Array;
  /** The instant of each, milliseconds after the slot begins. */
  readonly offsetsMs: Float32Array;
}
