import { answerOnMetricsPort, noteStop } from '../life.ts';

noteStop('server');
answerOnMetricsPort('server');
const { HTTP_PORT, NATS_URL, NATS_CREDS, DATABASE_URL } = process.env;
Bun.serve({
  port: Number(HTTP_PORT),
  hostname: '127.0.0.1',
  routes: {
    '/readyz': new Response('{}'),
    '/about': () =>
      Response.json({ pid: process.pid, natsUrl: NATS_URL, natsCreds: NATS_CREDS, databaseUrl: DATABASE_URL }),
  },
});
console.log('the server of the fixture listens');
