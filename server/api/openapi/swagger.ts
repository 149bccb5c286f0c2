/** The API documentation: the OpenAPI document and its page. This is the only file that knows the Swagger plugin. */

import { dirname, join } from 'node:path';
import { swagger } from '@elysiajs/swagger';
import { Elysia } from 'elysia';
import packageJson from '../../../package.json';
import { openApiDocument } from './document.ts';
import { REFERENCE_PAGE, REFERENCE_SCRIPT_PATH } from './reference-page.ts';

const DOCUMENT_PATH = '/swagger/json';
/** The tags, in the order in which the page shows them. */
const TAGS = [
  'Availability',
  'Reservations',
  'Units',
  'Lockers',
  'Configuration',
  'Events',
  'Summary',
  'Dead letters',
  'Projections',
  'Parked work',
  'API keys',
  'Health',
];

/** `/swagger` and `/swagger/json`. The server serves the scripts of the page, too, so that it works without internet. */
export function swaggerRoutes() {
  const script = Bun.file(
    join(dirname(Bun.resolveSync('@scalar/api-reference/package.json', import.meta.dir)), 'dist/browser/standalone.js'),
  );
  return new Elysia()
    .onAfterHandle(({ path, responseValue }) => (path === DOCUMENT_PATH ? openApiDocument(responseValue) : undefined))
    .use(
      swagger({
        path: '/swagger',
        scalarCDN: REFERENCE_SCRIPT_PATH,
        scalarConfig: REFERENCE_PAGE,
        exclude: [/^\/swagger/],
        documentation: {
          info: {
            title: 'lockfleet',
            version: packageJson.version,
            description:
              'Customers reserve, open and give back lockers. Operators register units, configure them, and follow what happens at ' +
              'them. Errors are problem documents (RFC 9457). [/asyncapi](/asyncapi) describes the messages over NATS.',
          },
          tags: TAGS.map((name) => ({ name })),
          components: {
            securitySchemes: {
              bearer: {
                type: 'http',
                scheme: 'bearer',
                description: 'A JWT of a customer or an operator, or an API key of an operator.',
              },
            },
          },
        },
      }),
    )
    .get(
      REFERENCE_SCRIPT_PATH,
      () => new Response(script, { headers: { 'content-type': 'text/javascript', 'cache-control': 'max-age=86400' } }),
      { detail: { hide: true } },
    );
}
