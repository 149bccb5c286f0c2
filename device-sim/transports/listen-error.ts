/** An address of a unit cannot be listened on, mostly because another process has it. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code: string | undefined;

  constructor(address: string, cause: unknown) {
    super(`The simulator cannot listen on ${address}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
    this.code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  }
}
