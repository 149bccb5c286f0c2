/**
 * The HTTP probe: `GET /ping` on a new connection, nonce and MAC checked.
 *
 * It speaks HTTP over `node:net` itself. `fetch` has 256 places for the whole process, and a socket of `Bun.connect` cannot
 * be given up while it connects: units that are gone would hold descriptors for minutes.
 */

import { connect } from 'node:net';
import { Value } from '@sinclair/typebox/value';
import { clockOffsetOfAnswerMs } from '../domain/clock.ts';
import { PingReply } from '../domain/commands.ts';
import { pingPath, pingReplyMac, sameMac } from '../platform/unit-protocol/ping.ts';
import { type HttpResponse, readResponse } from './http-response.ts';
import { OUTCOME, type Outcome, type SlotTarget, type UnitReply } from './tasks.ts';

/** Connections that one thread has open at a moment; what comes beyond is not sent. */
const MAX_CONNECTIONS = 4_000;
/** A time-out that fires this much late says that the thread stood still, not that the unit did not answer. */
const MAX_TIMER_LAG_MS = 200;
/** Errors that are ours, not the unit's: no descriptor, no port, no memory. */
const OWN_FAULTS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']);
const HTTP_OK = 200;

export interface Probe {
  readonly outcome: Outcome;
  readonly sentAtMs: number;
  /** NaN without an answer. */
  readonly rttMs: number;
  readonly reply?: UnitReply;
}

export interface ProberOptions {
  readonly timeoutMs: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** 32 hex letters, other ones each time. */
  readonly newNonce: () => string;
}

export class HttpProber {
  readonly #options: ProberOptions;
  #connections = 0;

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  /** Pings a unit once; never rejects. The time-out counts from now on, the response time from the request on. */
  async ping(target: SlotTarget): Promise<Probe> {
    if (this.#connections >= MAX_CONNECTIONS) return this.#without(OUTCOME.discarded);
    this.#connections += 1;
    try {
      return await this.#exchange(target);
    } finally {
      this.#connections -= 1;
    }
  }

  #exchange(target: SlotTarget): Promise<Probe> {
    const { timeoutMs, now, monotonic, newNonce } = this.#options;
    const { host, port } = target;
    const nonce = newNonce();
    const startedMs = monotonic();
    return new Promise((resolve) => {
      let received: Buffer = Buffer.alloc(0);
      let sentMs = startedMs;
      let sentAtMs = now();
      const socket = connect({ host, port, noDelay: true });
      const finish = (probe: Omit<Probe, 'sentAtMs'>) => {
        clearTimeout(timer);
        socket.destroy();
        resolve({ ...probe, sentAtMs });
      };
      const timer = setTimeout(() => {
        const late = monotonic() - startedMs - timeoutMs > MAX_TIMER_LAG_MS;
        finish({ outcome: late ? OUTCOME.discarded : OUTCOME.missed, rttMs: Number.NaN });
      }, timeoutMs);
      const read = (ended: boolean) => {
        const rttMs = monotonic() - sentMs;
        const response = readResponse(received, ended);
        if (response !== 'more') finish(judge(target, nonce, response, { sentAtMs, rttMs }));
      };
      socket.on('connect', () => {
        sentAtMs = now();
        sentMs = monotonic();
        socket.write(requestText(target, nonce, sentAtMs));
      });
      socket.on('data', (bytes: Buffer) => {
        received = received.length === 0 ? bytes : Buffer.concat([received, bytes]);
        read(false);
      });
      socket.on('close', () => read(true));
      socket.on('error', (error) => {
        const ours = 'code' in error && OWN_FAULTS.has(String(error.code));
        finish({ outcome: ours ? OUTCOME.discarded : OUTCOME.missed, rttMs: Number.NaN });
      });
    });
  }

  #without(outcome: Outcome): Probe {
    return { outcome, sentAtMs: this.#options.now(), rttMs: Number.NaN };
  }
}

function requestText({ unit, host, port, key, recorded }: SlotTarget, nonce: string, clockMs: number): string {
  const path = pingPath(key, { unit, nonce, clockMs, ...(recorded === undefined ? {} : { recorded }) });
  const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  return `GET ${path} HTTP/1.1\r\nHost: ${authority}\r\nAccept: application/json\r\nConnection: close\r\n\r\n`;
}

/** Whether an answer is one, and what it says. */
function judge(
  { unit, key }: SlotTarget,
  nonce: string,
  response: HttpResponse | 'malformed',
  { sentAtMs, rttMs }: { readonly sentAtMs: number; readonly rttMs: number },
): Omit<Probe, 'sentAtMs'> {
  if (response === 'malformed' || response.status !== HTTP_OK) return { outcome: OUTCOME.missed, rttMs: Number.NaN };
  const answer = parseJson(response.body);
  if (!Value.Check(PingReply, answer) || answer.unit !== unit || !('mac' in answer) || typeof answer.mac !== 'string') {
    return { outcome: OUTCOME.forged, rttMs: Number.NaN };
  }
  // The MAC is over the nonce that was sent: an answer to another ping does not pass.
  if (!sameMac(answer.mac, pingReplyMac(key, nonce, answer))) return { outcome: OUTCOME.forged, rttMs: Number.NaN };
  const { epoch, lastSeq, configurationHash, time } = answer;
  const clockOffsetMs = clockOffsetOfAnswerMs(time, sentAtMs, rttMs);
  const clock = clockOffsetMs === undefined ? {} : { clockOffsetMs };
  return { outcome: OUTCOME.answered, rttMs, reply: { epoch, lastSeq, configurationHash, ...clock } };
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
}
