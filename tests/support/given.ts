import { expect } from 'bun:test';
import { recordedSeq } from '../../domain/device/epochs.ts';
import { definitionOf } from '../../domain/events/catalogue.ts';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import { type EventDraft, envelop } from '../../domain/events/drafts.ts';
import { Refusal, type RefusalKind } from '../../domain/refusal.ts';
import {
  evolveUnit,
  type FoldableCommit,
  lastSequenceOf,
  newUnitState,
  type UnitState,
} from '../../domain/unit/unit.ts';
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
  /** Required if the catalogue allows several aggregates for the type. @default the first of them */
  readonly aggregate?: Aggregate;
  /** The epoch of an event of the unit. @default EPOCH */
  readonly epoch?: string;
  /** The lead of the unit's clock, by which `atMs` is shown. @default the clock was right */
  readonly clockOffsetMs?: number;
};

export interface Command {
  readonly commandId: string;
  readonly atMs: number;
}

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
  return evolveUnit(state, commitOf(state, past));
}

/** Folds what a decision says in, as one commit: what the shell does with it. */
export function withDecision(state: UnitState, drafts: readonly EventDraft[], command: Command): UnitState {
  return drafts.length === 0 ? state : evolveUnit(state, decisionOf(state, drafts, command));
}

/** An event as the next commit of the stream. */
export function commitOf(state: UnitState, past: Past): FoldableCommit {
  const { atMs, commandId, aggregate, epoch = EPOCH, clockOffsetMs, ...draft } = past;
  const sequence = nextSequence(state);
  const command = { commandId: commandId ?? `command-${sequence}`, atMs: atMs ?? LONG_AGO_MS + sequence * 1_000 };
  const commit = decisionOf(state, [draft], command, aggregate ?? definitionOf(draft.type).aggregates[0]);
  if (commit.aggregate !== 'device') return commit;
  const unitseq = 1 + recordedSeq(state.device, epoch);
  const clock = clockOffsetMs === undefined ? {} : { clockoffsetms: clockOffsetMs };
  return { ...commit, events: commit.events.map((event) => ({ ...event, unitepoch: epoch, unitseq, ...clock })) };
}

/** What was decided as the next commit of the stream. */
export function decisionOf(
  state: UnitState,
  drafts: readonly EventDraft[],
  { commandId, atMs }: Command,
  aggregate: Aggregate = 'booking',
): FoldableCommit {
  const sequence = nextSequence(state);
  const context = {
    unit: state.name,
    source: '/lockfleet/tests',
    time: toInstant(atMs),
    actor: 'ops:tests',
    commandId,
  };
  return { aggregate, sequence, events: envelop(drafts, context, () => `event-${sequence}`) };
}

function nextSequence(state: UnitState): number {
  return 1 + lastSequenceOf(state);
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
