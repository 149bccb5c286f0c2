import { describe, expect, test } from 'bun:test';
import { unitHash } from '../../../domain/shard.ts';
import { EndpointResolver, type PingEndpoint } from '../../../pinger/units/endpoint-resolver.ts';
import type { PingTarget } from '../../../pinger/units/target-list.ts';
import { AddressResolver } from '../../../platform/network/address-resolver.ts';
import { createLog } from '../../../platform/observability/log.ts';

const INDEX = 0;

function target(changes: Partial<PingTarget> = {}): PingTarget {
  const unit = { name: 'PL-1', address: '10.0.0.1:80', probe: 'http', keyVersion: 1, inUse: true } as const;
  return { ...unit, hash: unitHash(unit.name), ...changes };
}

function createResolver() {
  const hosts = new Map<string, string>();
  const lookups: string[] = [];
  const resolved: (readonly [unit: string, endpoint: PingEndpoint | undefined])[] = [];
  const unavailable: string[] = [];
  const lines: string[] = [];
  const outage = { isOn: false };
  const retries: { readonly ms: number; run: () => void }[] = [];
  const addresses = new AddressResolver({
    denied: [],
    async lookup(host) {
      lookups.push(host);
      if (outage.isOn) throw Object.assign(new Error('no name server answers'), { code: 'EAI_AGAIN' });
      const ip = hosts.get(host);
      return ip === undefined ? [] : [ip];
    },
  });
  const resolver = new EndpointResolver({
    capacity: 1,
    resolve: (address) => addresses.resolve(address),
    onResolved: (_, { name }, endpoint) => resolved.push([name, endpoint]),
    onUnavailable: (_, { name }) => unavailable.push(name),
    after: (ms, run) => {
      const retry = { ms, run };
      retries.push(retry);
      return () => {
        retry.run = () => undefined;
      };
    },
    random: () => 0.5,
    log: createLog(
      (line) => lines.push(line),
      () => 0,
    ),
  });
  return { resolver, hosts, lookups, resolved, unavailable, lines, outage, retries };
}

describe('the endpoint resolver', () => {
  test('resolves a unit that is new, and again when its address, probe or key changes', async () => {
    const { resolver, resolved } = createResolver();
    for (const isFullRead of [false, false, true]) resolver.update(INDEX, target(), isFullRead);
    await resolver.settled();
    expect(resolved).toEqual([['PL-1', { ip: '10.0.0.1', port: 80 }]]);
    for (const change of [{ address: '10.0.0.2:80' }, { probe: 'udp' }, { keyVersion: 2 }] as const) {
      resolver.update(INDEX, target(change), false);
      await resolver.settled();
    }
    expect(resolved).toHaveLength(4);
  });

  test('resolves a host name again at every full read, because its address may have changed', async () => {
    const { resolver, hosts, resolved } = createResolver();
    hosts.set('unit.example', '10.0.0.1');
    const named = target({ address: 'unit.example:80' });
    resolver.update(INDEX, named, false);
    await resolver.settled();
    hosts.set('unit.example', '10.0.0.9');
    resolver.update(INDEX, named, false);
    await resolver.settled();
    expect(resolved).toHaveLength(1);
    resolver.update(INDEX, named, true);
    await resolver.settled();
    expect(resolved.at(-1)).toEqual(['PL-1', { ip: '10.0.0.9', port: 80 }]);
  });

  test('reports an address that cannot be resolved, and logs the unit and the reason', async () => {
    const { resolver, resolved, lines } = createResolver();
    resolver.update(INDEX, target({ address: 'nowhere' }), false);
    await resolver.settled();
    expect(resolved).toEqual([['PL-1', undefined]]);
    expect(lines.join('')).toContain('"unit":"PL-1","address":"nowhere","problem":"malformed"');
  });

  test('keeps the last address while no name server answers, and retries with backoff until one does', async () => {
    const { resolver, hosts, resolved, lines, outage, retries } = createResolver();
    hosts.set('unit.example', '10.0.0.1');
    const named = target({ address: 'unit.example:80' });
    resolver.update(INDEX, named, false);
    await resolver.settled();
    outage.isOn = true;
    resolver.update(INDEX, named, true);
    await resolver.settled();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      retries[attempt]?.run();
      await resolver.settled();
    }
    expect(retries.map(({ ms }) => ms)).toEqual([750, 1_500, 3_000, 6_000]);
    expect(resolved).toEqual([['PL-1', { ip: '10.0.0.1', port: 80 }]]);
    expect(lines).toHaveLength(1);
    outage.isOn = false;
    hosts.set('unit.example', '10.0.0.2');
    retries.at(-1)?.run();
    await resolver.settled();
    expect(resolved.at(-1)).toEqual(['PL-1', { ip: '10.0.0.2', port: 80 }]);
    expect(retries).toHaveLength(4);
  });

  test('has one retry for a unit at a time, however often the unit is read meanwhile', async () => {
    const { resolver, lookups, outage, retries } = createResolver();
    outage.isOn = true;
    const named = target({ address: 'unit.example:80' });
    for (let read = 0; read < 5; read += 1) {
      resolver.update(INDEX, named, true);
      await resolver.settled();
    }
    expect(lookups).toHaveLength(5);
    for (const retry of [...retries]) retry.run();
    await resolver.settled();
    expect(lookups).toHaveLength(6);
  });

  test('does not retry for a unit that has left its index, or after it was stopped', async () => {
    const { resolver, lookups, outage, retries } = createResolver();
    outage.isOn = true;
    resolver.update(INDEX, target({ address: 'unit.example:80' }), false);
    await resolver.settled();
    resolver.reset(INDEX);
    retries[0]?.run();
    await resolver.stop();
    expect(lookups).toHaveLength(1);
  });

  test('ignores a resolution that ends after the unit has left its index, or has changed', async () => {
    const { resolver, resolved } = createResolver();
    resolver.update(INDEX, target(), false);
    resolver.update(INDEX, target({ address: '10.0.0.2:80' }), false);
    await resolver.settled();
    expect(resolved).toEqual([['PL-1', { ip: '10.0.0.2', port: 80 }]]);
    resolver.update(INDEX, target({ address: '10.0.0.3:80' }), false);
    resolver.reset(INDEX);
    await resolver.settled();
    expect(resolved).toHaveLength(1);
  });
});

test('a unit whose address cannot be resolved is named once, however often the resolution fails', async () => {
  const { resolver, outage, retries, unavailable } = createResolver();
  outage.isOn = true;
  resolver.update(INDEX, target({ address: 'unit.example:80' }), false);
  await resolver.settled();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    retries.at(-1)?.run();
    await resolver.settled();
  }
  expect(retries).toHaveLength(4);
  expect(unavailable).toEqual(['PL-1']);
});
