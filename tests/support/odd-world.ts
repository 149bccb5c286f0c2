/** A platform with one simulated unit, and a valid request for every operation of its API that odd values can be put into. */

import { Client, items, period, text } from './client.ts';
import { eventually } from './eventually.ts';
import { type ApiOperation, exampleOf, operationsOf, type Parameter } from './openapi-fields.ts';
import { type Platform, startPlatform } from './platform.ts';
import { rawRequest } from './raw-http.ts';
import { registerUnit } from './registration.ts';
import { ScriptableUnit } from './scriptable-unit.ts';

/** The simulated unit. It gets configurations and reservations. */
export const SIMULATED = 'PL-1000';
/** The beginning of the names of units that report events which are refused. */
export const REFUSED_UNIT = 'REFUSED-';
const MINUTES_PER_RESERVATION = 60;
const NO_UUID = '00000000-0000-4000-8000-000000000000';

/** A request that the API accepts, apart from what a test changes in it. */
export interface ValidRequest {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
}

export interface SentRequest extends Omit<ValidRequest, 'body'> {
  readonly headers?: Readonly<Record<string, string>>;
  /** The JSON of the body. */
  readonly json?: string | undefined;
}

export interface OddAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: Headers;
}

export class OddWorld {
  readonly operations: readonly ApiOperation[];
  readonly ops: Client;
  readonly customer: Client;
  readonly #platform: Platform;
  readonly #tokens: Readonly<Record<'ops' | 'customer', string>>;
  readonly #roles = new Map<string, 'ops' | 'customer'>();
  readonly #units: ScriptableUnit[] = [];
  #made = 0;

  private constructor(platform: Platform, tokens: Record<'ops' | 'customer', string>, document: unknown) {
    this.#platform = platform;
    this.#tokens = tokens;
    this.operations = operationsOf(document);
    this.ops = new Client(platform.api, tokens.ops);
    this.customer = new Client(platform.api, tokens.customer);
  }

  static async start(purpose: string): Promise<OddWorld> {
    const platform = await startPlatform({ purpose, units: 1, env: { SIM_LOCKERS: '200' } });
    const tokens = { ops: await platform.token('ops', 'operator'), customer: await platform.token('customer', 'anna') };
    const { body } = await new Client(platform.api).get('/swagger/json');
    return new OddWorld(platform, tokens, body);
  }

  get sim(): string {
    return this.#platform.sim;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#units.map((unit) => unit.stop()));
    await this.#platform.stop();
  }

  /** A token whose subject is any text. */
  token(role: 'customer' | 'ops', sub: string): Promise<string> {
    return this.#platform.token(role, sub);
  }

  /** The token of the role that an operation asks for. */
  async authorizationFor({ id, method, path }: ApiOperation): Promise<string> {
    let role = this.#roles.get(id);
    if (role === undefined) {
      // Every operation verifies the token before it validates anything else.
      const { status } = await new Client(this.#platform.api, this.#tokens.ops).send(method, `${path}?odd=1`);
      role = status === 403 ? 'customer' : 'ops';
      this.#roles.set(id, role);
    }
    return this.#tokens[role];
  }

  async send(operation: ApiOperation, { params, query, headers = {}, json }: SentRequest): Promise<OddAnswer> {
    const target = targetOf(operation, params, query);
    const response = await fetch(`${this.#platform.api}${target}`, {
      method: operation.method,
      // Tests are watched for connections that they leave open.
      keepalive: false,
      headers: {
        authorization: await this.authorizationFor(operation),
        ...(json === undefined ? {} : { 'content-type': operation.bodyType ?? 'application/json' }),
        ...headers,
      },
      ...(json === undefined ? {} : { body: json }),
    });
    return { status: response.status, text: await response.text(), headers: response.headers };
  }

  /** Sends a request, and repeats it while the platform is not available, which a busy machine may cause. */
  sendUntilAvailable(operation: ApiOperation, request: SentRequest): Promise<OddAnswer> {
    return eventually(async () => {
      const answer = await this.send(operation, request);
      return !(answer.status === 503 && answer.text.includes('/problems/unavailable')) && answer;
    });
  }

  /** Sends a target and headers as they are, byte by byte. */
  async sendRaw(
    operation: ApiOperation,
    target: string,
    headers: Readonly<Record<string, string>> = {},
    body?: string,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const authorization = await this.authorizationFor(operation);
    return rawRequest(this.#platform.api, operation.method, target, { authorization, ...headers }, body);
  }

  /**
   * A request that names no unit, reservation or projection that exists, so that it changes none.
   * @param changed the parameter that the caller replaces: the request has none that excludes it
   */
  harmless(operation: ApiOperation, changed?: string): ValidRequest {
    const params = Object.fromEntries(
      operation.parameters
        .filter((parameter) => parameter.in === 'path')
        .map((parameter) => [parameter.name, absentValue(operation, parameter)]),
    );
    const body = operation.body === undefined ? undefined : this.#bodyOf(operation);
    return { params, query: requiredQuery(operation, changed), body };
  }

  /**
   * A request that the API answers with 2xx, and that has not been sent before.
   * @throws Error for a new operation with a path that this class does not know: add it to `#paramsOf`
   */
  async valid(operation: ApiOperation): Promise<ValidRequest> {
    const params = await this.#paramsOf(operation);
    const query = { ...requiredQuery(operation), ...(await this.#queryOf(operation)) };
    return { params, query, body: operation.body === undefined ? undefined : this.#bodyOf(operation) };
  }

  async #queryOf({ id }: ApiOperation): Promise<Record<string, string>> {
    return id === 'dismissDeadLetters' ? { unit: (await this.#deadLetter()).unit } : {};
  }

  async #paramsOf({ id, path }: ApiOperation): Promise<Record<string, string>> {
    const of = (prefix: string) => path === prefix || path.startsWith(`${prefix}/`);
    if (!path.includes('{')) return {};
    if (of('/v1/units/{name}/config') || id === 'getUnit' || id === 'getUnitState') {
      return { name: SIMULATED, version: '1' };
    }
    if (of('/v1/units/{name}/maintenance/{id}')) {
      const name = await this.#newUnit();
      const { from, until } = period(60, 60);
      const planned = await this.ops.post(`/v1/units/${name}/maintenance`, { from, until, reason: 'cleaning' });
      return { name, id: text(planned, 'id') };
    }
    // The simulated unit answers commands.
    if (id === 'openLockerForService') return { name: SIMULATED, id: 'A' };
    if (of('/v1/units/{name}/lockers/{id}') || of('/v1/units/{name}')) return { name: await this.#newUnit(), id: 'A' };
    if (of('/v1/reservations/{id}')) return { id: await this.#heldReservation() };
    if (of('/v1/config-rollouts/{id}')) return { id: await this.#rollout(id) };
    if (of('/v1/api-keys/{id}')) return { id: text(await this.ops.post('/v1/api-keys', { name: 'till' }), 'id') };
    if (of('/v1/projections/{name}')) return { name: 'units', unit: SIMULATED };
    if (of('/v1/dead-letters/{id}')) return { id: (await this.#deadLetter()).id };
    // A platform without faults has no parked work.
    if (id === 'retryParkedWork') return { id: NO_UUID };
    throw new Error(`OddWorld knows no valid parameters of ${id} (${path}). Add them.`);
  }

  #bodyOf(operation: ApiOperation): unknown {
    this.#made += 1;
    const example = exampleOf(operation.body ?? {}) as Record<string, unknown>;
    switch (operation.id) {
      case 'registerUnit':
      case 'importUnits':
        return { ...example, name: `UNIT-${this.#made}`, address: '127.0.0.1:1', lockers: [{ id: 'A', size: 'S' }] };
      case 'addLocker':
        return { id: `N${this.#made}`, size: 'S' };
      case 'holdLocker':
        return { unit: SIMULATED, size: 'S', ...this.#newPeriod() };
      case 'planMaintenance':
        return { ...this.#newPeriod(), reason: 'cleaning' };
      case 'createRollout':
        return { selection: { names: [SIMULATED] }, changes: { minimumMinutes: 20 } };
      case 'changeConfiguration':
        return { ...example, mode: 'queued' };
      default:
        return example;
    }
  }

  /** A period that no other reservation of the simulated unit has. */
  #newPeriod(): { from: string; until: string } {
    this.#made += 1;
    return period(this.#made * MINUTES_PER_RESERVATION, MINUTES_PER_RESERVATION - 1);
  }

  async #newUnit(): Promise<string> {
    this.#made += 1;
    const name = `ODD-${this.#made}`;
    await registerUnit(this.ops, name, { probe: 'nats', commandChannel: 'nats' });
    return name;
  }

  async #heldReservation(): Promise<string> {
    const body = { unit: SIMULATED, size: 'S', ...this.#newPeriod() };
    const held = await this.customer.post('/v1/reservations', body);
    return text(held, 'id');
  }

  async #rollout(action: string): Promise<string> {
    const body = { selection: { names: [SIMULATED] }, changes: { minimumMinutes: 20 }, rate: { unitsPerMinute: 1 } };
    const id = text(await this.ops.post('/v1/config-rollouts', body), 'id');
    if (action === 'resumeRollout') await this.ops.post(`/v1/config-rollouts/${id}/pause`, {});
    return id;
  }

  /** Makes a unit report an event that is refused. */
  async #deadLetter(): Promise<{ readonly unit: string; readonly id: string }> {
    this.#made += 1;
    const name = `${REFUSED_UNIT}${this.#made}`;
    const unit = await ScriptableUnit.register(this.ops, name, { isOnline: false });
    this.#units.push(unit);
    await unit.push([{ seq: 1, v: 1, type: 'LockerClosed', time: 'no time', data: { '\u0000': '\ud800' } }]);
    const id = await eventually(async () => {
      const [letter] = await this.everyItem(`/v1/dead-letters?unit=${name}`);
      return letter !== undefined && String(letter.id);
    });
    return { unit: name, id };
  }

  /** The items of all pages of a list. */
  async everyItem(path: string): Promise<Record<string, unknown>[]> {
    const found: Record<string, unknown>[] = [];
    for (let cursor: unknown = ''; cursor !== null; ) {
      const next = cursor === '' ? '' : `&cursor=${cursor}`;
      const page = await this.ops.getOnceShown(`${path}${path.includes('?') ? '&' : '?'}limit=500${next}`);
      if (page.status !== 200) throw new Error(`${path} answers ${page.status}: ${JSON.stringify(page.body)}`);
      found.push(...items(page));
      cursor = page.body.nextCursor;
    }
    return found;
  }
}

/** The target of a request, percent-encoded. */
export function targetOf(
  { path }: ApiOperation,
  params: Readonly<Record<string, string>>,
  query: Readonly<Record<string, string>>,
): string {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => percentEncoded(params[name] ?? ''));
  const search = Object.entries(query).map(([name, value]) => `${name}=${percentEncoded(value)}`);
  return search.length === 0 ? filled : `${filled}?${search.join('&')}`;
}

/** Unlike `encodeURIComponent`, it also encodes halves of surrogate pairs, as the three bytes that UTF-8 would have for them. */
function percentEncoded(text: string): string {
  return Array.from(text, (character) => {
    if (character.isWellFormed()) return encodeURIComponent(character);
    const code = character.charCodeAt(0);
    const bytes = [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)];
    return bytes.map((byte) => `%${byte.toString(16)}`).join('');
  }).join('');
}

function requiredQuery({ id, parameters }: ApiOperation, changed?: string): Record<string, string> {
  if (id === 'findFreeLockers') return { ...(changed === 'near' ? {} : { unit: SIMULATED }), ...period(60, 60) };
  if (id === 'getUnitState') return changed === 'atPosition' ? {} : { at: new Date().toISOString() };
  return Object.fromEntries(
    parameters
      .filter((parameter) => parameter.in === 'query' && parameter.required === true)
      .map(({ name, schema }) => [name, String(exampleOf(schema))]),
  );
}

function absentValue({ method, path }: ApiOperation, { name, schema }: Parameter): string {
  // A read shows what exists.
  if (method === 'GET' && name === 'name' && path.startsWith('/v1/units/')) return SIMULATED;
  if (path.startsWith('/v1/projections/') && name === 'name') return 'no_such_projection';
  if (name === 'name' || name === 'unit') return 'NO-SUCH-UNIT';
  return String(exampleOf(schema));
}
