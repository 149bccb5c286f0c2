/**
 * A load generator of its own process: keep-alive connections, one request at a time on each, over loopback only.
 * Reads its task as JSON from standard input and writes its findings as JSON to standard output.
 *
 * It ends after its duration, or earlier at SIGTERM.
 *
 * Closed loop: every client sends as soon as it has its answer. Open loop: requests are due at a fixed rate, and a
 * response time counts from the moment when the request was due, so that a stalled server cannot hide its stall.
 */

import { seededRandom } from '../support/random.ts';
import { Latencies, type LatencySummary } from './latencies.ts';
import { READY_LINE } from './measuring-process.ts';

export interface LoadTask {
  readonly port: number;
  /** Authorization header of each request, dealt round robin. */
  readonly tokens: readonly string[];
  readonly units: readonly string[];
  readonly lockers: readonly string[];
  readonly clients: number;
  readonly durationMs: number;
  /** Requests a second; undefined for a closed loop. */
  readonly rate?: number;
  readonly seed: number;
}

export interface LoadFindings extends LatencySummary {
  readonly perSecond: number;
  /** Answers by status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** CPU seconds of the generator itself. */
  readonly cpuS: number;
  /** Of an open loop: how many were due when no client was free. */
  readonly late: number;
}

/** A generator that is stopped goes on until it has this number of answers, because percentiles need answers. */
const MIN_ANSWERS = 10;
const MAX_REQUESTS = 2_000_000;
const MS_PER_MINUTE = 60_000;
const DAYS_AHEAD = 300;
const PERIOD_MINUTES = 15;

export async function generate(task: LoadTask): Promise<LoadFindings> {
  const random = seededRandom(task.seed).next;
  const latencies = new Latencies();
  const statuses: Record<string, number> = {};
  let sent = 0;
  let late = 0;
  const clients = await Promise.all(Array.from({ length: task.clients }, () => HttpClient.connect(task.port)));
  const cpu = process.cpuUsage();
  const start = performance.now();
  const end = start + task.durationMs;
  let stopped = false;
  process.once('SIGTERM', () => {
    stopped = true;
  });
  console.log(READY_LINE);
  const over = (now: number) => (stopped && latencies.count >= MIN_ANSWERS) || now >= end;
  const one = async (client: HttpClient, due: number) => {
    sent += 1;
    const status = await client.send(reservation(task, random, sent));
    latencies.add(performance.now() - due);
    statuses[status] = (statuses[status] ?? 0) + 1;
  };
  if (task.rate === undefined) {
    await Promise.all(
      clients.map(async (client) => {
        for (let now = performance.now(); !over(now) && sent < MAX_REQUESTS; now = performance.now())
          await one(client, now);
      }),
    );
  } else {
    late = await openLoop(clients, task.rate, start, over, one);
  }
  const elapsedS = (performance.now() - start) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  for (const client of clients) client.close();
  return {
    ...latencies.summary(),
    perSecond: latencies.count / elapsedS,
    statuses,
    cpuS: (user + system) / 1e6,
    late,
  };
}

async function openLoop(
  clients: readonly HttpClient[],
  rate: number,
  start: number,
  over: (now: number) => boolean,
  one: (client: HttpClient, due: number) => Promise<void>,
): Promise<number> {
  const free = [...clients];
  const waiting: number[] = [];
  const pending = new Set<Promise<void>>();
  let late = 0;
  let issued = 0;
  const run = (client: HttpClient, due: number) => {
    const request = one(client, due).then(() => {
      pending.delete(request);
      const next = waiting.shift();
      if (next === undefined) free.push(client);
      else run(client, next);
    });
    pending.add(request);
  };
  for (let now = performance.now(); !over(now); now = performance.now()) {
    for (; start + (issued * 1_000) / rate <= now; issued += 1) {
      const due = start + (issued * 1_000) / rate;
      const client = free.pop();
      if (client !== undefined) run(client, due);
      else {
        late += 1;
        waiting.push(due);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (pending.size > 0) await Promise.all(pending);
  return late;
}

function reservation(task: LoadTask, random: () => number, index: number): string {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const firstSlot = Math.ceil(Date.now() / (PERIOD_MINUTES * MS_PER_MINUTE)) + 4;
  const slots = (DAYS_AHEAD * 24 * 60) / PERIOD_MINUTES;
  const fromMs = (firstSlot + Math.floor(random() * slots)) * PERIOD_MINUTES * MS_PER_MINUTE;
  const from = new Date(fromMs).toISOString();
  const until = new Date(fromMs + PERIOD_MINUTES * MS_PER_MINUTE).toISOString();
  const body = JSON.stringify({ unit: pick(task.units), locker: pick(task.lockers), from, until });
  return (
    'POST /v1/reservations/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n' +
    `Authorization: ${task.tokens[index % task.tokens.length]}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  );
}

/** One keep-alive connection with one request at a time. One that the server closed because it was idle is opened again. */
class HttpClient {
  readonly #port: number;
  #socket: Bun.Socket | undefined;
  #received = '';
  #answered: PromiseWithResolvers<number> | undefined;

  private constructor(port: number) {
    this.#port = port;
  }

  static async connect(port: number): Promise<HttpClient> {
    const client = new HttpClient(port);
    client.#socket = await client.#open();
    return client;
  }

  async send(request: string): Promise<number> {
    this.#socket ??= await this.#open();
    this.#answered = Promise.withResolvers<number>();
    this.#received = '';
    this.#socket.write(request);
    return this.#answered.promise;
  }

  close(): void {
    this.#answered = undefined;
    this.#socket?.end();
  }

  #open(): Promise<Bun.Socket> {
    return Bun.connect({
      hostname: '127.0.0.1',
      port: this.#port,
      socket: {
        data: (_, chunk) => this.#receive(chunk.toString('latin1')),
        close: () => {
          // To end it once more would keep the process busy for ever.
          this.#socket = undefined;
          this.#answered?.reject(new Error('the server closed the connection'));
        },
      },
    });
  }

  #receive(chunk: string): void {
    this.#received += chunk;
    const headEnd = this.#received.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    const head = this.#received.slice(0, headEnd);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    if (this.#received.length >= headEnd + 4 + length) this.#answered?.resolve(Number(head.slice(9, 12)));
  }
}

if (import.meta.main) {
  const task = (await Bun.stdin.json()) as LoadTask;
  console.log(JSON.stringify(await generate(task)));
}
