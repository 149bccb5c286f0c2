/** Budgets of units that never run out, for tests of other things. */

import { UnitBudgets } from '../../platform/unit-log/unit-budgets.ts';
import { IngestAdmission } from '../../server/workers/ingest/ingest-admission.ts';

export function unlimitedBudgets(): UnitBudgets {
  return new UnitBudgets({ burst: Number.POSITIVE_INFINITY, perS: 1, monotonic: () => 0 });
}

export function unlimitedAdmission(): IngestAdmission {
  return new IngestAdmission({ events: unlimitedBudgets(), monotonic: () => 0 });
}
