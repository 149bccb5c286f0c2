/** The tables and clauses of `docs/unit-protocol.md` against the schemas of the platform. */

import { expect, test } from 'bun:test';
import { join, resolve } from 'node:path';
import type { TSchema } from '@sinclair/typebox';
import { MAX_ANSWERED_COMMANDS } from '../../../device-sim/unit/commands.ts';
import { DEFAULT_MAX_UNRECORDED_EVENTS } from '../../../device-sim/unit/log-bound.ts';
import { MAX_CONFIGURATION_BYTES } from '../../../domain/configuration/validation.ts';
import { ConfigurationValues } from '../../../domain/configuration-values.ts';
import { MAX_EPOCHS_PER_UNIT } from '../../../domain/device/epochs.ts';
import { MAX_OPEN_GAPS_PER_UNIT } from '../../../domain/device/unit-log.ts';
import { deviceEvents } from '../../../domain/events/device.ts';
import { paymentEvents } from '../../../domain/events/payment.ts';
import {
  BatchEvent,
  MAX_BATCH_BYTES,
  MAX_BATCH_EVENTS,
  MAX_EVENT_BYTES,
  MAX_EVENT_DEPTH,
} from '../../../domain/unit-protocol/batch.ts';
import { CommandAnswer, OfflineTokenClaims, PingReply } from '../../../domain/unit-protocol/commands.ts';
import { MAX_PAGE_RESERVATIONS, SyncReservations } from '../../../domain/unit-protocol/reservation-list.ts';
import { MAX_IDENTIFIER_LENGTH, MAX_LOCKERS_PER_UNIT, MAX_TEXT_LENGTH } from '../../../domain/vocabulary.ts';
import { loadConfig } from '../../../platform/config/config.ts';
import { MAX_UNREGISTERED_LOCKERS } from '../../../platform/unit-log/locker-bound.ts';
import { NEW_EPOCHS_BUDGET } from '../../../platform/unit-log/unit-log-recorder.ts';
import { EVENT_BURST } from '../../../server/workers/ingest/ingest-admission.ts';
import { fieldsOf } from '../../support/schema-fields.ts';

const DOCUMENT = join(resolve(import.meta.dir, '..', '..', '..'), 'docs', 'unit-protocol.md');
const KIB = 1024;

/** The platform writes this one in the place of an event that it rejects: no unit may report it. */
const { UnitEventRejected: _, ...unitEvents } = deviceEvents;
const events: Readonly<Record<string, { readonly version: number; readonly schema: TSchema }>> = {
  ...unitEvents,
  ...paymentEvents,
};
const others: Readonly<Record<string, TSchema>> = {
  BatchEvent,
  CommandAnswer,
  ConfigurationValues,
  OfflineTokenClaims,
  PingReply,
  SyncReservations,
};

/** The first table of each section whose heading is a name in code, as rows of cells. */
async function tables(): Promise<Map<string, string[][]>> {
  const text = await Bun.file(DOCUMENT).text();
  const sections = text.split(/^(?=#)/m);
  const found = new Map<string, string[][]>();
  for (const section of sections) {
    const name = /^#+ `(\w+)`\n/.exec(section)?.[1];
    if (name === undefined) continue;
    const table = /(?:^\|.*\n)+/m.exec(section)?.[0] ?? '';
    const rows = table.split('\n').slice(2, -1);
    expect(found.has(name)).toBe(false);
    found.set(
      name,
      rows.map((row) => row.split(/(?<!\\)\|/).slice(1, -1)).map((cells) => cells.map((cell) => cell.trim())),
    );
  }
  return found;
}

test('every event that a unit may report, and every other shape, has a table, and nothing else has one', async () => {
  expect([...(await tables()).keys()].sort()).toEqual([...Object.keys(events), ...Object.keys(others)].sort());
});

const schemas = {
  ...others,
  ...Object.fromEntries(Object.entries(events).map(([type, { schema }]) => [type, schema])),
};
test.each(Object.entries(schemas))('the table of %s has the fields of the schema', async (name, schema) => {
  const rows = (await tables()).get(name) ?? [];
  const expected = fieldsOf(schema).map(({ path, type, isRequired }) => [
    `\`${path}\``,
    type,
    isRequired ? 'required' : 'optional',
  ]);
  expect(rows.map((cells) => cells.slice(0, 3))).toEqual(expected);
  for (const [field = '', , presence, meaning] of rows) {
    // What a schema leaves optional, the page says when to send.
    if (presence === 'optional') expect(`${field}: ${meaning}`).toMatch(/: .+/);
  }
});

test('every event has the version that the page names', () => {
  for (const { version } of Object.values(events)) expect(version).toBe(1);
});

test('clauses are numbered without gaps, and every clause that is cited exists', async () => {
  const text = await Bun.file(DOCUMENT).text();
  const clauses = [...text.matchAll(/^(?:\*\*|\| )(\d+)\.(\d+)(?:\*\*| \|)/gm)].map(
    ([, section, clause]) => `${section}.${clause}`,
  );
  const counts = new Map<string, number>();
  for (const clause of clauses) {
    const [section = '', number] = clause.split('.');
    const count = (counts.get(section) ?? 0) + 1;
    counts.set(section, count);
    expect(clause).toBe(`${section}.${count}`);
    expect(Number(number)).toBe(count);
  }
  const cited = [...text.matchAll(/clauses? (\d+\.\d+)(?: and (\d+\.\d+))?/g)].flatMap(([, ...found]) => found);
  for (const clause of cited.filter((one) => one !== undefined)) expect(clauses).toContain(clause);
});

test('what the platform bounds is as the page says', async () => {
  const text = (await Bun.file(DOCUMENT).text()).replaceAll('\n', ' ');
  const { burst, perS } = NEW_EPOCHS_BUDGET;
  expect(text).toContain(`the last recorded \`seq\` of the ${MAX_EPOCHS_PER_UNIT} newest epochs`);
  expect(text).toContain(`older than these ${MAX_EPOCHS_PER_UNIT}`);
  expect(text).toContain(`more than ${burst} new epochs at once, and more than one an hour after that`);
  expect(perS * 3_600).toBe(1);
  expect(text).toContain(`when ${MAX_OPEN_GAPS_PER_UNIT} other epochs of the unit have one`);
  expect(text).toContain(`for ${MAX_UNREGISTERED_LOCKERS} such lockers of a unit`);
  expect(text).toContain(`${loadConfig({}).limits.unitEventsPerS} a second after that (\`LIMIT_UNIT_EVENTS_PER_S\`)`);
  // What a unit must keep while it is cut off is recorded without delay when it returns.
  const events = EVENT_BURST.toLocaleString('en');
  expect(text).toContain(`up to ${events} events of a unit at once`);
  expect(text).toContain(`unrecorded events that the unit MUST be able to keep | ${events} |`);
});

test('the limits are those of the platform and the reference', async () => {
  const text = await Bun.file(DOCUMENT).text();
  const limit = (name: string) => new RegExp(`^\\| 12\\.\\d+ \\| ${name}[^|]*\\| ([^|]+) \\|$`, 'm').exec(text)?.[1];
  expect(limit('batch ')).toBe(`${MAX_BATCH_EVENTS} events, ${MAX_BATCH_BYTES / KIB} KiB`);
  expect(limit('event')).toBe(`${MAX_EVENT_BYTES / KIB} KiB, ${MAX_EVENT_DEPTH} levels of objects and lists`);
  expect(limit('reservations of a page')).toBe(String(MAX_PAGE_RESERVATIONS));
  expect(limit('lockers of a unit')).toBe(MAX_LOCKERS_PER_UNIT.toLocaleString('en'));
  expect(limit('canonical JSON')).toBe(`${MAX_CONFIGURATION_BYTES / KIB} KiB`);
  expect(limit('commands that the unit MUST')).toBe(MAX_ANSWERED_COMMANDS.toLocaleString('en'));
  expect(limit('`text`')).toBe(`${MAX_TEXT_LENGTH} characters`);
  expect(limit('`identifier`')).toBe(`${MAX_IDENTIFIER_LENGTH} characters`);
  expect(text).toContain(`SHOULD be able to\nkeep ${DEFAULT_MAX_UNRECORDED_EVENTS.toLocaleString('en')}`);
});
