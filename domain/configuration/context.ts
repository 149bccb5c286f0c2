import type { Connectivity } from '../connectivity/connectivity.ts';
import type { RegistryState } from '../registry/registry.ts';
import type { ConfigurationState } from './configuration.ts';

/** The parts of a unit that the decisions on its configuration read. */
export interface ConfigurationContext {
  readonly registry: RegistryState;
  readonly connectivity: Connectivity;
  readonly configuration: ConfigurationState;
}
