/** Settles the bookings of a unit after an operator changed it, so that the answer to the operator includes what follows for them. */

import { settleBookings } from '../../../domain/booking/settlement.ts';
import type { DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';

/** Most commits of one request. The settlement worker goes on with what is left. */
const MAX_COMMITS = 20;

export interface SettleDependencies {
  readonly decider: UnitDecider;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/** Settles a unit for an operator, and returns its last decision. @throws StoreUnavailableError */
export async function settleUnit(
  { decider, newId, clock }: SettleDependencies,
  { unit, actor }: { readonly unit: string; readonly actor: string },
): Promise<DecisionResult> {
  for (let commits = 1; ; commits += 1) {
    const meta = { commandId: newId(), actor, source: '/lockfleet/server' };
    const decided = await decider.decide(unit, 'booking', meta, (state) => settleBookings(state, clock()));
    if (!decided.appended || commits >= MAX_COMMITS) return decided;
  }
}
