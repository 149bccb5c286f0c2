import { describe, expect, test } from 'bun:test';
import { MAX_SHARD_PREFIXES, parseShardPrefixes, shardsOfLength } from '../../../domain/shard-prefixes.ts';
import { ConfigError, loadConfig } from '../../../platform/config/config.ts';

function parse(text: string): readonly string[] {
  return parseShardPrefixes(text, (mistake) => {
    throw new Error(mistake);
  });
}

describe('SHARDS', () => {
  test.each([
    ['0-7', '0,1,2,3,4,5,6,7'],
    ['a,b3', 'a,b3'],
    ['a-c,d0-d7', 'a,b,c,d0,d1,d2,d3,d4,d5,d6,d7'],
    [' a , b3 ', 'a,b3'],
    ['9-b', '9,a,b'],
    ['0e-11', '0e,0f,10,11'],
    ['a,a,a-b', 'a,b'],
    ['5160af559b53', '5160af559b53'],
    ['f-f', 'f'],
    [`${'ab'.repeat(32)}-${'ab'.repeat(32)}`, 'ab'.repeat(32)],
  ])('%s means %s', (text, expected) => {
    expect(parse(text).join()).toBe(expected);
  });

  test('a range of two digits contains every prefix between its ends', () => {
    expect(parse('00-7f')).toEqual(shardsOfLength(2).slice(0, 128));
    expect(parse('000-fff')).toHaveLength(MAX_SHARD_PREFIXES);
  });

  test.each([
    ['g', 'SHARDS must list lower-case hex prefixes and ranges of them, such as 0-7 or a,b3, not "g"'],
    ['A', 'SHARDS must list lower-case hex prefixes and ranges of them, such as 0-7 or a,b3, not "A"'],
    ['a,,b', 'SHARDS must list lower-case hex prefixes and ranges of them, such as 0-7 or a,b3, not ""'],
    ['0-7-9', 'SHARDS must list lower-case hex prefixes and ranges of them, such as 0-7 or a,b3, not "0-7-9"'],
    ['ab'.repeat(32).concat('c'), 'lower-case hex prefixes'],
    ['0-1f', 'SHARDS must have ranges between prefixes of the same length, not "0-1f"'],
    ['7-0', 'SHARDS must have ranges from the lower to the higher prefix, not "7-0"'],
    ['0000-ffff', 'SHARDS must have ranges of at most 4096 prefixes, not "0000-ffff"'],
    [`${'0'.repeat(20)}-${'f'.repeat(20)}`, 'SHARDS must have ranges of at most 4096 prefixes'],
    ['0000-0fff,1000', 'SHARDS must have at most 4096 prefixes, not 4097'],
  ])('%s is refused', (text, mistake) => {
    expect(() => loadConfig({ SHARDS: text })).toThrow(ConfigError);
    expect(() => loadConfig({ SHARDS: text })).toThrow(mistake);
  });

  test('every invalid entry is reported, beside invalid values of other settings', () => {
    const mistakes = (() => {
      try {
        loadConfig({ SHARDS: 'x,7-0,a', HOLD_TTL_S: '1' });
      } catch (error) {
        return error instanceof ConfigError ? error.mistakes : [];
      }
      return [];
    })();
    expect(mistakes.map((mistake) => mistake.split(' ')[0])).toEqual(['SHARDS', 'SHARDS', 'HOLD_TTL_S']);
  });

  test('without SHARDS, the process takes the shards that membership assigns', () => {
    expect(loadConfig({}).shards).toBeUndefined();
    expect(loadConfig({ SHARDS: '' }).shards).toBeUndefined();
    expect(loadConfig({ SHARDS: 'a,b3' }).shards).toEqual(['a', 'b3']);
  });
});

test('shardsOfLength lists every shard in order', () => {
  expect(shardsOfLength(1).join('')).toBe('0123456789abcdef');
  expect(shardsOfLength(2)).toHaveLength(256);
  expect([shardsOfLength(2)[0], shardsOfLength(2)[163], shardsOfLength(2)[255]]).toEqual(['00', 'a3', 'ff']);
});
