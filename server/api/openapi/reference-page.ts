/** What the pages of both documents, OpenAPI and AsyncAPI, have in common. */

/** The path of the script that shows a document as a page. */
export const REFERENCE_SCRIPT_PATH = '/swagger/scalar.js';

/** Settings of the script: nothing on a page leads to a service of another company, so that it works without internet. */
export const REFERENCE_PAGE = {
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: 'never',
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
};
