/**
 * A generator of pushes, of its own process: plays units, each with a connection and credentials of its own and one batch
 * in flight, as the unit protocol says. Everything that is pushed is made before the clock starts.
 *
 * Reads its task from the file that its argument names, prints `ready`, starts when something arrives on standard input,
 * and prints its findings as JSON.
 */

import pLimit from 'p-limit';
import { seededRandom } from '../support/random.ts';
import { Latencies, type LatencySummary } from './latencies.ts';
import { UnitConnection, type UnitIdentity } from './unit-connection.ts';
import { batchTexts, unitLog } from './unit-log.ts';

export interface PushTask {
  readonly natsUrl: string;
  readonly units: readonly UnitIdentity[];
  readonly eventsPerUnit: number;
  readonly batchEvents: number;
  /** They were cut off: they connect once the clock runs, and push after a random part of a second. */
  readonly returning: boolean;
  readonly seed: number;
}

/** The summary is that of pushes, from the request to JetStream's acknowledgement. */
export interface PushFindings extends LatencySummary {
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly acknowledgedAtMs: number;
  /** Pushes that were refused or not answered, and sent again. */
  readonly repeated: number;
  readonly cpuS: number;
  readonly peakRssMb: number;
}

/** One machine plays them all: more would only wait for one another in its listen queue. */
const MAX_CONNECTING = 256;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 15_000;
const RETURN_SPREAD_MS = 1_000;
const HEARTBEAT_INTERVAL_MS = 30_000;
const MIB_KIB = 1024;

interface SimulatedPusher {
  readonly unit: UnitIdentity;
  readonly epoch: string;
  readonly batches: readonly Buffer[];
}

async function generate(task: PushTask, waitForStart: () => Promise<void>): Promise<PushFindings> {
  const { natsUrl, units, eventsPerUnit, batchEvents, returning } = task;
  const random = seededRandom(task.seed).next;
  const connectLimit = pLimit(MAX_CONNECTING);
  const latencies = new Latencies();
  let repeated = 0;
  const pushers = units.map((unit): SimulatedPusher => {
    const epoch = Bun.randomUUIDv7();
    const texts = batchTexts(unit.name, epoch, unitLog(eventsPerUnit, Date.now()), batchEvents);
    return { unit, epoch, batches: texts.map((text) => Buffer.from(text)) };
  });
  const connect = ({ unit }: SimulatedPusher) => connectLimit(() => UnitConnection.connect(natsUrl, unit));
  const connections = returning ? undefined : await Promise.all(pushers.map(connect));
  console.log('ready');
  await waitForStart();

  const heartbeats: ReturnType<typeof setTimeout>[] = [];
  const push = async (pusher: SimulatedPusher, index: number): Promise<UnitConnection> => {
    const connection = connections?.[index] ?? (await connect(pusher));
    if (returning) {
      const beat = () => connection.heartbeat(statusOf(pusher, eventsPerUnit));
      heartbeats.push(setTimeout(beat, random() * HEARTBEAT_INTERVAL_MS));
      await Bun.sleep(random() * RETURN_SPREAD_MS);
    }
    for (const batch of pusher.batches) {
      for (let failures = 0; ; failures += 1) {
        const sentMs = performance.now();
        const refusal = await connection.push(batch);
        if (refusal === undefined) {
          latencies.add(performance.now() - sentMs);
          break;
        }
        repeated += 1;
        const waitMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures);
        await Bun.sleep(waitMs * (0.5 + random() / 2));
      }
    }
    return connection;
  };
  const cpu = process.cpuUsage();
  const startedAtMs = Date.now();
  const used = await Promise.all(pushers.map(push));
  const acknowledgedAtMs = Date.now();
  const { user, system } = process.cpuUsage(cpu);
  for (const timer of heartbeats) clearTimeout(timer);
  for (const connection of used) connection.close();
  const peakRssMb = process.resourceUsage().maxRSS / MIB_KIB;
  return { ...latencies.summary(), startedAtMs, acknowledgedAtMs, repeated, cpuS: (user + system) / 1e6, peakRssMb };
}

function statusOf({ unit, epoch }: SimulatedPusher, lastSeq: number): string {
  const time = new Date().toISOString();
  const hashes = { bootId: '0011223344556677', configurationHash: '0'.repeat(64) };
  return JSON.stringify({ unit: unit.name, ...hashes, uptimeS: 1, epoch, lastSeq, time });
}

const task = (await Bun.file(process.argv[2] ?? '').json()) as PushTask;
const input = Bun.stdin.stream().getReader();
console.log(JSON.stringify(await generate(task, async () => void (await input.read()))));
process.exit(0);
