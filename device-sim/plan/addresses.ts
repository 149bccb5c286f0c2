/** Which address each unit has: one of its own in 127.0.0.0/8, or a port of its own where that is not allowed (macOS). */

import { freePort } from '../../platform/process/ports.ts';

const FIRST_BLOCK = 64;
const BLOCK_SIZE = 256;
const LOOPBACK = '127.0.0.1';

export interface AddressPlan {
  /** host:port of the unit with this number in the fleet. */
  address(index: number): string;
}

/**
 * `port`: the common port of all units, or the first of them; another is chosen when it is 0 or taken, unless it is
 * `settled`: an address, once given out, is kept, since the platform knows it.
 */
export function planAddresses(port: number, settled: boolean): AddressPlan {
  const usable = settled || (port !== 0 && tryListening(loopbackAddress(0), port) !== 'taken');
  const wanted = usable ? port : freePort();
  const ownAddresses = tryListening(loopbackAddress(0), wanted) !== 'forbidden';
  return {
    address: (index) => (ownAddresses ? `${loopbackAddress(index)}:${wanted}` : `${LOOPBACK}:${wanted + index}`),
  };
}

/** 127.64.0.1, 127.64.0.2, … */
export function loopbackAddress(index: number): string {
  const number = index + 1;
  const block = FIRST_BLOCK + Math.floor(number / BLOCK_SIZE ** 2);
  return `127.${block}.${Math.floor(number / BLOCK_SIZE) % BLOCK_SIZE}.${number % BLOCK_SIZE}`;
}

function tryListening(hostname: string, port: number): 'free' | 'taken' | 'forbidden' {
  try {
    Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
    return 'free';
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EADDRINUSE' ? 'taken' : 'forbidden';
  }
}
