/**
 * Whether a unit answers, as the log knows it.
 *
 *   never-seen ──proof──▶ online ──misses──▶ offline
 *                           ▲                   │
 *                           └──────proof────────┘
 */

import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import type { EventDraft } from '../events/envelope.ts';
import { toMs } from '../vocabulary.ts';

/** How often units prove that they are there when nobody asks. */
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

/** A unit proved that it answers. */
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

/** A unit missed `missedPings` in a row; its last proof of life was at `lastProofAt`. */
export function markUnitOffline(state: Connectivity, missedPings: number, lastProofAt: string): EventDraft[] {
  if (state.status !== 'online') return [];
  return [{ type: 'UnitWentOffline', data: { lastProofAt, missedPings } }];
}
