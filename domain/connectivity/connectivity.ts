/**
 * Whether a unit is online, as its `connectivity` events record it.
 *
 *   never-seen ──proof of life──▶ online ──missed pings──▶ offline
 *                                   ▲                        │
 *                                   └─────proof of life──────┘
 */

import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { toMs } from '../vocabulary.ts';

/** How often a unit sends a heartbeat. */
export const HEARTBEAT_INTERVAL_MS = 30_000;

export type Connectivity =
  | { readonly status: 'never-seen' }
  | { readonly status: 'online'; readonly since: string }
  | { readonly status: 'offline'; readonly since: string; readonly lastProofAt: string };

export const NEVER_SEEN: Connectivity = { status: 'never-seen' };

export function evolveConnectivity(state: Connectivity, event: KnownEvent): Connectivity {
  switch (event.type) {
    case 'UnitWentOnline':
      return { status: 'online', since: event.time };
    case 'UnitWentOffline':
      return { status: 'offline', since: event.time, lastProofAt: event.data.lastProofAt };
    default:
      return state;
  }
}

/** Records that a unit gave a proof of life. Decides nothing for a unit that is online. */
export function markUnitOnline(
  state: Connectivity,
  evidence: EventOf<'UnitWentOnline'>['evidence'],
  nowMs: number,
): EventDraft[] {
  if (state.status === 'online') return [];
  if (state.status === 'never-seen') return [{ type: 'UnitWentOnline', data: { evidence } }];
  const awayMs = Math.max(0, Math.round(nowMs - toMs(state.lastProofAt)));
  return [{ type: 'UnitWentOnline', data: { evidence, awayMs } }];
}

/**
 * Records that a unit missed the number of pings in a row at which the pinger calls it offline. `lastProofAt`, RFC 3339, is
 * the time of its last proof of life. Decides nothing for a unit that is not online.
 */
export function markUnitOffline(state: Connectivity, missedPings: number, lastProofAt: string): EventDraft[] {
  if (state.status !== 'online') return [];
  return [{ type: 'UnitWentOffline', data: { lastProofAt, missedPings } }];
}
