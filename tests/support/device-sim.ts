/**
 * What a simulated fleet needs of a platform, and no more: a NATS with its accounts and streams, an import that gives real
 * credentials, and signed pings, commands and fetches. Nothing ingests: `inbox` shows what units have pushed.
 */

import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { join } from 'node:path';
import { startControlApi } from '../../device-sim/control/control-api.ts';
import { Customers } from '../../device-sim/customers/customers.ts';
import { MINUTES_LONG_VISIT, type Visit } from '../../device-sim/customers/visit.ts';
import { type Clock, systemClock } from '../../device-sim/environment/clock.ts';
import { Random } from '../../device-sim/environment/random.ts';
import { Timers } from '../../device-sim/environment/timers.ts';
import { type Fleet, type FleetOptions, startFleet } from '../../device-sim/fleet/fleet.ts';
import type { Credentials } from '../../device-sim/unit/credentials.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { FetchedBatch, UnitBatch } from '../../domain/unit-protocol/batch.ts';
import type { Command, CommandAnswer, PingReply } from '../../domain/unit-protocol/commands.ts';
import type { Locker } from '../../domain/vocabulary.ts';
import { publicKey, unitKey } from '../../platform/credentials/keys.ts';
import { unitNatsCredentials } from '../../platform/credentials/nats-accounts.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { api, JetStreamError } from '../../platform/nats/jetstream.ts';
import { unitCommandsSubject, unitPushSubject } from '../../platform/nats/subjects.ts';
import { type PingRequest, pingPath } from '../../platform/unit-protocol/ping.ts';
import { PlatformSigner } from '../../platform/unit-protocol/signatures.ts';
import { temporaryFolder } from './cleanup.ts';
import { eventually } from './eventually.ts';
import { connectPlatform, quietLog, testPlatform } from './nats.ts';

const HOLD_TTL_S = 600;
const KEY_VERSION = 1;
const NO_MESSAGE = 10037;
const REGISTRATION_TIMEOUT_MS = 30_000;

/** The problem of a line of an import whose unit is registered. */
export const NAME_TAKEN = {
  type: '/problems/validation',
  status: 422,
  detail: 'A unit with this name exists already.',
  errors: [{ path: '/name', message: 'is taken' }],
};

export const wallClock: Clock = systemClock(Date.now);

interface Registration extends Addressed {
  readonly tags: readonly string[];
  readonly lockers: readonly Locker[];
}

interface Addressed {
  readonly name: string;
  readonly address: string;
}

export interface FieldPlatform {
  /** Base URL of its API. */
  readonly url: string;
  readonly nats: Nats;
  readonly signer: PlatformSigner;
  /** Addresses of the units that it knows, by name. */
  readonly registered: Map<string, string>;
  /** What the import of each unit said, by name. `GET` and `PATCH /v1/units/{name}` answer from it. */
  readonly registrations: Map<string, Registration>;
  /** What `POST /v1/units/{name}/credentials/rotate` answers. */
  rotation: 'works' | 'missing';
  /** Whether the API accepts bearer tokens; it answers 401 otherwise. */
  acceptsTokens: boolean;
  /** Valid credentials of a unit, as a registration answers with them. */
  credentialsOf(unit: string): Promise<Credentials>;
  /** Requests to the API, such as `POST /v1/units/import`. */
  readonly requests: string[];
  ping(unit: Addressed, recorded?: PingRequest['recorded']): Promise<PingReply | undefined>;
  command(unit: Addressed, command: Command): Promise<CommandAnswer>;
  commandOverNats(unit: string, command: Command): Promise<CommandAnswer>;
  fetch(unit: Addressed, query: string, recorded?: string): Promise<{ status: number; batch: FetchedBatch }>;
  /** `asked`: `after` and `limit`. Answers with the given body. */
  fetchOverNats(unit: string, asked?: object, recorded?: string): Promise<unknown>;
  /** Every batch that a unit has pushed and JetStream has stored, oldest first. */
  inbox(unit: string): Promise<UnitBatch[]>;
  stop(): Promise<void>;
}

export async function startFieldPlatform(): Promise<FieldPlatform> {
  const { url: natsUrl, keys } = await testPlatform();
  const nats = await connectPlatform();
  const signer = await PlatformSigner.create(keys.signingKey);
  const registered = new Map<string, string>();
  const registrations = new Map<string, Registration>();
  const requests: string[] = [];
  const credentialsOf = async (name: string) => {
    const { creds, inboxPrefix } = await unitNatsCredentials(keys, name);
    return {
      unitKey: Buffer.from(unitKey(keys.fleetKey, name, KEY_VERSION)).toString('base64'),
      natsUrl,
      natsCreds: creds,
      natsInboxPrefix: inboxPrefix,
      platformPublicKey: publicKey(keys.signingKey),
    };
  };
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: async (incoming) => {
      const { pathname } = new URL(incoming.url);
      requests.push(`${incoming.method} ${pathname}`);
      const hasToken = incoming.headers.get('authorization')?.startsWith('Bearer ') === true;
      if (!(hasToken && platform.acceptsTokens)) return new Response('', { status: 401 });
      const [, name] = /^\/v1\/units\/(.+)\/credentials\/rotate$/.exec(pathname) ?? [];
      if (name !== undefined && platform.rotation === 'works') {
        return Response.json({ name, credentials: await credentialsOf(name) });
      }
      const [, shown] = /^\/v1\/units\/([A-Z]+-\d+)$/.exec(pathname) ?? [];
      const registration = shown === undefined ? undefined : registrations.get(shown);
      if (registration !== undefined) {
        const changes = incoming.method === 'PATCH' ? ((await incoming.json()) as Partial<Registration>) : {};
        const changed = { ...registration, ...changes };
        registrations.set(changed.name, changed);
        registered.set(changed.name, changed.address);
        const { lockers, ...properties } = changed;
        return Response.json({ ...properties, lockers: lockers.length, lockerDetails: lockers });
      }
      if (pathname !== '/v1/units/import') return Response.json({ status: 404 }, { status: 404 });
      const lines = (await incoming.text()).split('\n').filter((line) => line !== '');
      const answers = lines.map(async (line) => {
        const imported = JSON.parse(line) as Registration;
        const { name: unit, address } = imported;
        if (registered.has(unit)) return { name: unit, problem: NAME_TAKEN };
        registered.set(unit, address);
        registrations.set(unit, imported);
        return { name: unit, credentials: await credentialsOf(unit) };
      });
      return new Response((await Promise.all(answers)).map((answer) => `${JSON.stringify(answer)}\n`).join(''));
    },
  });
  const keyOf = (unit: string) => unitKey(keys.fleetKey, unit, KEY_VERSION);
  const ask = async (unit: string, body: object): Promise<unknown> => {
    const { data } = await nats.request(unitCommandsSubject(unit), JSON.stringify(body), { timeoutMs: 5_000 });
    return JSON.parse(new TextDecoder().decode(data));
  };
  const platform: FieldPlatform = {
    url: `http://127.0.0.1:${server.port}`,
    nats,
    signer,
    registered,
    registrations,
    requests,
    rotation: 'missing',
    acceptsTokens: true,
    credentialsOf,
    ping: async ({ name, address }, recorded) => {
      const ping = { unit: name, nonce: randomBytes(16).toString('hex'), clockMs: Date.now() };
      const path = pingPath(keyOf(name), { ...ping, ...(recorded === undefined ? {} : { recorded }) });
      const { status, text } = await call(`http://${address}${path}`);
      return status === 200 ? (JSON.parse(text) as PingReply) : undefined;
    },
    command: async ({ name, address }, command) => {
      const body = JSON.stringify({ jws: await signer.command(name, command, Date.now()) });
      return JSON.parse((await call(`http://${address}/commands`, { method: 'POST', body })).text) as CommandAnswer;
    },
    commandOverNats: async (unit, command) =>
      (await ask(unit, { jws: await signer.command(unit, command, Date.now()) })) as CommandAnswer,
    fetchOverNats: async (unit, asked = {}, recorded) =>
      ask(unit, { jws: await signer.fetch(unit, Date.now(), recorded), ...asked }),
    fetch: async ({ name, address }, query, recorded) => {
      const authorization = `Bearer ${await signer.fetch(name, Date.now(), recorded)}`;
      const { status, text } = await call(`http://${address}/events?${query}`, { headers: { authorization } });
      return { status, batch: JSON.parse(text) as FetchedBatch };
    },
    inbox: (unit) => readInbox(nats, unit),
    stop: async () => {
      await server.stop(true);
      await nats.close();
    },
  };
  return platform;
}

/** One HTTP request on a connection of its own. @throws what Node throws when the connection closes without an answer */
export function call(
  url: string,
  {
    method = 'GET',
    body = '',
    headers = {},
  }: { method?: string; body?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      { method, agent: false, headers: { ...headers, 'content-length': Buffer.byteLength(body) } },
      (incoming) => {
        let text = '';
        incoming.setEncoding('utf8');
        incoming.on('data', (chunk: string) => {
          text += chunk;
        });
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, text }));
        incoming.on('error', reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

export interface TestFleetOptions extends FleetOptions {
  /** Customers who walk up on their own. @default none */
  readonly customers: { readonly walkUpsPerMinute: number; readonly visit: Visit } | undefined;
}

/** A fleet with its customers and its control API, as `device-sim/main.ts` composes them. */
export interface TestFleet extends Fleet {
  readonly controlUrl: string;
  readonly customers: Customers;
}

/** Starts a small fleet with a store of its own; the `storePath` of an earlier one resumes it. The caller stops it. */
export async function startTestFleet(
  platform: Pick<FieldPlatform, 'url'>,
  changes: Partial<TestFleetOptions> = {},
): Promise<TestFleet> {
  const { customers: arrivals, ...fleetChanges } = changes;
  const options: FleetOptions = {
    units: 2,
    lockers: 3,
    seed: 1,
    storePath: fleetChanges.storePath ?? join(await temporaryFolder('device-sim'), 'fleet.sqlite'),
    platform: { url: platform.url, opsToken: () => Promise.resolve('ops') },
    factoryConfiguration: defaultConfiguration(HOLD_TTL_S),
    unitPort: 0,
    clock: wallClock,
    newId: () => Bun.randomUUIDv7(),
    log: quietLog,
    onStoreFailure: (error) => {
      throw error;
    },
    onRegistrationRefused: (error) => {
      throw error;
    },
    ...fleetChanges,
  };
  const fleet = await startFleet(options);
  const timers = new Timers(options.clock);
  const visit = arrivals?.visit ?? MINUTES_LONG_VISIT;
  const customers = new Customers(visit, {
    units: [...fleet.units.values()],
    timers,
    random: new Random(options.seed, 'customers'),
    metrics: fleet.metrics,
  });
  if (arrivals !== undefined) {
    customers.setArrivalRate(arrivals.walkUpsPerMinute, visit);
    customers.continueVisits();
  }
  const control = startControlApi(0, fleet);
  return {
    ...fleet,
    controlUrl: control.url,
    customers,
    stop: async () => {
      customers.stop();
      timers.stop();
      await control.stop();
      await fleet.stop();
    },
  };
}

/**
 * Waits until the units of a fleet are registered, and has them connect to NATS at another address than that of their
 * credentials, such as a fault proxy's.
 */
export async function connectThrough(fleet: Fleet, natsUrl: string): Promise<void> {
  const { units } = fleet;
  await eventually(() => fleet.readiness().registered === units.size, { timeoutMs: REGISTRATION_TIMEOUT_MS });
  await Promise.all(
    [...units.values()].map(async (unit) => {
      if (unit.credentials !== undefined) await unit.setCredentials({ ...unit.credentials, natsUrl });
    }),
  );
}

async function readInbox(nats: Nats, unit: string): Promise<UnitBatch[]> {
  const batches: UnitBatch[] = [];
  for (let seq = 1; ; ) {
    try {
      const { message } = await api<{ message: { seq: number; data: string } }>(nats, 'STREAM.MSG.GET.UNIT_INBOX', {
        seq,
        next_by_subj: unitPushSubject(unit),
      });
      batches.push(JSON.parse(Buffer.from(message.data, 'base64').toString('utf8')) as UnitBatch);
      seq = message.seq + 1;
    } catch (error) {
      if (error instanceof JetStreamError && error.code === NO_MESSAGE) return batches;
      throw error;
    }
  }
}
