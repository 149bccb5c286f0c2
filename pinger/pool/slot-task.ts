/** The work and the settings that the main thread hands to a thread. */

import type { NatsOptions } from '../../platform/nats/connection.ts';
import type { SharedColumns } from '../units/unit-table.ts';

/** What a thread receives when it starts. */
export interface ThreadSettings {
  readonly table: SharedColumns;
  readonly timeoutMs: number;
  /** Whether the HTTP probe keeps connections for the next ping. */
  readonly httpKeepAlive: boolean;
  /** The NATS server of the NATS probe; without it, pings of that probe are discarded. */
  readonly nats?: Pick<NatsOptions, 'url' | 'creds'>;
}

/** The pings of one slot on one thread. `units` and `offsetsMs` have the same order. */
export interface SlotTask {
  /** The start of the slot, milliseconds since 1970. */
  readonly startMs: number;
  /** The units, by their index in the table, in the order in which they are due. */
  readonly units: Uint32Array;
  /** When each ping is due, milliseconds after the start of the slot. */
  readonly offsetsMs: Float32Array;
}
