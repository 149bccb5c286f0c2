import { expect, test } from 'bun:test';
import { PostgresUnavailableError } from '../../../platform/postgres/connection.ts';
import { FencedError } from '../../../projections/engine/checkpoints/checkpoints.ts';
import { isPoison } from '../../../projections/engine/parking/parking.ts';

test('an error is poison when a value causes it, and not when the database or the engine does', () => {
  const withCode = (code: string) => Object.assign(new Error(code), { code });
  const poison = [
    new TypeError('x'),
    new RangeError('x'),
    withCode('22008'),
    withCode('23502'),
    withCode('UNDEFINED_VALUE'),
  ];
  const other = [
    new FencedError('x'),
    new PostgresUnavailableError('x'),
    withCode('42P01'),
    withCode('3F000'),
    withCode('XX000'),
  ];
  expect(poison.map(isPoison)).toEqual(poison.map(() => true));
  expect(other.map(isPoison)).toEqual(other.map(() => false));
});
