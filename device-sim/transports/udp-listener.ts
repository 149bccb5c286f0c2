/**
 * The datagrams of a fleet: one socket on all addresses of a port, since a socket a unit would be too many. Such a socket
 * cannot see which address was asked: the datagram itself says which unit is meant. Whoever is not on this machine gets no
 * answer.
 */

import type { Log } from '../../platform/observability/log.ts';
import { nameHash, pingedUnit } from '../../platform/unit-protocol/datagram.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/clock.ts';
import type { Random } from '../environment/random.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { ListenError } from './http-listener.ts';
import type { UnitRequestHandler } from './request-handler.ts';

const ALL_ADDRESSES = '0.0.0.0';
const LOOPBACK_PREFIX = '127.';

export interface UdpListenerDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Whether the platform pings these units by datagrams: otherwise a port that is taken is only worth a warning. */
  readonly isProbe: boolean;
}

interface Addressee {
  readonly unit: EmulatedUnit;
  readonly answers: UnitRequestHandler;
}

/** Listens on every port that the units have, mostly one. @throws ListenError when `isProbe` and a port is taken */
export async function listenForDatagrams(
  members: readonly Addressee[],
  deps: UdpListenerDependencies,
): Promise<{ close(): void }> {
  const byHash = new Map(members.map((member) => [nameHash(member.unit.name).toString('hex'), member]));
  const ports = new Set(members.map(({ unit }) => Number(unit.address.split(':')[1])));
  const sockets: { close(): void }[] = [];
  const close = () => {
    for (const socket of sockets) socket.close();
  };
  for (const port of ports) {
    try {
      sockets.push(await listen(port, byHash, deps));
    } catch (error) {
      const failure = new ListenError(`${ALL_ADDRESSES}:${port} (UDP)`, error);
      if (deps.isProbe) {
        close();
        throw failure;
      }
      deps.log.warn('no unit answers datagrams', { error: failure });
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
      error: (_, error) => deps.log.debug('a datagram could not be sent or received', { error }),
    },
  });
}

/** What the network and the unit make of a request. Loss of the reply alone is what makes a path one-way. */
function receive(
  { unit, answers }: Addressee,
  datagram: Buffer,
  { timers, random }: UdpListenerDependencies,
  send: (reply: Buffer) => void,
): void {
  if (unit.faults.offline || isMessageLost(unit.faults, random)) return;
  const waitMs = networkDelayMs(unit.faults, random) / 2;
  const sendBack = (reply: Buffer) => {
    if (!unit.faults.offline && !isMessageLost(unit.faults, random)) send(reply);
  };
  if (waitMs === 0) {
    const reply = answers.handleDatagram(datagram);
    if (reply !== undefined) sendBack(reply);
    return;
  }
  // Whose buffer it is after this turn is not said anywhere.
  const kept = Buffer.from(datagram);
  timers.after(waitMs, () => {
    const reply = answers.handleDatagram(kept);
    if (reply !== undefined) timers.after(waitMs, () => sendBack(reply));
  });
}
