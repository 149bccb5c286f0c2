/**
 * Serves the pings of a fleet that arrive as datagrams. One socket on all addresses of a port serves every unit, since a socket for
 * each unit would take too many file descriptors. The socket cannot see to which address a datagram was sent; the hash of a name in
 * the datagram identifies the unit. A sender outside this machine gets no reply.
 */

import type { Log } from '../../platform/observability/log.ts';
import { nameHash, pingedUnit } from '../../platform/unit-protocol/datagram.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { ListenError } from './listen-error.ts';
import type { UnitRequestHandler } from './request-handler.ts';

const ALL_ADDRESSES = '0.0.0.0';
const LOOPBACK_PREFIX = '127.';

export interface UdpListenerDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Whether the platform pings these units by UDP. If not, the fleet starts without a UDP port that is in use. */
  readonly isProbe: boolean;
}

interface Addressee {
  readonly unit: EmulatedUnit;
  readonly requests: UnitRequestHandler;
}

/**
 * Listens on every UDP port of the units: one, unless each unit has its own port.
 * @throws ListenError when `isProbe` and a port is taken
 */
export async function listenForDatagrams(
  members: readonly Addressee[],
  deps: UdpListenerDependencies,
): Promise<{ close(): void }> {
  const byNameHash = new Map(members.map((member) => [nameHash(member.unit.name).toString('hex'), member]));
  const ports = new Set(members.map(({ unit }) => Number(unit.address.split(':')[1])));
  const sockets: { close(): void }[] = [];
  const close = () => {
    for (const socket of sockets) socket.close();
  };
  for (const port of ports) {
    try {
      sockets.push(await listen(port, byNameHash, deps));
    } catch (error) {
      const failure = new ListenError(`${ALL_ADDRESSES}:${port} (UDP)`, error);
      if (deps.isProbe) {
        close();
        throw failure;
      }
      deps.log.warn(
        'The simulated units do not answer pings by UDP. The platform pings this fleet over another channel.',
        {
          error: failure,
        },
      );
    }
  }
  return { close };
}

async function listen(
  port: number,
  members: ReadonlyMap<string, Addressee>,
  deps: UdpListenerDependencies,
): Promise<{ close(): void }> {
  return Bun.udpSocket({
    hostname: ALL_ADDRESSES,
    port,
    socket: {
      data: (socket, datagram, senderPort, sender) => {
        const member = sender.startsWith(LOOPBACK_PREFIX) ? members.get(pingedUnit(datagram) ?? '') : undefined;
        if (member === undefined) return;
        receive(member, datagram, deps, (reply) => {
          if (!socket.closed) socket.send(reply, senderPort, sender);
        });
      },
      error: (_, error) => deps.log.debug('A datagram could not be sent or received.', { error }),
    },
  });
}

/** Answers a datagram. The faults of the network apply to the request and to the reply independently. */
function receive(
  { unit, requests }: Addressee,
  datagram: Buffer,
  { timers, random }: UdpListenerDependencies,
  send: (reply: Buffer) => void,
): void {
  if (unit.isOffline || isMessageLost(unit.faults, random)) return;
  const waitMs = networkDelayMs(unit.faults, random) / 2;
  const sendUnlessLost = (reply: Buffer) => {
    if (!unit.isOffline && !isMessageLost(unit.faults, random)) send(reply);
  };
  if (waitMs === 0) {
    const reply = requests.handleDatagram(datagram);
    if (reply !== undefined) sendUnlessLost(reply);
    return;
  }
  // Bun does not say whether it reuses the buffer after the callback, so a delayed request needs a copy.
  const copy = Buffer.from(datagram);
  timers.after(waitMs, () => {
    const reply = requests.handleDatagram(copy);
    if (reply !== undefined) timers.after(waitMs, () => sendUnlessLost(reply));
  });
}
