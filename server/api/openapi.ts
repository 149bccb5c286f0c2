/** The API documentation: the OpenAPI document and its page. The only file that knows which plugin makes them. */

import { dirname, join } from 'node:path';
import { swagger } from '@elysiajs/swagger';
import { Elysia } from 'elysia';
import packageJson from '../../package.json';

/** The script that shows a document, OpenAPI or AsyncAPI, as a page. */
export const REFERENCE_SCRIPT_PATH = '/swagger/scalar.js';
/** Nothing on a page leads to somebody else's service. */
export const REFERENCE_PAGE = {
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: 'never',
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
};

const DOCUMENT_PATH = '/swagger/json';
/** What the plugin says that any body may be. Ours are JSON, and those that are lines say so themselves. */
const OTHER_CONTENT_TYPES = ['multipart/form-data', 'text/plain'];

/** In the order in which a newcomer reads. */
const TAGS = [
  'Availability',
  'Reservations',
  'Units',
  'Configuration',
  'Events',
  'Summary',
  'Dead letters',
  'Projections',
  'API keys',
  'Health',
];

/** `/swagger` and `/swagger/json`. Everything the page needs comes from here: it works without internet. */
export function openapi() {
  const script = Bun.file(
    join(dirname(Bun.resolveSync('@scalar/api-reference/package.json', import.meta.dir)), 'dist/browser/standalone.js'),
  );
  return new Elysia()
    .onAfterHandle(({ path, responseValue }) => (path === DOCUMENT_PATH ? withJsonBodies(responseValue) : undefined))
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
              'Reserve, open and give back lockers; register units and see what happens at them. ' +
              'Errors are problem documents (RFC 9457). What travels over NATS is described in [/asyncapi](/asyncapi).',
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
      REFERENCE_SCRIPT_PATH,
      () => new Response(script, { headers: { 'content-type': 'text/javascript', 'cache-control': 'max-age=86400' } }),
      { detail: { hide: true } },
    );
}

/** The document without the kinds of bodies that are answered 415. */
function withJsonBodies(document: unknown): unknown {
  const text = JSON.stringify(document, (key, value: unknown) => {
    if (key !== 'requestBody' || typeof value !== 'object' || value === null || !('content' in value)) return value;
    const kept = Object.entries(value.content ?? {}).filter(([type]) => !OTHER_CONTENT_TYPES.includes(type));
    return { ...value, content: Object.fromEntries(kept) };
  });
  return JSON.parse(text);
}
