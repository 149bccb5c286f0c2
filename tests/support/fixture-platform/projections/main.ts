import { noteStop } from '../life.ts';

noteStop('projections');
setInterval(() => undefined, 60_000);
