import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { sliceEventJson } from '../../../platform/unit-log/event-json.ts';
import { seededRandom } from '../../support/random.ts';

const RUNS = 500;
const { seed } = seededRandom();

test('sliceEventJson returns the exact JSON text of each event, for any whitespace and escapes', () => {
  const batches = fc.record({
    before: fc.json(),
    events: fc.array(fc.json()),
    name: fc.constantFrom('"events"', '"\\u0065vents"'),
    blank: fc.constantFrom('', ' ', '\n\t'),
    after: fc.json(),
  });
  fc.assert(
    fc.property(batches, ({ before, events, name, blank, after }) => {
      const list = `[${blank}${events.join(`${blank},${blank}`)}${blank}]`;
      const text = `${blank}{"unit":${before},${blank}${name}${blank}:${blank}${list},"more":${after}${blank}}`;
      expect(sliceEventJson(text)).toEqual(events.map((event) => event.trim()));
      expect(JSON.parse(text).events).toHaveLength(events.length);
    }),
    { seed, numRuns: RUNS },
  );
});

test('of two lists named events the last one counts, as in JSON.parse', () => {
  expect(sliceEventJson('{"events":[1,2],"x":{"events":[3]},"events":[{"a":"]\\\\"},[]]}')).toEqual([
    '{"a":"]\\\\"}',
    '[]',
  ]);
  expect(sliceEventJson('{"events":[ ]}')).toEqual([]);
});
