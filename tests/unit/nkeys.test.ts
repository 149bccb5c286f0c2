import { describe, expect, test } from 'bun:test';
import { createAccount, createOperator, createUser, fromPublic, fromSeed } from '@nats-io/jwt';
import { keyPairOf, newKeyPair } from '../../platform/nats/nkeys.ts';

const MESSAGE = new TextEncoder().encode('what is signed');

describe('NATS keys', () => {
  test.each(['operator', 'account', 'user'] as const)(
    'a new %s key equals the key that the package of NATS derives from its seed',
    (kind) => {
      const pair = newKeyPair(kind);
      const theirs = fromSeed(pair.getSeed());
      expect(pair.getPublicKey()).toBe(theirs.getPublicKey());
      expect(theirs.verify(MESSAGE, pair.sign(MESSAGE))).toBe(true);
      expect(fromPublic(pair.getPublicKey()).verify(MESSAGE, pair.sign(MESSAGE))).toBe(true);
    },
  );

  test.each([createOperator, createAccount, createUser])('reads a seed of the package of NATS (%p)', (create) => {
    const theirs = create();
    const ours = keyPairOf(new TextDecoder().decode(theirs.getSeed()));
    expect(ours.getPublicKey()).toBe(theirs.getPublicKey());
    expect(new TextDecoder().decode(ours.getSeed())).toBe(new TextDecoder().decode(theirs.getSeed()));
    expect(ours.verify(MESSAGE, theirs.sign(MESSAGE))).toBe(true);
    const forged = theirs.sign(MESSAGE);
    forged[0] = (forged[0] ?? 0) ^ 1;
    expect(ours.verify(MESSAGE, forged)).toBe(false);
  });

  test('refuses text that is not a seed', () => {
    const seed = new TextDecoder().decode(newKeyPair('user').getSeed());
    const flipped = seed.slice(0, 20) + (seed[20] === 'A' ? 'B' : 'A') + seed.slice(21);
    for (const text of ['', 'SUAA', flipped, `${seed}AA`, seed.toLowerCase(), newKeyPair('user').getPublicKey()]) {
      expect(() => keyPairOf(text)).toThrow(TypeError);
    }
  });
});
