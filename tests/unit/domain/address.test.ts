import { describe, expect, test } from 'bun:test';
import { type Address, parseAddress } from '../../../domain/address.ts';

describe('an address of a unit', () => {
  test.each<[string, Address | undefined]>([
    ['127.0.0.2:8080', { host: '127.0.0.2', port: 8080 }],
    ['unit-1.example.org:80', { host: 'unit-1.example.org', port: 80 }],
    ['[::1]:9000', { host: '::1', port: 9000 }],
    ['localhost:65535', { host: 'localhost', port: 65_535 }],
    ['localhost:65536', undefined],
    ['localhost:0', undefined],
    ['localhost', undefined],
    [':80', undefined],
    ['::1:80', undefined],
    ['a b:80', undefined],
    ['a\r\nX: y:80', undefined],
    ['http://a:80', undefined],
    ['a.:80', undefined],
    ['', undefined],
  ])('%j', (text, address) => {
    expect(parseAddress(text)).toEqual(address as Address);
  });
});
