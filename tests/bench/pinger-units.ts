/**
 * A process that answers UDP pings of up to 300,000 units: a few sockets on all loopback addresses, which find the unit by the
 * hash of its name, and typed arrays instead of an object for each unit, so that the benchmark measures the pinger and not this
 * process. It reads its task as JSON from the first line of standard input and a command from each further line, and prints
 * `ready`.
 */

import {
  encodePingReply,
  isSealed,
  nameHash,
  PING_DATAGRAM_BYTES,
  pingedUnit,
  REPLY_AT,
  REQUEST_AT,
  seal,
  writeU64,
} from '../../platform/unit-protocol/datagram.ts';

export interface UnitsTask {
  /** A file with the name and the key (hex) of a unit on each line. */
  readonly file: string;
  /** Where they listen: a socket has room for few hundred datagrams while the process is busy. */
  readonly ports: readonly number[];
}

/** From now on the units from `from` to before `to`, in the order of the file, are dead or not, or answer late. */
export interface UnitsCommand {
  readonly from: number;
  readonly to: number;
  readonly isDead?: boolean;
  /** How late unit number n answers: n modulo this, in milliseconds. 0: at once. */
  readonly delaysMs?: number;
}

const KEY_BYTES = 32;
const EPOCH = '018f0000-0000-7000-8000-000000000001';
const TICK_MS = 1;
const US_PER_MS = 1_000;

interface Late {
  readonly dueMs: number;
  readonly receivedMs: number;
  readonly unit: number;
  readonly nonce: Buffer;
  readonly port: number;
  readonly address: string;
}

class Units {
  readonly #indexes = new Map<string, number>();
  readonly #keys: Buffer;
  readonly #isDead: Uint8Array;
  readonly #delaysMs: Float64Array;
  readonly #reply: Buffer;
  readonly #key = Buffer.alloc(KEY_BYTES);
  readonly #late: Late[] = [];

  constructor(lines: readonly string[]) {
    this.#keys = Buffer.alloc(lines.length * KEY_BYTES);
    this.#isDead = new Uint8Array(lines.length);
    this.#delaysMs = new Float64Array(lines.length);
    for (const [index, line] of lines.entries()) {
      const [name = '', key = ''] = line.split(' ');
      this.#indexes.set(nameHash(name).toString('hex'), index);
      this.#keys.write(key, index * KEY_BYTES, 'hex');
    }
    const said = { flags: 0, bootId: '00'.repeat(8), uptimeS: 1, configurationHash: '00'.repeat(8) };
    this.#reply = encodePingReply(this.#key, Buffer.alloc(16), { ...said, epoch: EPOCH, lastSeq: 0, clockMs: 0 });
  }

  obey({ from, to, isDead, delaysMs }: UnitsCommand): void {
    for (let unit = from; unit < to; unit += 1) {
      if (isDead !== undefined) this.#isDead[unit] = Number(isDead);
      if (delaysMs !== undefined) this.#delaysMs[unit] = delaysMs === 0 ? 0 : unit % delaysMs;
    }
  }

  take(
    request: Buffer,
    port: number,
    address: string,
    send: (reply: Buffer, port: number, address: string) => void,
  ): void {
    const unit = this.#indexes.get(pingedUnit(request) ?? '');
    if (unit === undefined || this.#isDead[unit] === 1) return;
    this.#key.set(this.#keys.subarray(unit * KEY_BYTES, (unit + 1) * KEY_BYTES));
    if (request.length !== PING_DATAGRAM_BYTES || !isSealed(this.#key, request)) return;
    const delayMs = this.#delaysMs[unit] ?? 0;
    const nonce = request.subarray(REQUEST_AT.nonce, REQUEST_AT.nonce + 16);
    if (delayMs === 0) {
      send(this.#answer(unit, nonce, 0), port, address);
      return;
    }
    const receivedMs = performance.now();
    this.#late.push({ dueMs: receivedMs + delayMs, receivedMs, unit, nonce: Buffer.from(nonce), port, address });
  }

  /** Sends what is due. Each says as its last event how late it is indeed, in microseconds. */
  sendLate(send: (reply: Buffer, port: number, address: string) => void): void {
    const nowMs = performance.now();
    let left = 0;
    for (const late of this.#late) {
      if (late.dueMs > nowMs) {
        this.#late[left] = late;
        left += 1;
        continue;
      }
      const delayUs = Math.round((performance.now() - late.receivedMs) * US_PER_MS);
      send(this.#answer(late.unit, late.nonce, delayUs), late.port, late.address);
    }
    this.#late.length = left;
  }

  #answer(unit: number, nonce: Buffer, lastSeq: number): Buffer {
    const reply = this.#reply;
    nonce.copy(reply, REPLY_AT.nonce);
    writeU64(reply, lastSeq, REPLY_AT.lastSeq);
    writeU64(reply, Date.now(), REPLY_AT.clock);
    this.#key.set(this.#keys.subarray(unit * KEY_BYTES, (unit + 1) * KEY_BYTES));
    return seal(this.#key, reply);
  }
}

const decoder = new TextDecoder();
let units: Units | undefined;
let rest = '';
for await (const chunk of Bun.stdin.stream()) {
  const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
  rest = lines.pop() ?? '';
  for (const line of lines) {
    if (units === undefined) units = await start(JSON.parse(line) as UnitsTask);
    else units.obey(JSON.parse(line) as UnitsCommand);
  }
}
process.exit(0);

async function start({ file, ports }: UnitsTask): Promise<Units> {
  const started = new Units((await Bun.file(file).text()).trimEnd().split('\n'));
  const open = (port: number) =>
    Bun.udpSocket({
      hostname: '0.0.0.0',
      port,
      binaryType: 'buffer',
      socket: {
        data: (from, request, sender, address) => {
          started.take(request, sender, address, (reply, ...to) => from.send(reply, ...to));
        },
        error: () => undefined,
      },
    });
  const [first] = await Promise.all(ports.map(open));
  setInterval(() => started.sendLate((reply, ...to) => first?.send(reply, ...to)), TICK_MS);
  console.log('ready');
  return started;
}
