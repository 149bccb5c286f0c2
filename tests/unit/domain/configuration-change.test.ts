/** The configurations that a change may set, and the differences that it lists. */

import { describe, expect, test } from 'bun:test';
import { requireConfigured } from '../../../domain/configuration/configuration.ts';
import { configurationHash } from '../../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { type ConfigurationChange, changeConfiguration } from '../../../domain/configuration/delivery.ts';
import { configurationDiff } from '../../../domain/configuration/diff.ts';
import { MAX_CONFIGURATION_BYTES, validateConfiguration } from '../../../domain/configuration/validation.ts';
import type { ConfigurationValues } from '../../../domain/configuration-values.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { given, type Past } from '../../support/given.ts';
import { configured, HOLD_TTL_S, registered } from '../../support/scene.ts';

const VALUES = defaultConfiguration(HOLD_TTL_S).values;
const DEARER: ConfigurationValues = { ...VALUES, prices: [{ size: 'S', perHour: 900, currency: 'EUR' }] };
const online: Past = { type: 'UnitWentOnline', data: { evidence: 'ping' } };

const change =
  (changes: Partial<ConfigurationChange> = {}) =>
  (state: Parameters<typeof changeConfiguration>[0]) =>
    changeConfiguration(state, { commandId: 'c1', values: DEARER, mode: 'live', ...changes });

describe('a change', () => {
  test('is the next version, with its hash', () => {
    given(registered, online)
      .when(change())
      .thenEvents([
        {
          type: 'ConfigurationChanged',
          data: { version: 2, hash: configurationHash(DEARER), values: DEARER, mode: 'live' },
        },
      ]);
  });

  test('that is repeated decides nothing, also when another change came after it', () => {
    const made: Past = { ...configured(DEARER), commandId: 'c1' };
    const later: Past = {
      type: 'ConfigurationChanged',
      commandId: 'c2',
      data: { version: 3, hash: configurationHash(VALUES), values: VALUES, mode: 'queued' },
    };
    given(registered, online, made).when(change()).thenNothing();
    given(registered, online, made, later).when(change()).thenNothing();
  });

  test('made from another version than the desired one is refused', () => {
    given(registered, online)
      .when(change({ expectedVersion: 1 }))
      .thenEvents([expect.anything()]);
    given(registered, online, configured({ minimumMinutes: 20 }))
      .when(change({ expectedVersion: 1 }))
      .thenRefused('precondition-failed', /Version 2 is wanted by now, not 1/);
  });

  test('of an unregistered or decommissioned unit is refused', () => {
    given()
      .when(change())
      .thenRefused('not-found', /no such unit/);
    given(registered, { type: 'UnitRetired', data: {} })
      .when(change())
      .thenRefused('not-found', /left the platform/);
  });

  const offline: Past = { type: 'UnitWentOffline', data: { lastProofAt: '2026-01-01T00:00:00.000Z', missedPings: 3 } };
  test.each([
    ['never seen', [registered]],
    ['offline', [registered, online, offline]],
  ])('is refused live while the unit is %s, unless it may wait', (_, past) => {
    given(...past)
      .when(change())
      .thenRefused('unit-offline', /Nothing was changed/);
    const queued = [expect.objectContaining({ data: expect.objectContaining({ mode: 'queued' }) })];
    given(...past)
      .when(change({ ifOffline: 'queue' }))
      .thenEvents(queued);
    given(...past)
      .when(change({ mode: 'queued' }))
      .thenEvents(queued);
  });

  test('names every field that does not fit the others', () => {
    const values: ConfigurationValues = {
      ...VALUES,
      prices: [...VALUES.prices.slice(0, 2), { size: 'S', perHour: 1, currency: 'EUR' }],
      minimumMinutes: 61,
      maximumMinutes: 60,
      openingHours: [
        { weekday: 1, opens: '08:00', closes: '24:00' },
        { weekday: 2, opens: '20:00', closes: '08:00' },
      ],
    };
    given(registered, online)
      .when(change({ values }))
      .thenRefused('validation', /do not hold together/, [
        '/values/prices/2/size',
        '/values/minimumMinutes',
        '/values/openingHours/1/closes',
      ]);
  });

  test('is refused when its values have more bytes than a unit accepts', () => {
    const withText = (length: number): ConfigurationValues => ({ ...VALUES, texts: { en: { a: 'x'.repeat(length) } } });
    const empty = Buffer.byteLength(JSON.stringify(withText(0)));
    expect(validateConfiguration(withText(MAX_CONFIGURATION_BYTES - empty))).toEqual([]);
    expect(validateConfiguration(withText(MAX_CONFIGURATION_BYTES - empty + 1))).toMatchObject([{ path: '/texts' }]);
  });
});

describe('a text with half of a surrogate pair', () => {
  test('is named by its field, and the size of the values is not checked', () => {
    const texts = { de: { title: 'Hallo' }, en: { bad: 'x\ud800', long: 'x'.repeat(65_537) } };
    expect(validateConfiguration({ ...VALUES, texts })).toEqual([
      { path: '/texts/en/bad', message: 'is not well-formed Unicode' },
    ]);
  });
});

describe('the configuration of a unit', () => {
  test('is required of a registered unit, and refused as not found of another', () => {
    expect(requireConfigured(given(registered).state.configuration)).toMatchObject({
      status: 'pending',
      desired: { version: 1 },
    });
    let refusal: unknown;
    try {
      requireConfigured(given().state.configuration);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(Refusal);
    expect(refusal).toMatchObject({ kind: 'not-found', message: 'There is no such unit.' });
  });
});

describe('the difference between two configurations', () => {
  test('is listed by field, and prices by size', () => {
    const after: ConfigurationValues = {
      ...VALUES,
      minimumMinutes: 30,
      prices: [
        { size: 'M', perHour: 300, currency: 'EUR' },
        { size: 'S', perHour: 250, currency: 'EUR' },
      ],
      texts: { en: { title: 'Hello' } },
    };
    expect(configurationDiff({ ...VALUES, texts: { en: { bye: 'Bye' } } }, after)).toEqual([
      { path: '/minimumMinutes', before: 15, after: 30 },
      { path: '/prices/L', before: { perHour: 450, currency: 'EUR' } },
      { path: '/prices/S', before: { perHour: 200, currency: 'EUR' }, after: { perHour: 250, currency: 'EUR' } },
      { path: '/prices/XL', before: { perHour: 600, currency: 'EUR' } },
      { path: '/texts/en/bye', before: 'Bye' },
      { path: '/texts/en/title', after: 'Hello' },
    ]);
  });

  test('is empty when both have the same values', () => {
    expect(configurationDiff(VALUES, structuredClone(VALUES))).toEqual([]);
  });
});
