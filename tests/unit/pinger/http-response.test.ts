import { describe, expect, test } from 'bun:test';
import { MAX_RESPONSE_BYTES, readResponse } from '../../../pinger/probes/http-response.ts';

describe('an HTTP response', () => {
  const parse = (text: string, ended = false) => {
    const response = readResponse(Buffer.from(text, 'latin1'), ended);
    return typeof response === 'string' ? response : { status: response.status, body: response.body.toString() };
  };
  const sized = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-LENGTH: 5\r\n\r\nhello';
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n';
  const toTheEnd = 'HTTP/1.0 200 OK\r\n\r\nhello';

  test.each([sized, chunked])('is complete when its body is', (text) => {
    for (let length = 0; length < text.length - 2; length += 1) {
      const soFar = parse(text.slice(0, length));
      if (soFar !== 'more') expect(soFar).toEqual({ status: 200, body: 'hello' });
    }
    expect(parse(text)).toEqual({ status: 200, body: 'hello' });
  });

  test('without a length ends with the connection', () => {
    expect(parse(toTheEnd)).toBe('more');
    expect(parse(toTheEnd, true)).toEqual({ status: 200, body: 'hello' });
  });

  test('ends at the announced length', () => {
    expect(parse(`${sized}, world`)).toEqual({ status: 200, body: 'hello' });
  });

  test('may have an empty body', () => {
    expect(parse('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')).toEqual({ status: 403, body: '' });
  });

  test.each([
    ['is cut off in its head', 'HTTP/1.1 200', true],
    ['is cut off in its body', sized.slice(0, -1), true],
    ['is cut off in a chunk', chunked.slice(0, -8), true],
    ['does not begin with HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', false],
    ['has no status', 'HTTP/1.1 OK\r\n\r\n', false],
    ['has a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', false],
    ['has a chunk size that is not hexadecimal', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', false],
    ['is longer than 8 KiB', `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(MAX_RESPONSE_BYTES)}`, false],
  ])('that %s is malformed', (_, text, ended) => {
    expect(parse(text, ended)).toBe('malformed');
  });
});
