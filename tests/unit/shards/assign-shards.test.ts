import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { shardsOfLength } from '../../../domain/shard-prefixes.ts';
import { assignShards, type Member } from '../../../platform/shards/assign-shards.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const LETTERS = shardsOfLength(1);
const PAIRS = shardsOfLength(2);

const id = fc.uuid();
const shards = fc.constantFrom(LETTERS, PAIRS);
const prefixes = fc.array(fc.stringMatching(/^[0-9a-f]{1,4}$/), { maxLength: 12 });
const member: fc.Arbitrary<Member> = fc.record({ id, fixed: fc.option(prefixes, { nil: undefined, freq: 1 }) });
const members = fc.uniqueArray(member, { maxLength: 8, selector: (each) => each.id });
const dealtMembers = fc.uniqueArray(id, { minLength: 1, maxLength: 8 }).map((ids) => ids.map((each) => dealtTo(each)));

const dealtTo = (name: string): Member => ({ id: name, fixed: undefined });
const fixedTo = (name: string, ...fixed: string[]): Member => ({ id: name, fixed });
/** One lies in the other: some units belong to both. */
const meet = (a: string, b: string) => a.startsWith(b) || b.startsWith(a);
const names = (each: Member, shard: string) => each.fixed?.some((prefix) => meet(prefix, shard)) === true;

function ownedBy(owners: ReadonlyMap<string, string>, name: string): string {
  return [...owners].flatMap(([shard, owner]) => (owner === name ? [shard] : [])).join();
}

describe('shards without fixed owners', () => {
  test('every shard has an owner, which is a member', () => {
    fc.assert(
      fc.property(shards, dealtMembers, (all, there) => {
        const owners = assignShards(all, there);
        expect([...owners.keys()]).toEqual([...all]);
        const ids = new Set(there.map((each) => each.id));
        expect([...owners.values()].every((owner) => ids.has(owner))).toBe(true);
      }),
      { seed },
    );
  });

  test('the owners do not depend on the order of the members', () => {
    fc.assert(
      fc.property(shards, members, (all, there) => {
        expect(assignShards(all, there.toReversed())).toEqual(assignShards(all, there));
      }),
      { seed },
    );
  });

  test('of 256 shards every member has between half and double its even share', () => {
    fc.assert(
      fc.property(fc.uniqueArray(id, { minLength: 2, maxLength: 5 }), (ids) => {
        const owners = assignShards(PAIRS, ids.map(dealtTo));
        const share = PAIRS.length / ids.length;
        for (const each of ids) {
          const count = [...owners.values()].filter((owner) => owner === each).length;
          expect(count).toBeGreaterThan(share / 2);
          expect(count).toBeLessThan(share * 2);
        }
      }),
      // The bounds lie four deviations from the mean: chance does not get there, a bad hash does.
      { seed: 1 },
    );
  });

  test('a shard belongs to the member with the largest sha256 of shard and member id', () => {
    // For each letter: the larger of sha256("<letter> one") and sha256("<letter> two").
    const larger = (shard: string) => {
      const rank = (name: string) => new Bun.CryptoHasher('sha256').update(`${shard} ${name}`).digest('hex');
      return rank('one') > rank('two') ? 'one' : 'two';
    };
    expect([...assignShards(LETTERS, [dealtTo('one'), dealtTo('two')]).values()]).toEqual(LETTERS.map(larger));
  });
});

test('a member that leaves moves only its own shards, and a member that joins takes shards only for itself', () => {
  fc.assert(
    fc.property(shards, members, member, (all, others, one) => {
      fc.pre(others.every((other) => other.id !== one.id));
      const without = assignShards(all, others);
      const withOne = assignShards(all, [...others, one]);
      for (const shard of all) {
        if (withOne.get(shard) !== one.id) expect(withOne.get(shard)).toBe(without.get(shard));
      }
    }),
    { seed },
  );
});

describe('shards with fixed owners', () => {
  test('a shard belongs to a member that names it, else to a member without fixed prefixes, else to none', () => {
    fc.assert(
      fc.property(shards, members, (all, there) => {
        const owners = assignShards(all, there);
        for (const shard of all) {
          const owner = there.find((each) => each.id === owners.get(shard));
          const naming = there.filter((each) => names(each, shard));
          const rest = there.filter(({ fixed }) => fixed === undefined);
          const candidates = naming.length > 0 ? naming : rest;
          if (candidates.length === 0) expect(owner).toBeUndefined();
          else expect(candidates.some((candidate) => candidate === owner)).toBe(true);
        }
      }),
      { seed },
    );
  });

  test.each([
    ['unnamed shards go to members without fixed prefixes', [fixedTo('x', '0', '1'), dealtTo('y')], 'x', '0,1'],
    [
      'a member with fixed prefixes gets no other shards',
      [fixedTo('x', '0', '1'), dealtTo('y')],
      'y',
      '2,3,4,5,6,7,8,9,a,b,c,d,e,f',
    ],
    ['a prefix longer than a shard takes the whole shard', [fixedTo('x', 'd0', 'd7'), dealtTo('y')], 'x', 'd'],
    [
      'unnamed shards have no owner when every member has fixed prefixes',
      [fixedTo('x', '0'), fixedTo('y', '1')],
      'y',
      '1',
    ],
    ['a member with an empty list of prefixes gets no shards', [fixedTo('x'), dealtTo('y')], 'x', ''],
  ])('%s', (_title, there, name, expected) => {
    expect(ownedBy(assignShards(LETTERS, there), name)).toBe(expected);
  });

  test('prefixes may be shorter or longer than the shards', () => {
    const owners = assignShards(PAIRS, [fixedTo('x', 'a', 'b3', 'c41'), dealtTo('y')]);
    expect(ownedBy(owners, 'x')).toBe('a0,a1,a2,a3,a4,a5,a6,a7,a8,a9,aa,ab,ac,ad,ae,af,b3,c4');
  });

  test('members that name the same prefix share its shards', () => {
    const owners = assignShards(PAIRS, [fixedTo('x', 'a'), fixedTo('y', 'a'), dealtTo('z')]);
    const ofA = PAIRS.filter((shard) => shard.startsWith('a')).map((shard) => owners.get(shard));
    expect(new Set(ofA)).toEqual(new Set(['x', 'y']));
  });
});
