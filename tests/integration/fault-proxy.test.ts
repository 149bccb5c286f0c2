import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Nats } from '../../platform/nats/connection.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { quietLog, testPlatform } from '../support/nats.ts';
import { seededRandom } from '../support/random.ts';

/** A client that records the bytes that it received, and how its connection ended. */
class Caller {
  readonly socket: Socket;
  received = '';
  end: 'open' | 'closed' | 'reset' = 'open';

  constructor(url: string) {
    this.socket = connect(Number(new URL(url).port), '127.0.0.1');
    this.socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString();
    });
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') this.end = 'reset';
    });
    this.socket.on('close', () => {
      if (this.end === 'open') this.end = 'closed';
    });
  }

  send(text: string): void {
    this.socket.write(text);
  }
}

describe('a fault proxy in front of an echo server', () => {
  let server: Server;
  let proxy: FaultProxy;
  let receivedByServer = '';
  const callers: Caller[] = [];
  const call = () => {
    const caller = new Caller(proxy.url);
    callers.push(caller);
    return caller;
  };

  beforeAll(async () => {
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => {
        receivedByServer += bytes.toString();
        socket.write(bytes);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  beforeEach(async () => {
    const { port } = server.address() as { port: number };
    receivedByServer = '';
    proxy = await FaultProxy.start({ target: `tcp://127.0.0.1:${port}`, random: seededRandom(1) });
  });
  afterEach(async () => {
    for (const { socket } of callers.splice(0)) socket.destroy();
    await proxy.stop();
  });
  afterAll(() => new Promise<void>((resolve) => server.close(() => resolve())));

  test('forwards all bytes and the end of the connection', async () => {
    const caller = call();
    const long = 'x'.repeat(3_000_000);
    caller.send(long);
    await eventually(() => caller.received.length === long.length);
    expect(caller.received).toBe(long);
    caller.socket.end();
    await eventually(() => caller.end === 'closed' && proxy.connections === 0);
  });

  test('resets connections, and accepts new ones', async () => {
    const caller = call();
    caller.send('one');
    await eventually(() => caller.received === 'one');
    expect(proxy.cut()).toBe(1);
    await eventually(() => caller.end === 'reset' && proxy.connections === 0);
    const next = call();
    next.send('two');
    await eventually(() => next.received === 'two');
  });

  test('cuts a connection in the middle of a message', async () => {
    const caller = call();
    caller.send('one');
    await eventually(() => caller.received === 'one');
    proxy.cutAfter(4, 'up');
    caller.send('a frame of the protocol');
    await eventually(() => caller.end === 'reset' && proxy.connections === 0);
    expect(receivedByServer).toBe('onea fr');

    const other = call();
    other.send('two');
    await eventually(() => other.received === 'two');
    proxy.cutAfter(2, 'down');
    other.send('an answer that is long');
    await eventually(() => other.end === 'closed');
    expect(other.received).toBe('twoan');
  });

  test.each(['up', 'down'] as const)(
    'stalls bytes that go %s until it is healed, and loses none',
    async (direction) => {
      const caller = call();
      caller.send('one ');
      await eventually(() => caller.received === 'one ');
      proxy.set({ stalled: [direction] });
      caller.send('two ');
      caller.send('three');
      if (direction === 'down') await eventually(() => receivedByServer === 'one two three');
      await Bun.sleep(50);
      expect(caller.received).toBe('one ');
      if (direction === 'up') expect(receivedByServer).toBe('one ');
      proxy.heal();
      await eventually(() => caller.received === 'one two three');
    },
  );

  test('delays bytes with jitter, and keeps their order', async () => {
    const caller = call();
    caller.send('.');
    await eventually(() => caller.received === '.');
    proxy.set({ delayMs: 40, jitterMs: 20 });
    const start = performance.now();
    for (let n = 0; n < 10; n += 1) caller.send(String(n));
    await eventually(() => caller.received === '.0123456789', { intervalMs: 1 });
    expect(performance.now() - start).toBeGreaterThan(79);
  });

  test('limits the throughput to the configured rate', async () => {
    const caller = call();
    proxy.set({ bytesPerS: 10_000 });
    const start = performance.now();
    caller.send('x'.repeat(1_000));
    await eventually(() => caller.received.length === 1_000, { intervalMs: 1 });
    expect(performance.now() - start).toBeGreaterThan(199);
    caller.send('y'.repeat(100_000));
    proxy.heal();
    await eventually(() => caller.received.length === 101_000, { timeoutMs: 2_000 });
  });

  test('refuses new connections until it is healed', async () => {
    proxy.set({ refuse: true });
    const refused = call();
    await eventually(() => refused.end === 'reset');
    expect(proxy.accepted).toBe(1);
    proxy.heal();
    const caller = call();
    caller.send('one');
    await eventually(() => caller.received === 'one');
  });
});

test('a NATS client reconnects through a fault proxy', async () => {
  const { url, creds } = await testPlatform();
  const proxy = await FaultProxy.start({ target: url, random: seededRandom(1) });
  const nats = await Nats.connect({ url: proxy.url, creds, name: 'through a proxy', log: quietLog });
  const received: string[] = [];
  nats.subscribe('fault-proxy.test', ({ data }) => received.push(new TextDecoder().decode(data)));
  await nats.flush();
  expect(new URL(proxy.url).protocol).toBe('nats:');
  proxy.cutAfter(10, 'up');
  nats.publish('fault-proxy.test', 'cut in the middle');
  await eventually(() => proxy.accepted === 2 && nats.connected);
  nats.publish('fault-proxy.test', 'after the cut');
  await eventually(() => received.includes('after the cut'));
  expect(received).not.toContain('cut in the middle');
  await nats.close();
  await proxy.stop();
});
