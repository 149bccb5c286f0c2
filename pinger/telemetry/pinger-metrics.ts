/** The pinger's figures as Prometheus metrics. */

import type { Source } from '../../platform/observability/metrics.ts';
import type { PingerFigures } from './pinger-figures.ts';

const MS_PER_S = 1_000;

const FAMILIES = {
  pinger_counted_total: {
    type: 'counter',
    help: 'Pings, answers, misses and other occurrences since the start, by name',
    label: 'what',
  },
  pinger_units: { type: 'gauge', help: 'Units that this process monitors' },
  pinger_units_not_pinged: { type: 'gauge', help: 'Monitored units without pings, which only heartbeats prove alive' },
  pinger_units_flapping: { type: 'gauge', help: 'Monitored units that go offline and online repeatedly' },
  pinger_units_by_state: { type: 'gauge', help: 'Monitored units by believed status', label: 'state' },
  pinger_outages: { type: 'gauge', help: 'Groups of units that are in an outage: too many units are missing at once' },
  pinger_schedule_lag_p99_seconds: {
    type: 'gauge',
    help: 'How late pings left in the last half minute, 99th percentile',
  },
  pinger_schedule_lag_max_seconds: { type: 'gauge', help: 'How late pings left in the last half minute, maximum' },
  pinger_replaced_threads_total: { type: 'counter', help: 'Ping threads that died or hung and were replaced' },
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
