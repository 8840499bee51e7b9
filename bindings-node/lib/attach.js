'use strict';
// Sharing a port with Node's HTTP server: the upgrade's socket goes to the core, with the bytes that were read from it.

const tls = require('node:tls');
const { failure } = require('./errors.js');

/** Listens for `upgrade`; returns what ends that. */
function attach(server, httpServer, { path } = {}) {
  if (typeof httpServer?.on !== 'function') {
    throw failure('invalid_argument', 'attach wants an http.Server (of Fastify: app.server)');
  }
  if (httpServer instanceof tls.Server) {
    throw failure('not_supported', 'attach takes plain HTTP servers: Node has ended TLS on its side. Use the option tls');
  }
  const paths = path === undefined ? undefined : new Set([path].flat());
  const onUpgrade = (request, socket, head) => {
    if (paths === undefined || paths.has(pathOf(request.url))) return server.handleUpgrade(request, socket, head);
    // Others may want it. If there is nobody, Node would leave the socket open for ever.
    if (httpServer.listenerCount('upgrade') === 1) refuse(socket);
  };
  httpServer.on('upgrade', onUpgrade);
  return () => httpServer.off('upgrade', onUpgrade);
}

function pathOf(url) {
  const end = url.indexOf('?');
  return end < 0 ? url : url.slice(0, end);
}

function refuse(socket) {
  socket.on('error', () => {});
  socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
}

/** Hands the connection over. Node's own handle is closed; the core has a descriptor of its own by then. */
function handOver(native, request, socket, head) {
  socket.on('error', () => {});
  const fd = socket._handle?.fd;
  try {
    if (socket.encrypted || fd === undefined || fd < 0) {
      if (socket.destroyed) return; // the peer has left
      throw failure('not_supported', 'the upgrade is not on a plain TCP socket');
    }
    // Nothing more may be read here: a byte that came into Node's buffers would be missing there.
    socket._handle.readStop?.();
    native.adopt(fd, Buffer.concat([headOf(request), head, ...buffered(socket)]));
  } finally {
    socket.destroy();
  }
}

/** The request head as it was sent. */
function headOf({ method, url, httpVersion, rawHeaders }) {
  let text = `${method} ${url} HTTP/${httpVersion}\r\n`;
  for (let at = 0; at < rawHeaders.length; at += 2) text += `${rawHeaders[at]}: ${rawHeaders[at + 1]}\r\n`;
  return Buffer.from(`${text}\r\n`, 'latin1');
}

function buffered(socket) {
  const chunks = [];
  for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) chunks.push(chunk);
  return chunks;
}

module.exports = { attach, handOver };
