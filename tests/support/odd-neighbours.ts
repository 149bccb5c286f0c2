/** Reads everything that the API shows, in every format, by the operations of its documentation. */

import { parse } from 'csv-parse/sync';
import { CSV } from '../../server/http/csv.ts';
import { NDJSON } from '../../server/http/request-body.ts';
import { textsIn } from './odd-answers.ts';
import { type OddWorld, SIMULATED } from './odd-world.ts';
import type { ApiOperation } from './openapi-fields.ts';

const MAX_UNITS = 40;
const MAX_IDS = 20;
const DAY_MS = 86_400_000;

export interface Shown {
  /** The texts in the answers of each operation. */
  readonly byOperation: ReadonlyMap<string, ReadonlySet<string>>;
  /** The texts in the exports, by operation and format. */
  readonly exports: ReadonlyMap<string, ReadonlySet<string>>;
  /** Answers with another status than 200. */
  readonly failures: readonly string[];
}

/**
 * Sends every GET of the documentation, with all pages, for the units, reservations and rollouts that exist, after the read models have
 * reached `position`. @throws Error for a path whose parameters it does not know
 */
export async function readEverything(world: OddWorld, position: number): Promise<Shown> {
  const byOperation = new Map<string, Set<string>>();
  const exports = new Map<string, Set<string>>();
  const failures: string[] = [];
  const reads = world.operations.filter(({ method, path }) => method === 'GET' && path.startsWith('/v1/'));
  for (const operation of reads) {
    const texts = new Set<string>();
    for (const params of await paramsFor(world, operation)) {
      for (const query of queriesFor(world, operation)) {
        for (const type of operation.answerTypes) {
          await readOne(operation, { params, query, type, position });
        }
      }
    }
    byOperation.set(operation.id, texts);

    async function readOne(
      operation: ApiOperation,
      read: { params: Record<string, string>; query: Record<string, string>; type: string; position: number },
    ): Promise<void> {
      const takes = (name: string) => operation.parameters.some((parameter) => parameter.name === name);
      for (let cursor: string | null = ''; cursor !== null; ) {
        const query = {
          ...read.query,
          ...(takes('minPosition') ? { minPosition: String(read.position) } : {}),
          ...(takes('limit') ? { limit: '500' } : {}),
          ...(cursor === '' ? {} : { cursor }),
        };
        const answer = await world.sendUntilAvailable(operation, {
          params: read.params,
          query,
          headers: { accept: read.type },
        });
        if (answer.status !== 200) {
          failures.push(
            `${operation.id} ${JSON.stringify(read.params)}: ${answer.status} ${answer.text.slice(0, 300)}`,
          );
          return;
        }
        if (read.type !== 'application/json') {
          exports.set(`${operation.id} ${read.type}`, exportedTexts(read.type, answer.text));
          return;
        }
        const page = JSON.parse(answer.text) as { nextCursor?: string | null };
        textsIn(page, texts);
        cursor = page.nextCursor ?? null;
      }
    }
  }
  return { byOperation, exports, failures };
}

/** The values of the path of an operation for everything that exists, up to a bound. */
async function paramsFor(world: OddWorld, { id, path }: ApiOperation): Promise<Record<string, string>[]> {
  const idsOf = async (list: string) =>
    (await world.everyItem(list)).slice(0, MAX_IDS).map((item) => ({ id: String(item.id) }));
  if (!path.includes('{')) return [{}];
  if (path === '/v1/units/{name}/config/versions/{version}') {
    const versions = await world.everyItem(`/v1/units/${SIMULATED}/config/versions`);
    return versions.slice(0, MAX_IDS).map(({ version }) => ({ name: SIMULATED, version: String(version) }));
  }
  if (path.startsWith('/v1/units/{name}')) {
    const units = (await world.everyItem('/v1/units')).map(({ name }) => ({ name: String(name) }));
    return [{ name: SIMULATED }, ...units.slice(-MAX_UNITS)];
  }
  if (path.startsWith('/v1/projections/{name}')) return [{ name: 'units' }, { name: 'event_log' }];
  for (const list of ['/v1/reservations', '/v1/config-rollouts', '/v1/dead-letters']) {
    if (path.startsWith(`${list}/{id}`)) return idsOf(list);
  }
  throw new Error(`There is no list of what ${id} (${path}) shows. Name it here.`);
}

function queriesFor(world: OddWorld, operation: ApiOperation): Record<string, string>[] {
  const base = { ...world.harmless(operation).query };
  if (operation.id !== 'getUnitState') return [base];
  // The past, which is folded from the event log, and the future, which is a forecast.
  return [
    { ...base, at: new Date().toISOString() },
    { ...base, at: new Date(Date.now() + DAY_MS).toISOString() },
  ];
}

function exportedTexts(type: string, content: string): Set<string> {
  const texts = new Set<string>();
  if (type === NDJSON) {
    for (const line of content.split('\n').filter((one) => one !== '')) textsIn(JSON.parse(line), texts);
    return texts;
  }
  if (type !== CSV) throw new Error(`Nothing reads exports of the type ${type}.`);
  const rows: Record<string, string>[] = parse(content, { columns: true });
  for (const row of rows) {
    textsIn(row, texts);
    if (row.data !== undefined) textsIn(JSON.parse(row.data), texts);
  }
  return texts;
}
