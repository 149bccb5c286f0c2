/** A small fleet as a process of its own, without a platform, to be killed. Prints the URL of its control API. */

import { startTestFleet } from '../device-sim.ts';

const [storePath, maxUnrecordedEvents] = process.argv.slice(2);
if (storePath === undefined) throw new Error('usage: main.ts STORE MAX_UNRECORDED_EVENTS');
const nowhere = { url: 'http://127.0.0.1:9' };
const changes = { units: 1, storePath, maxUnrecordedEvents: Number(maxUnrecordedEvents) };
const { controlUrl } = await startTestFleet(nowhere, changes);
process.stdout.write(`${controlUrl}\n`);
