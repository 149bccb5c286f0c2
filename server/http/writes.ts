/** The way of writing of capabilities that have no operations yet. */

import { Type } from '@sinclair/typebox';
import type { Principal } from '../../platform/auth/tokens.ts';
import type { Answer, IdempotentWrites } from './idempotent-writes.ts';

export interface Write {
  readonly principal: Principal;
  readonly route: string;
  readonly key: string | undefined;
  readonly body: unknown;
}

interface Settable {
  status?: number | string;
  headers: Record<string, string | number | readonly string[] | undefined>;
}

export class Writes {
  readonly #writes: IdempotentWrites;

  constructor(writes: IdempotentWrites) {
    this.#writes = writes;
  }

  async run<T>(
    { principal, route, key, body }: Write,
    set: Settable,
    run: (commandId: string) => Promise<Answer<T>>,
  ): Promise<T> {
    const request = { caller: principal, route, key, content: body ?? {} };
    const answered = await this.#writes.run(request, set.headers, run);
    set.status = answered.code;
    return answered.response;
  }
}

export const IdempotencyHeaders = Type.Object({ 'idempotency-key': Type.Optional(Type.String()) });
