'use strict';
// The request of a handshake that came on a port of ours, as Node's `http` would have read it.

const http = require('node:http');
const { PeerSocket, addressOf } = require('./peer-socket.js');

/** `told` is what `src/json.rs` writes of a handshake. */
function requestOf(told, isEncrypted) {
  const { ip, port, local, method, path, query, rawHeaders, peerCertificate } = told;
  const remote = ip === null ? undefined : { address: ip, family: ip.includes(':') ? 'IPv6' : 'IPv4', port: port ?? undefined };
  const certificate = peerCertificate === null ? undefined : Buffer.from(peerCertificate, 'hex');
  const socket = new PeerSocket(remote, addressOf(local), isEncrypted, certificate);
  const request = new http.IncomingMessage(socket);
  [request.httpVersion, request.httpVersionMajor, request.httpVersionMinor] = ['1.1', 1, 1];
  request.method = method;
  request.url = query === null ? path : `${path}?${query}`;
  // As Node's parser does: `headers` and `headersDistinct` are made of these when they are asked for.
  const raw = rawHeaders.flat();
  request._addHeaderLines(raw, raw.length);
  request.complete = true;
  request.push(null);
  return request;
}

module.exports = { requestOf };
