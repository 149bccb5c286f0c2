import { answerOnMetricsPort, noteStop } from '../life.ts';

noteStop('device-sim');
answerOnMetricsPort('device-sim');
const ASKED_UNTIL_READY = 3;
let asked = 0;
Bun.serve({
  port: Number(process.env.SIM_CONTROL_PORT),
  hostname: '127.0.0.1',
  routes: {
    '/readyz': () => {
      asked += 1;
      return Response.json(
        { online: asked, units: ASKED_UNTIL_READY },
        { status: asked < ASKED_UNTIL_READY ? 503 : 200 },
      );
    },
  },
});
