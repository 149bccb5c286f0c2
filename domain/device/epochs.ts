/**
 * The recorded places of a unit's log: the last recorded seq of each of its newest epochs.
 *
 * A unit begins an epoch when its store is wiped, so it has few. The state keeps a bounded number of them. When it drops one, it notes
 * the newest dropped epoch: the platform refuses every unknown epoch that is not newer, because it can no longer tell a replay of such
 * an epoch from new events. So a replay of any age is recognised, or refused and recorded.
 */

/** Epochs of a unit whose recorded places are kept. */
export const MAX_EPOCHS_PER_UNIT = 100;

export interface RecordedEpochs {
  /** The last recorded seq of each kept epoch. */
  readonly epochs: Readonly<Record<string, number>>;
  /** The newest epoch that was dropped. Epochs are UUIDv7, which sort by the time at which they began. */
  readonly droppedEpoch?: string;
}

/** The last recorded seq of an epoch; 0 when no event of it is recorded. */
export function recordedSeq({ epochs }: RecordedEpochs, epoch: string): number {
  return (Object.hasOwn(epochs, epoch) ? epochs[epoch] : undefined) ?? 0;
}

/** Whether an epoch is so old that its recorded place is not kept. */
export function isDroppedEpoch(recorded: RecordedEpochs, epoch: string): boolean {
  const { droppedEpoch } = recorded;
  return droppedEpoch !== undefined && epoch <= droppedEpoch && recordedSeq(recorded, epoch) === 0;
}

/** The places after an event of `epoch` at `seq`. The oldest epoch beyond the bound is dropped, but not the `present` one. */
export function recordSeq(
  recorded: RecordedEpochs,
  { epoch, seq, present }: { readonly epoch: string; readonly seq: number; readonly present: string | undefined },
): RecordedEpochs {
  const epochs = { ...recorded.epochs, [epoch]: Math.max(recordedSeq(recorded, epoch), seq) };
  const { droppedEpoch } = recorded;
  const kept = Object.keys(epochs);
  if (kept.length <= MAX_EPOCHS_PER_UNIT) return droppedEpoch === undefined ? { epochs } : { epochs, droppedEpoch };
  const [oldest = epoch] = kept.filter((other) => other !== epoch && other !== present).sort();
  const { [oldest]: _, ...others } = epochs;
  const newestDropped = droppedEpoch === undefined || droppedEpoch < oldest ? oldest : droppedEpoch;
  return { epochs: others, droppedEpoch: newestDropped };
}
