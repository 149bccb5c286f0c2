/**
 * Sends live commands to units, over HTTP or as NATS requests. A command is signed. A unit executes it once for each `commandId` and
 * refuses it after `expiresAt`, so that a repeat is idempotent. The times of a command are those of the unit's clock.
 */

import { Value } from '@sinclair/typebox/value';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { type Command, CommandAnswer, type UnsentCommand } from '../../domain/unit-protocol/commands.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { Nats } from '../nats/connection.ts';
import { unitCommandsSubject } from '../nats/subjects.ts';
import { errorMessage } from '../observability/error-message.ts';
import type { PlatformSigner } from '../unit-protocol/signatures.ts';
import { requestOverHttp } from './request-over-http.ts';

/** Default time within which a unit must answer. */
export const COMMAND_TIMEOUT_MS = 5_000;
/** The answer to a page of the list of reservations names up to a thousand rentals. */
const MAX_ANSWER_BYTES = 256 * 1024;

/** The unit did not answer, or its answer is invalid. The unit may have executed the command. */
export class UnitUnreachableError extends Error {
  override readonly name = 'UnitUnreachableError';
}

export interface UnitCommandClientOptions {
  readonly nats: Nats;
  readonly signer: PlatformSigner;
  /** The clock of a unit as the platform measured it, milliseconds since 1970. */
  readonly unitNowMs: (unit: string) => number;
  /** Called when a unit has answered: a proof that it is online. */
  readonly onAnswer: (unit: string) => void;
}

export class UnitCommandClient {
  readonly #options: UnitCommandClientOptions;

  constructor(options: UnitCommandClientOptions) {
    this.#options = options;
  }

  /** Sends a command, which expires after `ttlMs`, and waits for the answer. @throws UnitUnreachableError */
  async send(
    unit: RegisteredUnit,
    unsent: UnsentCommand,
    { ttlMs, timeoutMs = COMMAND_TIMEOUT_MS }: { readonly ttlMs: number; readonly timeoutMs?: number },
  ): Promise<CommandAnswer> {
    const { nats, signer, unitNowMs, onAnswer } = this.#options;
    // Another device may answer at the address of a unit whose credentials are revoked.
    if (unit.credentialsRevoked)
      throw new UnitUnreachableError(`the credentials of ${unit.name} are revoked; rotate them to reach the unit`);
    const nowMs = unitNowMs(unit.name);
    const command: Command = { ...unsent, expiresAt: toInstant(nowMs + ttlMs) };
    const body = JSON.stringify({ jws: await signer.command(unit.name, command, nowMs) });
    let text: string;
    try {
      text =
        unit.commandChannel === 'nats'
          ? await overNats(nats, unit.name, body, timeoutMs)
          : await overHttp(`http://${unit.address}/commands`, body, timeoutMs);
    } catch (error) {
      const channel = unit.commandChannel === 'nats' ? 'over NATS' : `over HTTP at ${unit.address}`;
      throw new UnitUnreachableError(
        `no answer from ${unit.name} ${channel}: ${errorMessage(error)}; check the unit and its network`,
        { cause: error },
      );
    }
    const answer = readAnswer(text);
    if (answer === undefined || answer.commandId !== command.commandId) {
      throw new UnitUnreachableError(
        `${unit.name} sent an invalid answer; check that its software follows docs/unit-protocol.md`,
      );
    }
    onAnswer(unit.name);
    return answer;
  }
}

async function overNats(nats: Nats, unit: string, body: string, timeoutMs: number): Promise<string> {
  const answer = await nats.request(unitCommandsSubject(unit), body, { timeoutMs });
  return new TextDecoder().decode(answer.data);
}

async function overHttp(url: string, body: string, timeoutMs: number): Promise<string> {
  const answer = await requestOverHttp(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    timeoutMs,
    maxBytes: MAX_ANSWER_BYTES,
  });
  return new TextDecoder().decode(answer.body);
}

function readAnswer(text: string): CommandAnswer | undefined {
  try {
    const answer: unknown = JSON.parse(text);
    return Value.Check(CommandAnswer, answer) ? answer : undefined;
  } catch {
    return undefined;
  }
}
