/** A decision that says no. Terminal: asking again with the same state gives the same answer. */

export type RefusalKind =
  | 'validation'
  | 'not-found'
  | 'no-locker-free'
  | 'reservation-state'
  | 'not-yet'
  | 'precondition-failed'
  | 'unit-offline';

export interface FieldError {
  /** JSON pointer of the field, such as `/from`. */
  readonly path: string;
  readonly message: string;
}

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
