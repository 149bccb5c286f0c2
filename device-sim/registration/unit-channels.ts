/** How the platform reaches a unit, and how the unit delivers its events; one choice for a whole fleet. */
export interface UnitChannels {
  readonly probe: 'udp' | 'http' | 'nats';
  readonly delivery: 'push' | 'fetch';
  readonly commandChannel: 'http' | 'nats';
}
