import { expect } from 'bun:test';
import { type Aggregate, type EventDraft, envelop } from '../../domain/envelope.ts';
import { definitionOf, versionOf } from '../../domain/events/catalogue.ts';
import { Refusal, type RefusalKind } from '../../domain/refusal.ts';
import { evolveUnit, newUnitState, type UnitState } from '../../domain/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';

/** The unit that all of this is about. */
export const UNIT = 'PL-1000';
/** The epoch of the unit's log, unless an event names another. */
export const EPOCH = '018f0000-0000-7000-8000-000000000001';
/** When events happened that do not say when. */
const LONG_AGO_MS = Date.parse('2026-01-01T00:00:00.000Z');

/** An event that has happened, as a decision draws it up, and what its envelope shall say. */
export type Past = EventDraft & {
  /** @default long ago, each event a second after the one before */
  readonly atMs?: number;
  /** The command that caused it. @default one of its own */
  readonly commandId?: string;
  /** Needed where the catalogue allows more than one. @default the first of them */
  readonly aggregate?: Aggregate;
  /** Of what the unit reports. @default EPOCH */
  readonly epoch?: string;
};

export interface Given {
  /** The unit after all of it. */
  readonly state: UnitState;
  when(decide: (state: UnitState) => readonly EventDraft[]): Outcome;
}

export interface Outcome {
  thenEvents(expected: readonly EventDraft[]): void;
  thenNothing(): void;
  /** Checks the fields that the refusal names too, when `paths` are given. */
  thenRefused(kind: RefusalKind, message: RegExp, paths?: readonly string[]): void;
}

/** Each event is a commit of its own, folded in this order. */
export function given(...past: readonly Past[]): Given {
  return from(unitAfter(past));
}

/** Starts from a state that came about in another way. */
export function from(state: UnitState): Given {
  return { state, when: (decide) => outcomeOf(() => decide(state)) };
}

export function unitAfter(past: readonly Past[], start: UnitState = newUnitState(UNIT)): UnitState {
  return past.reduce(withPast, start);
}

/** Folds one more event in, as the next commit of the stream. */
export function withPast(state: UnitState, past: Past): UnitState {
  const { atMs, commandId, aggregate, epoch = EPOCH, ...draft } = past;
  const sequence = 1 + Math.max(...Object.values(state.sequences));
  const subject = aggregate ?? definitionOf(draft.type).aggregates[0];
  if (subject === undefined) throw new Error(`${draft.type} belongs to no aggregate`);
  const context = {
    unit: state.name,
    source: '/lockfleet/tests',
    time: toInstant(atMs ?? LONG_AGO_MS + sequence * 1_000),
    actor: 'ops:tests',
    commandId: commandId ?? `command-${sequence}`,
  };
  const events = envelop([draft], context, versionOf, () => `event-${sequence}`);
  if (subject !== 'device') return evolveUnit(state, { aggregate: subject, sequence, events });
  const unitseq = 1 + (state.device.epochs[epoch] ?? 0);
  const reported = events.map((event) => ({ ...event, unitepoch: epoch, unitseq }));
  return evolveUnit(state, { aggregate: subject, sequence, events: reported });
}

/** Folds what a decision says in, as one commit of `booking`: what the shell does with it. */
export function withDecision(
  state: UnitState,
  drafts: readonly EventDraft[],
  { commandId, atMs }: { readonly commandId: string; readonly atMs: number },
  aggregate: Aggregate = 'booking',
): UnitState {
  if (drafts.length === 0) return state;
  const sequence = 1 + Math.max(...Object.values(state.sequences));
  const context = {
    unit: state.name,
    source: '/lockfleet/tests',
    time: toInstant(atMs),
    actor: 'customer:tests',
    commandId,
  };
  const events = envelop(drafts, context, versionOf, () => `event-${sequence}`);
  return evolveUnit(state, { aggregate, sequence, events });
}

function outcomeOf(run: () => readonly EventDraft[]): Outcome {
  return {
    thenEvents: (expected) => expect([...run()]).toEqual([...expected]),
    thenNothing: () => expect([...run()]).toEqual([]),
    thenRefused: (kind, message, paths) => {
      const refusal = refusalOf(run);
      expect({ kind: refusal.kind, message: refusal.message }).toEqual({
        kind,
        message: expect.stringMatching(message),
      });
      if (paths !== undefined) expect(refusal.errors.map(({ path }) => path)).toEqual([...paths]);
    },
  };
}

/** The refusal that a decision ends in. */
function refusalOf(run: () => readonly EventDraft[]): Refusal {
  let drafts: readonly EventDraft[];
  try {
    drafts = run();
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error(`it was not refused, it decided ${JSON.stringify(drafts)}`);
}
