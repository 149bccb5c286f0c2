/**
 * A process that answers HTTP pings of many thousand units: one listener on all loopback addresses, which finds the unit by the
 * address of the request. A listener and an object for each unit would cost more than the pings that the benchmark measures.
 * It reads its task as JSON from the first line of standard input, and prints the port at which it listens.
 */

import { pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';

export interface HttpUnitsTask {
  /** A file with the name, the key (hex) and the address of a unit on each line. */
  readonly file: string;
}

interface Unit {
  readonly name: string;
  readonly key: Uint8Array;
}

const IDLE_TIMEOUT_S = 60;
const FORBIDDEN = 403;
const SAID = {
  bootId: '00'.repeat(8),
  uptimeS: 1,
  configurationHash: '00'.repeat(32),
  epoch: '018f0000-0000-7000-8000-000000000001',
  lastSeq: 0,
} as const;

for await (const line of console) start(await readUnits(JSON.parse(line) as HttpUnitsTask));
process.exit(0);

/** By their addresses. */
async function readUnits({ file }: HttpUnitsTask): Promise<Map<string, Unit>> {
  const lines = (await Bun.file(file).text()).trimEnd().split('\n');
  return new Map(
    lines.map((line) => {
      const [name = '', key = '', ip = ''] = line.split(' ');
      return [ip, { name, key: Buffer.from(key, 'hex') }];
    }),
  );
}

function start(units: ReadonlyMap<string, Unit>): void {
  const server = Bun.serve({
    hostname: '0.0.0.0',
    port: 0,
    idleTimeout: IDLE_TIMEOUT_S,
    fetch(request) {
      const { hostname, searchParams } = new URL(request.url);
      return answer(units.get(hostname), searchParams);
    },
  });
  console.log(server.port);
}

function answer(unit: Unit | undefined, query: URLSearchParams): Response {
  const [nonce, mac] = [query.get('nonce') ?? '', query.get('mac') ?? ''];
  const asked = { unit: unit?.name ?? '', nonce, clockMs: Number(query.get('clock')) };
  if (unit === undefined || !sameMac(mac, pingMac(unit.key, asked))) return new Response(null, { status: FORBIDDEN });
  const reply = { unit: unit.name, ...SAID, time: new Date().toISOString() };
  return Response.json({ ...reply, nonce, mac: pingReplyMac(unit.key, nonce, reply) });
}
