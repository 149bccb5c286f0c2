import type { FieldError } from './field-errors.ts';

export type RefusalKind =
  | 'validation'
  | 'not-found'
  | 'no-locker-free'
  | 'closed'
  | 'reservation-state'
  | 'unit-in-use'
  | 'not-yet'
  | 'precondition-failed'
  | 'unit-offline';

/** The refusal of a command. It is terminal: the same command on the same state is refused again. */
export class Refusal extends Error {
  override readonly name = 'Refusal';

  readonly kind: RefusalKind;
  readonly errors: readonly FieldError[];

  constructor(kind: RefusalKind, message: string, errors: readonly FieldError[] = []) {
    super(message);
    this.kind = kind;
    this.errors = errors;
  }
}
