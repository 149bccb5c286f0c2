/** What a pinger tells Prometheus: the figures that it counts anyway. */

import type { Source } from '../../platform/observability/metrics.ts';
import type { PingerFigures } from './pinger-figures.ts';

const MS_PER_S = 1_000;

const FAMILIES = {
  pinger_counted_total: { type: 'counter', help: 'What was counted since the start, by what it is', label: 'what' },
  pinger_units: { type: 'gauge', help: 'Units that this process watches' },
  pinger_units_not_pinged: { type: 'gauge', help: 'Units of them that only their heartbeats tell of' },
  pinger_units_flapping: { type: 'gauge', help: 'Units of them that go and come too often to be believed at once' },
  pinger_units_by_state: { type: 'gauge', help: 'Units of them by what is believed of them', label: 'state' },
  pinger_outages: { type: 'gauge', help: 'Parts of the fleet in which too many are missing for it to be the units' },
  pinger_schedule_lag_p99_seconds: {
    type: 'gauge',
    help: 'How late pings left in the last half minute, 99th percentile',
  },
  pinger_schedule_lag_max_seconds: { type: 'gauge', help: 'How late pings left in the last half minute, at most' },
  pinger_replaced_threads_total: { type: 'counter', help: 'Threads that had to be replaced' },
} as const;

export function pingerMetrics(figures: () => PingerFigures): Source<keyof typeof FAMILIES> {
  return {
    name: 'pinger',
    families: FAMILIES,
    read() {
      const { units, notPinged, flapping, states, outages, scheduleLagMs, totals, replacedThreads } = figures();
      return {
        pinger_counted_total: totals,
        pinger_units: units,
        pinger_units_not_pinged: notPinged,
        pinger_units_flapping: flapping,
        pinger_units_by_state: states,
        pinger_outages: outages.length,
        pinger_schedule_lag_p99_seconds: scheduleLagMs.p99 / MS_PER_S,
        pinger_schedule_lag_max_seconds: scheduleLagMs.max / MS_PER_S,
        pinger_replaced_threads_total: replacedThreads,
      };
    },
  };
}
