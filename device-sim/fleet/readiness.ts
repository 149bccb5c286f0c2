/** How far the units of a fleet are registered, connected and pinged. */

import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/timers.ts';
import type { NatsTransport } from '../transports/nats-transport.ts';

/** Most registration problems that one answer names. */
const MAX_PROBLEMS_SHOWN = 5;
const LOG_INTERVAL_MS = 5_000;

export interface Readiness {
  /** Every unit is registered, and each that is not `offline` is connected and was pinged. */
  readonly ready: boolean;
  readonly units: number;
  readonly registered: number;
  readonly connected: number;
  readonly pinged: number;
  /** Units with the fault `offline`, or in an outage of a scenario. */
  readonly offline: number;
  /** Units that the platform refuses to register. */
  readonly refused: number;
  /** Why units cannot be registered, a line for each unit, five at most; and which units have the fault `offline`. */
  readonly problems: readonly string[];
}

export function readinessOf(
  members: readonly { readonly unit: EmulatedUnit; readonly transport: NatsTransport }[],
  registrationProblems: ReadonlyMap<string, string>,
): Readiness {
  let registered = 0;
  let connected = 0;
  let pinged = 0;
  let offline = 0;
  const withFault: string[] = [];
  let unreached = 0;
  for (const { unit, transport } of members) {
    if (unit.credentials !== undefined) registered += 1;
    if (transport.isConnected) connected += 1;
    if (unit.wasPinged) pinged += 1;
    if (unit.faults.offline) withFault.push(unit.name);
    if (unit.isOffline) offline += 1;
    else if (!transport.isConnected || !unit.wasPinged) unreached += 1;
  }
  const units = members.length;
  const problems = [...registrationProblems].slice(0, MAX_PROBLEMS_SHOWN).map(([name, reason]) => `${name}: ${reason}`);
  if (withFault.length > 0) problems.push(offlineProblem(withFault));
  const refused = registrationProblems.size;
  const counts = { units, registered, connected, pinged, offline, refused };
  return { ready: registered === units && unreached === 0, ...counts, problems };
}

/** A unit with this fault stays offline, also in the next run. Readiness leaves it out, so it must be named. */
function offlineProblem(names: readonly string[]): string {
  const count = names.length === 1 ? '1 unit has' : `${names.length} units have`;
  return (
    `${count} the fault "offline": ${names.slice(0, MAX_PROBLEMS_SHOWN).join(', ')}${names.length > MAX_PROBLEMS_SHOWN ? ', …' : ''}. ` +
    'POST {"offline": false} to /units/{name}/faults of the control API ends it.'
  );
}

/** Logs the counts whenever they have changed: one line for the fleet instead of one for each unit. */
export function logReadinessChanges(readiness: () => Readiness, timers: Timers, log: Log): void {
  let last = '';
  const logChange = () => {
    const { ready: _, problems: __, ...counts } = readiness();
    const text = JSON.stringify(counts);
    if (text !== last) log.info('The state of the simulated fleet has changed.', counts);
    last = text;
    timers.after(LOG_INTERVAL_MS, logChange);
  };
  timers.after(LOG_INTERVAL_MS, logChange);
}
