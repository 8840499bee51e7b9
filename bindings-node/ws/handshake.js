'use strict';
// The application's part of a handshake, in the order of `ws`: `shouldHandle`, `verifyClient`, `handleProtocols`, `headers`.

const http = require('node:http');
const { createHash } = require('node:crypto');

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const LINE = /^([^:\s]+):[ \t]*(.*)$/s;

/** A refusal: status, body, headers. */
class Refusal {
  constructor(status, message, headers) {
    this.status = status;
    this.message = message || http.STATUS_CODES[status] || '';
    this.headers = headers ?? {};
  }

  /** As `src/authenticate.rs` takes it. */
  get answer() {
    const entries = Object.entries({ 'Content-Type': 'text/html', ...this.headers });
    const headers = entries.flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
    return { status: this.status, headers, body: Buffer.from(this.message) };
  }
}

/** The subprotocols that a client offers; undefined: the header is no list of tokens. */
function offeredIn(header) {
  if (header === undefined) return new Set();
  const names = header.split(',').map((name) => name.replace(/^[ \t]+|[ \t]+$/g, ''));
  return names.every((name) => TOKEN.test(name)) && new Set(names).size === names.length ? new Set(names) : undefined;
}

/**
 * Asks the application. Calls `settle` once with a `Refusal`, or with `{ subprotocol, headers }`; errors of the application are thrown,
 * or given to `fail` where it answers later.
 */
function consult(server, request, { isClosing, chooses }, settle, fail) {
  if (!server.shouldHandle(request)) return settle(new Refusal(400));
  const offered = offeredIn(request.headers['sec-websocket-protocol']);
  if (offered === undefined) return settle(new Refusal(400, 'Invalid Sec-WebSocket-Protocol header'));
  const complete = () => settle(isClosing() ? new Refusal(503) : accepted(server, request, offered, chooses));
  const { verifyClient } = server.options;
  if (!verifyClient) return complete();
  const info = {
    origin: request.headers[request.headers['sec-websocket-version'] === '8' ? 'sec-websocket-origin' : 'origin'],
    secure: Boolean(request.socket.authorized || request.socket.encrypted),
    req: request,
  };
  let isAnswered = false;
  const once = (act) => (...values) => {
    if (isAnswered) return;
    isAnswered = true;
    try {
      act(...values);
    } catch (error) {
      fail(error);
    }
  };
  const answer = once((verified, code, message, headers) => (verified ? complete() : settle(new Refusal(Number(code) || 401, message, headers))));
  const answers = verifyClient.length < 2;
  const result = answers ? verifyClient.call(server.options, info) : verifyClient.call(server.options, info, answer);
  // A promise is no answer yet: it is true whatever it resolves to.
  const then = result?.then;
  if (typeof then === 'function') then.call(result, answers ? (verified) => answer(verified) : undefined, once(fail));
  else if (answers) answer(result);
}

/** What the 101 says. `chooses`: where the application names no subprotocol, the first that the client offers counts. */
function accepted(server, request, offered, chooses) {
  const subprotocol = offered.size === 0 ? undefined : chosen(server, request, offered, chooses);
  return { subprotocol, headers: headersOf(server, request, subprotocol) };
}

function chosen(server, request, offered, chooses) {
  const { handleProtocols } = server.options;
  if (handleProtocols) {
    const name = handleProtocols.call(server.options, offered, request);
    return name ? `${name}` : undefined;
  }
  return chooses ? offered.values().next().value : undefined;
}

/** The headers that listeners of `headers` have added, as pairs. The lines that make the handshake are the core's. */
function headersOf(server, request, subprotocol) {
  if (server.listenerCount('headers') === 0) return [];
  const digest = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${digest}`];
  if (subprotocol !== undefined) lines.push(`Sec-WebSocket-Protocol: ${subprotocol}`);
  const own = new Set(lines);
  server.emit('headers', lines, request);
  return lines.filter((line) => !own.has(line)).map((line) => {
    const found = LINE.exec(line);
    if (found === null) throw new TypeError('a line of headers must be a name, a colon and a value');
    return [found[1], found[2]];
  });
}

module.exports = { Refusal, consult, offeredIn };
