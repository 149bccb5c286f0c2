/** Sends a unit the list of its open reservations, and records which of them the unit accepted. */

import { findReservation, type Reservation } from '../../../domain/booking/reservation.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import type { SyncedReservation } from '../../../domain/unit-protocol/commands.ts';
import type { ReservationSecrets } from '../../../platform/credentials/reservation-secrets.ts';
import type { RetrySchedule } from '../../../platform/nats/work-failures.ts';
import type { WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

const SYNC_TTL_MS = 30_000;
/** After the last attempt the job ends. The next change of a reservation, or the unit coming online, adds a new job. */
const SYNC_RETRIES: RetrySchedule = { firstMs: 5_000, maxMs: 15_000, maxAttempts: 6, whenExhausted: 'done' };

export interface ReservationSyncOptions {
  readonly decider: UnitDecider;
  readonly commands: UnitCommandClient;
  readonly secrets: ReservationSecrets;
  readonly newId: () => string;
  readonly log: Log;
}

export class ReservationSync {
  readonly #options: ReservationSyncOptions;

  constructor(options: ReservationSyncOptions) {
    this.#options = options;
  }

  /** Sends all confirmed and active reservations of an online unit. The reactor adds a job for an offline unit when it comes online. */
  async syncUnit(unit: string): Promise<WorkResult> {
    const { decider, commands, newId } = this.#options;
    const state = await decider.getState(unit);
    if (state.registry.status !== 'registered' || state.connectivity.status !== 'online') return 'done';
    const reservations = state.booking.open.filter(isKeptByUnit);
    const syncReservations = {
      version: state.sequences.booking,
      reservations: reservations.map((reservation) => this.#synced(reservation)),
    };
    try {
      const command = { commandId: newId(), syncReservations };
      const {
        status,
        reason,
        rejected = [],
      } = await commands.send(state.registry, command, {
        ttlMs: SYNC_TTL_MS,
      });
      if (status !== 'done') {
        const why = reason === undefined ? status : `${status}, ${reason}`;
        return { retry: SYNC_RETRIES, reason: `Unit ${unit} did not accept its list of reservations (${why}).` };
      }
      await this.#recordAnswer(unit, reservations, new Set(rejected.map(({ reservationId }) => reservationId)));
      return 'done';
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
      return { retry: SYNC_RETRIES, reason: error.message };
    }
  }

  /** Records the accepted reservations. A rejected one stays `pending` until an event of the unit settles it. */
  async #recordAnswer(unit: string, sent: readonly Reservation[], rejected: ReadonlySet<string>): Promise<void> {
    const meta = { commandId: this.#options.newId(), actor: `unit:${unit}`, source: '/lockfleet/server' };
    await this.#options.decider.decide(unit, 'booking', meta, (state) =>
      sent.filter(({ id }) => !rejected.has(id)).flatMap((reservation) => acceptReservation(state, reservation)),
    );
  }

  #synced(reservation: Reservation): SyncedReservation {
    const { id, locker, size, from, until } = reservation;
    return { reservationId: id, locker, size, from, until, accessCode: this.#options.secrets.accessCode(reservation) };
  }
}

function isKeptByUnit({ status }: Reservation): boolean {
  return status === 'confirmed' || status === 'active';
}

/** Decides that the unit accepted a reservation, unless the reservation changed after it was sent. */
function acceptReservation(state: UnitState, sent: Reservation): EventDraft[] {
  const current = findReservation(state.booking, sent.id);
  if (current === undefined || current.unitAck !== 'pending' || current.locker !== sent.locker) return [];
  if (!isKeptByUnit(current)) return [];
  return [{ type: 'ReservationAccepted', locker: current.locker, data: { reservationId: sent.id } }];
}
