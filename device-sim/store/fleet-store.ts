/**
 * The durable state of a fleet in one SQLite file. One file for all units lets one fsync make the decisions of many units
 * durable (`group-commit.ts`). A write updates only the columns whose value has changed.
 */

import { Database } from 'bun:sqlite';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { type Faults, NO_FAULTS } from '../faults/faults.ts';
import type { Credentials } from '../unit/credentials.ts';
import { type AnsweredCommand, type Decision, firstAvailableSeq, type UnitModel } from '../unit/model.ts';
import { GroupCommit, type StoreError } from './group-commit.ts';
import { prepareSchema } from './schema.ts';

export interface StoredUnit {
  readonly id: number;
  /** host:port, under which the unit is registered at the platform. */
  readonly address: string;
  readonly credentials: Credentials | undefined;
  readonly faults: Faults;
  readonly model: UnitModel;
}

interface UnitRow {
  readonly id: number;
  readonly name: string;
  readonly address: string;
  readonly credentials: string | null;
  readonly faults: string;
  readonly epoch: string;
  readonly last_seq: number;
  readonly acknowledged_seq: number;
  readonly recorded_seq: number;
  readonly dropped_seq: number;
  readonly checkpoint_seq: number;
  readonly boot_id: string;
  readonly booted_at_ms: number;
  readonly lockers: string;
  readonly synced: string;
  readonly spent: string;
  readonly keypad: string;
  readonly configuration: string;
}

interface AnsweredRow {
  readonly unit: number;
  readonly command_id: string;
  readonly answer: string;
  readonly forget_at_ms: number;
}

const noCallback = (): void => undefined;

/** The path of the store of a fleet. The fleet of a seed has one store, whichever command runs it. */
export function fleetStorePath(dataDir: string, seed: number): string {
  return join(dataDir, 'device-sim', `fleet-${seed}.sqlite`);
}

export class FleetStore {
  readonly #database: Database;
  readonly #commits: GroupCommit;
  readonly #statements: ReturnType<typeof prepareStatements>;

  private constructor(database: Database, onFailure: (error: StoreError) => void) {
    this.#database = database;
    this.#commits = new GroupCommit(database, onFailure);
    this.#statements = prepareStatements(database);
  }

  /**
   * Opens the store, and creates it when the file does not exist.
   * @param onFailure called once, when a commit fails; the process must end then
   * @throws StoreError when another process has the file open, or a newer version wrote it
   */
  static open(path: string, onFailure: (error: StoreError) => void): FleetStore {
    mkdirSync(dirname(path), { recursive: true });
    const database = new Database(path, { create: true, strict: true });
    try {
      prepareSchema(database, path);
    } catch (error) {
      database.close();
      throw error;
    }
    return new FleetStore(database, onFailure);
  }

  /** All units of the store by name. */
  loadUnits(): Map<string, StoredUnit> {
    const answered = new Map<number, Record<string, AnsweredCommand>>();
    for (const row of this.#database.query<AnsweredRow, []>('select * from answered').iterate()) {
      const commands = answered.get(row.unit) ?? {};
      commands[row.command_id] = { answer: JSON.parse(row.answer), forgetAtMs: row.forget_at_ms };
      answered.set(row.unit, commands);
    }
    const units = new Map<string, StoredUnit>();
    for (const row of this.#database.query<UnitRow, []>('select * from unit').iterate()) {
      units.set(row.name, toStoredUnit(row, answered.get(row.id) ?? {}));
    }
    return units;
  }

  /** Creates units with the first entries of their logs, all in one transaction. */
  createUnits(units: readonly (Omit<StoredUnit, 'id'> & { readonly entries: readonly BatchEvent[] })[]): StoredUnit[] {
    return this.#database.transaction(() =>
      units.map(({ entries, ...unit }) => {
        const { model } = unit;
        const id = Number(
          this.#statements.createUnit.run({
            name: model.name,
            address: unit.address,
            faults: JSON.stringify(unit.faults),
            ...model.log,
            bootId: model.bootId,
            bootedAtMs: model.bootedAtMs,
            lockers: JSON.stringify(model.lockers),
            synced: JSON.stringify(model.synced),
            spent: JSON.stringify(model.usedReservations),
            keypad: JSON.stringify(model.keypad),
            configuration: JSON.stringify(model.configuration),
          }).lastInsertRowid,
        );
        this.#insertEntries(id, entries);
        return { id, ...unit };
      }),
    )();
  }

  /** Writes what a decision has changed. `committed` runs right after the commit, before the promise resolves. */
  saveDecision(
    id: number,
    before: UnitModel,
    { unit: after, entries }: Pick<Decision<unknown>, 'unit' | 'entries'>,
    committed: () => void,
  ): Promise<void> {
    return this.#commits.write(() => this.#writeChanges(id, before, after, entries), committed);
  }

  saveCredentials(id: number, credentials: Credentials): Promise<void> {
    const text = JSON.stringify(credentials);
    return this.#commits.write(() => this.#statements.setCredentials.run({ id, credentials: text }), noCallback);
  }

  saveFaults(id: number, faults: Faults): Promise<void> {
    const text = JSON.stringify(faults);
    return this.#commits.write(() => this.#statements.setFaults.run({ id, faults: text }), noCallback);
  }

  /** Resolves when all earlier writes are durable. */
  settled(): Promise<void> {
    return this.#commits.settled();
  }

  /** Durable entries of a unit's log as JSON texts, from `fromSeq` on, in order of `seq`. */
  readLog(id: number, fromSeq: number, limit: number): string[] {
    return this.#statements.readLog.all({ id, fromSeq, limit }).map((row) => row.body);
  }

  close(): void {
    this.#commits.close();
    this.#database.close();
  }

  #writeChanges(id: number, before: UnitModel, after: UnitModel, entries: readonly BatchEvent[]): void {
    const statements = this.#statements;
    if (after.log !== before.log || after.bootId !== before.bootId) {
      const { bootId, bootedAtMs } = after;
      statements.updateLogAndBoot.run({ id, ...after.log, bootId, bootedAtMs });
    }
    if (after.lockers !== before.lockers) statements.setLockers.run({ id, lockers: JSON.stringify(after.lockers) });
    if (after.synced !== before.synced) statements.setSynced.run({ id, synced: JSON.stringify(after.synced) });
    if (after.usedReservations !== before.usedReservations)
      statements.setSpent.run({ id, spent: JSON.stringify(after.usedReservations) });
    if (after.keypad !== before.keypad) statements.setKeypad.run({ id, keypad: JSON.stringify(after.keypad) });
    if (after.configuration !== before.configuration) {
      statements.setConfiguration.run({ id, configuration: JSON.stringify(after.configuration) });
    }
    if (after.answeredCommands !== before.answeredCommands)
      this.#writeAnswered(id, before.answeredCommands, after.answeredCommands);
    const isNewEpoch = after.log.epoch !== before.log.epoch;
    if (isNewEpoch) statements.deleteLog.run({ id, upTo: Number.MAX_SAFE_INTEGER });
    this.#insertEntries(id, entries);
    const first = firstAvailableSeq(after.log);
    if (first > (isNewEpoch ? 1 : firstAvailableSeq(before.log))) statements.deleteLog.run({ id, upTo: first - 1 });
  }

  #writeAnswered(id: number, before: UnitModel['answeredCommands'], after: UnitModel['answeredCommands']): void {
    for (const commandId of Object.keys(before)) {
      if (!Object.hasOwn(after, commandId)) this.#statements.forgetCommand.run({ id, commandId });
    }
    for (const [commandId, { answer, forgetAtMs }] of Object.entries(after)) {
      if (Object.hasOwn(before, commandId)) continue;
      this.#statements.rememberCommand.run({ id, commandId, answer: JSON.stringify(answer), forgetAtMs });
    }
  }

  #insertEntries(id: number, entries: readonly BatchEvent[]): void {
    for (const entry of entries) {
      this.#statements.insertEntry.run({ id, seq: entry.seq, body: JSON.stringify(entry) });
    }
  }
}

/** The parameters of a statement: the id of the unit and the values of its columns. */
interface UnitParameters {
  readonly [column: string]: string | number;
  readonly id: number;
}

function prepareStatements(database: Database) {
  const writeStatement = (sql: string) => database.query<null, UnitParameters>(sql);
  return {
    createUnit: database.query<null, Record<string, string | number>>(
      `insert into unit (name, address, faults, epoch, last_seq, acknowledged_seq, recorded_seq, dropped_seq,
         checkpoint_seq, boot_id, booted_at_ms, lockers, synced, spent, keypad, configuration)
       values ($name, $address, $faults, $epoch, $lastSeq, $acknowledgedSeq, $recordedSeq, $droppedSeq,
         $checkpointSeq, $bootId, $bootedAtMs, $lockers, $synced, $spent, $keypad, $configuration)`,
    ),
    updateLogAndBoot: writeStatement(
      `update unit set epoch = $epoch, last_seq = $lastSeq, acknowledged_seq = $acknowledgedSeq,
         recorded_seq = $recordedSeq, dropped_seq = $droppedSeq, checkpoint_seq = $checkpointSeq, boot_id = $bootId, booted_at_ms = $bootedAtMs where id = $id`,
    ),
    setLockers: writeStatement('update unit set lockers = $lockers where id = $id'),
    setSynced: writeStatement('update unit set synced = $synced where id = $id'),
    setSpent: writeStatement('update unit set spent = $spent where id = $id'),
    setKeypad: writeStatement('update unit set keypad = $keypad where id = $id'),
    setConfiguration: writeStatement('update unit set configuration = $configuration where id = $id'),
    setCredentials: writeStatement('update unit set credentials = $credentials where id = $id'),
    setFaults: writeStatement('update unit set faults = $faults where id = $id'),
    insertEntry: writeStatement('insert into log (unit, seq, body) values ($id, $seq, $body)'),
    deleteLog: writeStatement('delete from log where unit = $id and seq <= $upTo'),
    readLog: database.query<{ body: string }, UnitParameters>(
      'select body from log where unit = $id and seq >= $fromSeq order by seq limit $limit',
    ),
    rememberCommand: writeStatement(
      `insert into answered (unit, command_id, answer, forget_at_ms)
       values ($id, $commandId, $answer, $forgetAtMs)`,
    ),
    forgetCommand: writeStatement('delete from answered where unit = $id and command_id = $commandId'),
  };
}

/** Only this program writes the file, so its JSON has the shape that `saveDecision` and `createUnits` wrote. */
function toStoredUnit(row: UnitRow, answered: UnitModel['answeredCommands']): StoredUnit {
  return {
    id: row.id,
    address: row.address,
    credentials: row.credentials === null ? undefined : JSON.parse(row.credentials),
    // A store of an older version lacks the faults that were added later.
    faults: { ...NO_FAULTS, ...JSON.parse(row.faults) },
    model: {
      name: row.name,
      bootId: row.boot_id,
      bootedAtMs: row.booted_at_ms,
      lockers: JSON.parse(row.lockers),
      synced: JSON.parse(row.synced),
      usedReservations: JSON.parse(row.spent),
      keypad: JSON.parse(row.keypad),
      configuration: JSON.parse(row.configuration),
      answeredCommands: answered,
      log: {
        epoch: row.epoch,
        lastSeq: row.last_seq,
        acknowledgedSeq: row.acknowledged_seq,
        recordedSeq: row.recorded_seq,
        droppedSeq: row.dropped_seq,
        checkpointSeq: row.checkpoint_seq,
      },
    },
  };
}
