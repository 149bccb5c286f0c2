import { describe, expect, test } from 'bun:test';
import { AddressResolver, DEFAULT_DENIED, isRange } from '../../platform/network/address-resolver.ts';

const NAMES: Readonly<Record<string, readonly string[]>> = {
  'unit.example': ['10.1.2.3'],
  'both.example': ['2001:db8::1', '10.1.2.3'],
  'sly.example': ['10.1.2.3', '169.254.169.254'],
  'empty.example': [],
};

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function resolver(denied: readonly string[] = DEFAULT_DENIED) {
  return new AddressResolver({
    denied,
    async lookup(host) {
      const known = NAMES[host];
      if (known !== undefined) return known;
      throw failure(host === 'away.example' ? 'EAI_AGAIN' : 'ENOTFOUND');
    },
  });
}

describe('address resolution', () => {
  test.each([
    ['10.0.0.7:80', { ip: '10.0.0.7', port: 80 }],
    ['127.0.0.5:9000', { ip: '127.0.0.5', port: 9_000 }],
    ['[2001:db8::7]:80', { ip: '2001:db8::7', port: 80 }],
    ['unit.example:80', { ip: '10.1.2.3', port: 80 }],
    ['both.example:80', { ip: '2001:db8::1', port: 80 }],
  ])('%s', async (address, expected) => {
    expect(await resolver().resolve(address)).toEqual(expected);
  });

  test.each([
    ['nowhere', 'malformed'],
    ['10.0.0.7:0', 'malformed'],
    ['nobody.example:80', 'unresolvable'],
    ['empty.example:80', 'unresolvable'],
    ['away.example:80', 'unavailable'],
    ['169.254.169.254:80', 'denied'],
    ['[::ffff:169.254.169.254]:80', 'denied'],
    ['[fe80::1]:80', 'denied'],
    ['[fd00:ec2::254]:80', 'denied'],
    ['0.0.0.0:80', 'denied'],
    ['[::]:80', 'denied'],
    ['224.0.0.1:80', 'denied'],
    ['255.255.255.255:80', 'denied'],
    ['sly.example:80', 'denied'],
  ])('refuses %s as %s', async (address, problem) => {
    expect(await resolver().resolve(address)).toMatchObject({ problem, message: expect.any(String) });
  });

  test('denies the networks of the setting instead of the default ones', async () => {
    expect(await resolver(['10.0.0.0/8']).resolve('10.0.0.7:80')).toMatchObject({ problem: 'denied' });
    expect(await resolver([]).resolve('169.254.169.254:80')).toEqual({ ip: '169.254.169.254', port: 80 });
  });
});

test('lookups of names are queued, and all are answered', async () => {
  let [pending, most] = [0, 0];
  const slow = new AddressResolver({
    denied: [],
    async lookup() {
      pending += 1;
      most = Math.max(most, pending);
      await Promise.resolve();
      pending -= 1;
      return ['10.0.0.1'];
    },
  });
  const all = await Promise.all(Array.from({ length: 200 }, (_, index) => slow.resolve(`u${index}.example:80`)));
  expect(all).toEqual(all.map(() => ({ ip: '10.0.0.1', port: 80 })));
  expect(most).toBeLessThanOrEqual(32);
});

test.each([
  ['10.0.0.0/8', true],
  ['fe80::/10', true],
  ['10.0.0.0', false],
  ['10.0.0.0/33', false],
  ['10.0.0.0/8/9', false],
  ['fe80::/129', false],
  ['lan/8', false],
  ['', false],
])('%p is a range: %p', (text, expected) => {
  expect(isRange(text)).toBe(expected);
});
