'use strict';
// The opening handshake of a test's client: where it goes, and with what, as far as the server's options say it.

const { createHash, randomBytes } = require('node:crypto');
const http = require('node:http');
const https = require('node:https');
const { failure } = require('../lib/errors.js');
const { optionsOf, routeOf } = require('../lib/server.js');

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The options that count for a path. */
function optionsFor(server, path) {
  const { routes = {}, ...top } = optionsOf(server);
  const route = routeOf(server, path.split('?')[0]);
  return route === null ? top : { ...top, ...routes[route] };
}

/** The origin of a page that may connect: the first of the list, with something for each `*`. */
function originOf({ origins = [], dangerouslyAllowAnyOrigin }) {
  const [first] = origins;
  if (first === undefined) return dangerouslyAllowAnyOrigin ? 'http://localhost' : undefined;
  return first.replace('*.', 'test.').replace(/:\*$/, ':3000').replace(/\*$/, 'test');
}

/** The static token of a user. */
function tokenOf(user, { auth }) {
  const advice = 'give what your server authenticates by: { token } or { headers }';
  if (auth?.tokens === undefined) {
    const way = typeof auth === 'string' ? `"${auth}"` : Object.keys(auth ?? {}).join();
    throw failure('invalid_argument', `{ user } needs auth: { tokens }, and here auth is ${way}; ${advice}`);
  }
  const entries = auth.tokens.filter((entry) => entry.user === user);
  if (entries.length === 0) throw failure('invalid_argument', `{ user }: no token of auth.tokens is of ${JSON.stringify(user)}`);
  const found = entries.find(({ token }) => token !== undefined);
  if (found === undefined) throw failure('invalid_argument', `{ user }: auth.tokens has only the hash of the token of ${JSON.stringify(user)}; ${advice}`);
  return found.token;
}

/** Puts a token where the server looks for it first. */
function putToken(token, { tokenSources = ['bearer'] }, request) {
  const [source] = tokenSources;
  const [kind, name] = source.split(':');
  if (kind === 'bearer') request.headers.Authorization = `Bearer ${token}`;
  else if (kind === 'header') request.headers[name] = token;
  else if (kind === 'cookie') request.headers.Cookie = [request.headers.Cookie, `${name}=${token}`].filter(Boolean).join('; ');
  else if (kind === 'subprotocol') request.subprotocols = ['bearer', token, ...request.subprotocols];
  else request.path += `${request.path.includes('?') ? '&' : '?'}${name}=${encodeURIComponent(token)}`;
}

/** Where the server listens, as `http.request` takes it. */
function placeOf(address) {
  if (address.startsWith('unix:')) return { socketPath: address.slice('unix:'.length) };
  const { hostname, port } = new URL(`http://${address}`);
  // A server on all addresses is on this machine, too.
  const host = hostname.replace(/^\[|\]$/g, '').replace(/^0\.0\.0\.0$/, '127.0.0.1').replace(/^::$/, '::1');
  return { host, port: Number(port || 80) };
}

/** Opens a connection. Resolves to the socket, what has come behind the 101, and the subprotocol. */
function open(server, { path = '/', user, token, headers = {}, origin, subprotocols = [], compression = false, address = server.address, timeoutMs }) {
  if (!address) {
    const why = address === '' ? 'is only attached: give the address of the HTTP server' : 'does not listen yet: await server.listen()';
    throw failure('not_started', `the server ${why}`);
  }
  const options = optionsFor(server, path);
  const request = { path, headers: { ...headers }, subprotocols: [...subprotocols] };
  const page = origin === undefined ? originOf(options) : origin;
  if (page !== undefined && page !== null) request.headers.Origin = page;
  const credential = user === undefined ? token : tokenOf(user, options);
  if (credential !== undefined) putToken(credential, options, request);
  const key = randomBytes(16).toString('base64');
  Object.assign(request.headers, { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key });
  if (request.subprotocols.length > 0) request.headers['Sec-WebSocket-Protocol'] = request.subprotocols.join(', ');
  if (compression) request.headers['Sec-WebSocket-Extensions'] = 'permessage-deflate';
  // Whose certificate it is need not be checked: it is the server that this process has started.
  const isTls = options.tls !== undefined && options.tls !== null && server.address === address;
  const extra = isTls ? { rejectUnauthorized: false } : {};
  const sent = (isTls ? https : http).request({ ...placeOf(address), ...extra, path: request.path, headers: request.headers, agent: false });
  return answered(sent, key, compression, timeoutMs);
}

function answered(sent, key, compression, timeoutMs) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => sent.destroy(failure('timeout', `no answer to the handshake came within ${timeoutMs} ms`)), timeoutMs);
    sent.on('error', reject);
    sent.on('close', () => clearTimeout(late));
    sent.on('response', (response) => refusal(response).then(reject, reject));
    sent.on('upgrade', ({ headers }, socket, head) => {
      clearTimeout(late);
      const accepted = createHash('sha1').update(key + GUID).digest('base64');
      if (headers['sec-websocket-accept'] !== accepted) return reject(failure('handshake_refused', 'the 101 has a wrong Sec-WebSocket-Accept'));
      const compressed = compression && headers['sec-websocket-extensions'] !== undefined;
      resolve({ socket, head, subprotocol: headers['sec-websocket-protocol'] ?? null, compressed, headers });
    });
    sent.end();
  });
}

/** The error of a handshake that was answered otherwise than with 101. */
async function refusal(response) {
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const { statusCode: status, headers } = response;
  return Object.assign(failure('handshake_refused', `the handshake was refused: ${status} ${body.trim()}`), { status, headers, body });
}

module.exports = { open };
