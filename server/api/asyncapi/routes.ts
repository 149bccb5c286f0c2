/** `/asyncapi` and `/asyncapi/json`: the document of the NATS side and its page, shown by the library that shows Swagger. */

import { Elysia } from 'elysia';
import packageJson from '../../../package.json';
import { asyncApiDocument } from '../../asyncapi/document.ts';
import { REFERENCE_PAGE, REFERENCE_SCRIPT_PATH } from '../openapi/reference-page.ts';

const DOCUMENT_PATH = '/asyncapi/json';
/** The page opens every tag, and lists fields in the order of the schemas. */
const PAGE = { defaultOpenAllTags: true, orderSchemaPropertiesBy: 'preserve', orderRequiredPropertiesFirst: false };
const HIDDEN = { detail: { hide: true } };

export function asyncApiRoutes() {
  const document = asyncApiDocument(packageJson.version);
  const json = JSON.stringify(document);
  const page = pageOf(document.info.title);
  return new Elysia()
    .get(
      DOCUMENT_PATH,
      () => new Response(json, { headers: { 'content-type': 'application/json;charset=utf-8' } }),
      HIDDEN,
    )
    .get('/asyncapi', () => new Response(page, { headers: { 'content-type': 'text/html; charset=utf-8' } }), HIDDEN);
}

function pageOf(title: string): string {
  const configuration = { ...REFERENCE_PAGE, ...PAGE, url: DOCUMENT_PATH };
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>${title}</title>
    <style>body { margin: 0; }</style>
  </head>
  <body>
    <script id="api-reference" data-configuration='${JSON.stringify(configuration)}'></script>
    <script src="${REFERENCE_SCRIPT_PATH}"></script>
  </body>
</html>
`;
}
