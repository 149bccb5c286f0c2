/** Preloaded into a process: its connection to NATS never closes, and is lost for good at SIGUSR2. */

import { Nats, NatsClosedError } from '../../platform/nats/connection.ts';

const lost = Promise.withResolvers<never>();
// Without a listener the rejection would end the process before it is awaited.
lost.promise.catch(() => undefined);
process.once('SIGUSR2', () => lost.reject(new NatsClosedError('the connection was closed for good')));
Nats.prototype.untilLost = () => lost.promise;
Nats.prototype.close = () => new Promise(() => undefined);
