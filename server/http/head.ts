/** `HEAD` answers as `GET` would, without the body. */

/** The answer to a `HEAD` request, from what answers the same `GET` request. */
export async function answerHead(request: Request, get: (request: Request) => Promise<Response>): Promise<Response> {
  const { url, headers } = request;
  const answer = await get(new Request(url, { method: 'GET', headers }));
  // A stream, such as an export, ends here and has no known length.
  await answer.body?.cancel();
  return new Response(null, { status: answer.status, headers: answer.headers });
}
