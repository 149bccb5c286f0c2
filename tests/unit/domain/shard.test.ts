import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { LANE_COUNT, laneOf, laneOfTokens, shardTokens, unitHash } from '../../../domain/shard.ts';
import { UNIT_NAME_PATTERN } from '../../../domain/vocabulary.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const name = fc.stringMatching(new RegExp(UNIT_NAME_PATTERN));

/** By another implementation than the one in use. */
function sha256(text: string): string {
  return new Bun.CryptoHasher('sha256').update(text).digest('hex');
}

test('the shard tokens of a unit are the first letters of its sha256', () => {
  // printf PL-1000 | sha256sum
  expect(unitHash('PL-1000')).toBe('5160af559b53fb67c046293224d8bb76be3492bc10e9ed547d16271a6f37c4b9');
  fc.assert(
    fc.property(name, (unit) => {
      const hash = sha256(unit);
      expect(unitHash(unit)).toBe(hash);
      expect(shardTokens(unit)).toBe(`${hash.charAt(0)}.${hash.charAt(1)}`);
    }),
    { seed },
  );
});

test('the lane is the number that the tokens spell', () => {
  expect(laneOfTokens('0', '0')).toBe(0);
  expect(laneOfTokens('a', '3')).toBe(163);
  expect(laneOfTokens('f', 'f')).toBe(LANE_COUNT - 1);
  fc.assert(
    fc.property(name, (unit) => {
      const [h1 = '', h2 = ''] = shardTokens(unit).split('.');
      expect(laneOf(unit)).toBe(laneOfTokens(h1, h2));
      expect(laneOf(unit)).toBe(Buffer.from(sha256(unit), 'hex').readUInt8(0));
    }),
    { seed },
  );
});

test('lanes fill evenly', () => {
  const perLane = 100;
  const counts = new Array<number>(LANE_COUNT).fill(0);
  for (let index = 0; index < LANE_COUNT * perLane; index += 1) {
    const lane = laneOf(`PL-${index}`);
    counts[lane] = (counts[lane] ?? 0) + 1;
  }
  expect(Math.min(...counts)).toBeGreaterThan(perLane / 2);
  expect(Math.max(...counts)).toBeLessThan(perLane * 2);
});
