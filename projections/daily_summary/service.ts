/** Which lockers of a unit are in service, and how that changes by time alone. Moments are milliseconds since 1970. */

export interface ServiceState {
  /** Lockers that no operator has taken out of service. */
  readonly inService: readonly string[];
  /** When lockers that are out of service return by themselves, by locker. */
  readonly returnsAtMs: Readonly<Record<string, number>>;
  /** Maintenance of the whole unit that is planned or runs. */
  readonly maintenance: readonly Maintenance[];
}

interface Maintenance {
  readonly id: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

export const OUT_OF_SERVICE: ServiceState = { inService: [], returnsAtMs: {}, maintenance: [] };

/** The service of a unit after a locker left it, until a moment or until an operator returns it. */
export function withoutLocker(state: ServiceState, atMs: number, locker: string, untilMs?: number): ServiceState {
  if (untilMs !== undefined && untilMs <= atMs) return withLocker(state, locker);
  const { [locker]: _, ...returnsAtMs } = state.returnsAtMs;
  return {
    ...state,
    inService: state.inService.filter((id) => id !== locker),
    returnsAtMs: untilMs === undefined ? returnsAtMs : { ...returnsAtMs, [locker]: untilMs },
  };
}

export function withLocker(state: ServiceState, locker: string): ServiceState {
  const { [locker]: _, ...returnsAtMs } = state.returnsAtMs;
  return { ...state, inService: [...state.inService.filter((id) => id !== locker), locker], returnsAtMs };
}

export function withMaintenance(state: ServiceState, atMs: number, planned: Maintenance): ServiceState {
  const left = state.maintenance.filter(({ id, untilMs }) => id !== planned.id && untilMs > atMs);
  return { ...state, maintenance: [...left, planned] };
}

export function withoutMaintenance(state: ServiceState, cancelledId: string): ServiceState {
  return { ...state, maintenance: state.maintenance.filter(({ id }) => id !== cancelledId) };
}

/** The moments after `fromMs` and before `toMs` at which time alone changes what is in service, in order. */
export function serviceChanges({ returnsAtMs, maintenance }: ServiceState, fromMs: number, toMs: number): number[] {
  const moments = [
    ...Object.values(returnsAtMs),
    ...maintenance.flatMap((planned) => [planned.fromMs, planned.untilMs]),
  ].filter((atMs) => atMs > fromMs && atMs < toMs);
  return [...new Set(moments)].toSorted((a, b) => a - b);
}

/** The unit at a moment: the lockers that have returned by then are in service. */
export function serviceAt<S extends ServiceState>(state: S, atMs: number): S {
  let service: ServiceState = state;
  for (const locker of Object.keys(state.returnsAtMs).toSorted())
    if ((state.returnsAtMs[locker] ?? atMs) <= atMs) service = withLocker(service, locker);
  return service === state ? state : { ...state, ...service };
}

/** Counts a rented locker as in service, also when it was taken out of service during the rental. */
export function countInService(state: ServiceState, rented: readonly string[], atMs: number): number {
  const isClosed = state.maintenance.some(({ fromMs, untilMs }) => fromMs <= atMs && atMs < untilMs);
  return isClosed ? rented.length : new Set([...state.inService, ...rented]).size;
}
