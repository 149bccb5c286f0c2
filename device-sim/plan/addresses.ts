/**
 * The addresses of a fleet: each unit has its own address in 127.0.0.0/8. On a system that has only 127.0.0.1 (macOS), each unit
 * has its own port instead.
 */

import { freePort } from '../../platform/process/ports.ts';

const FIRST_BLOCK = 64;
const BLOCK_SIZE = 256;
const LOOPBACK = '127.0.0.1';

export interface AddressPlan {
  /** host:port of the unit with this index in the fleet. */
  address(index: number): string;
}

/**
 * @param port the common port of all units, or the first port when each unit has its own; 0 for a free one
 * @param isFixed whether units with this port are registered at the platform. A fixed port is kept even when it is in use;
 *   otherwise a free port replaces a port in use
 */
export function planAddresses(port: number, isFixed: boolean): AddressPlan {
  const isUsable = isFixed || (port !== 0 && tryListening(loopbackAddress(0), port) !== 'taken');
  const chosenPort = isUsable ? port : freePort();
  const hasOwnAddresses = tryListening(loopbackAddress(0), chosenPort) !== 'forbidden';
  return {
    address: (index) =>
      hasOwnAddresses ? `${loopbackAddress(index)}:${chosenPort}` : `${LOOPBACK}:${chosenPort + index}`,
  };
}

/** 127.64.0.1, 127.64.0.2, … for the indexes 0, 1, … */
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
