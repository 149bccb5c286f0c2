import { answerOnMetricsPort, noteStop } from '../life.ts';

noteStop('projections');
answerOnMetricsPort('projections');
setInterval(() => undefined, 60_000);
