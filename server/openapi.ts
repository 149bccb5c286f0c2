/** The API documentation: the OpenAPI document and its page. The only file that knows which plugin makes them. */

import { dirname, join } from 'node:path';
import { swagger } from '@elysiajs/swagger';
import { Elysia } from 'elysia';
import packageJson from '../package.json';

const SCALAR_PATH = '/swagger/scalar.js';
/** Nothing on the page leads to somebody else's service. */
const PAGE = {
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: 'never',
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
};

/** In the order in which a newcomer reads. */
const TAGS = ['Availability', 'Reservations', 'Units', 'Events', 'API keys', 'Health'];

/** `/swagger` and `/swagger/json`. Everything the page needs comes from here: it works without internet. */
export function openapi() {
  const script = Bun.file(
    join(dirname(Bun.resolveSync('@scalar/api-reference/package.json', import.meta.dir)), 'dist/browser/standalone.js'),
  );
  return new Elysia()
    .use(
      swagger({
        path: '/swagger',
        scalarCDN: SCALAR_PATH,
        scalarConfig: PAGE,
        exclude: [/^\/swagger/],
        documentation: {
          info: {
            title: 'lockfleet',
            version: packageJson.version,
            description:
              'Reserve, open and give back lockers; register units and see what happens at them. ' +
              'Errors are problem documents (RFC 9457).',
          },
          tags: TAGS.map((name) => ({ name })),
          components: {
            securitySchemes: {
              bearer: { type: 'http', scheme: 'bearer', description: 'a JWT, or an API key of an operator' },
            },
          },
        },
      }),
    )
    .get(
      SCALAR_PATH,
      () => new Response(script, { headers: { 'content-type': 'text/javascript', 'cache-control': 'max-age=86400' } }),
      { detail: { hide: true } },
    );
}
