import { errorMessage } from '../../platform/observability/error-message.ts';

/** The simulator cannot listen on the address of a unit, usually because another process does. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code: string | undefined;

  constructor(address: string, cause: unknown) {
    super(
      `The simulator cannot listen on ${address}: ${errorMessage(cause)}. Stop the program that uses the address, or choose another seed.`,
      { cause },
    );
    this.code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  }
}
