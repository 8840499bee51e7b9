'use strict';
// Shares a port with Node's HTTP server: hands the socket of an upgrade to the core, with the bytes that Node has read.

const http = require('node:http');
const tls = require('node:tls');
const { checkNames, failure, native } = require('./errors.js');
const { kindOf } = require('./text.js');

/** Listens for `upgrade`. `isEnding` tells whether the server takes nobody in any more. Returns a function that stops listening. */
function attach(server, isEnding, httpServer, options = {}) {
  checkServer(httpServer);
  checkNames(options, ['path'], 'attach');
  const paths = options.path === undefined ? undefined : pathsOf(options.path);
  const wants = (path) => paths === undefined || paths.has(path);
  const ours = attached.get(httpServer) ?? new Set();
  attached.set(httpServer, ours);
  const onUpgrade = (request, socket, head) => {
    const path = pathOf(request.url);
    if (wants(path)) return hasSuccessor(ours, own, path) ? undefined : server.handleUpgrade(request, socket, head);
    if (isUnwanted(httpServer, ours, path) && !socket.writableEnded) refuse(socket, '404 Not Found');
  };
  const own = { wants, isEnding };
  ours.add(own);
  httpServer.on('upgrade', onUpgrade);
  return () => {
    ours.delete(own);
    httpServer.off('upgrade', onUpgrade);
  };
}

/** What is attached to each HTTP server: which paths it wants, and whether it is ending. */
const attached = new WeakMap();

/** Whether no listener takes a path. Node would then leave the socket open for ever. */
function isUnwanted(httpServer, ours, path) {
  if (httpServer.listenerCount('upgrade') > ours.size) return false;
  for (const one of ours) if (one.wants(path)) return false;
  return true;
}

/** Whether a server is ending, and another that is not has come in its place. */
function hasSuccessor(ours, own, path) {
  if (!own.isEnding()) return false;
  for (const one of ours) if (!one.isEnding() && one.wants(path)) return true;
  return false;
}

/** Throws for anything but a plain HTTP server: it would never emit `upgrade`. */
function checkServer(given) {
  if (given instanceof tls.Server) {
    const advice = 'let wsguard listen on a port of its own with the option tls, or end TLS in a proxy';
    throw failure('not_supported', `attach takes plain HTTP servers: Node has ended TLS on its side; ${advice}`);
  }
  if (given instanceof http.Server) return;
  const isApp = typeof given === 'function' && typeof given.handle === 'function';
  const hint = isApp
    ? 'got an Express application: give what its listen() returns, or http.createServer(app)'
    : given?.server instanceof http.Server
      ? 'of Fastify: app.server'
      : `got ${typeof given === 'object' && given !== null ? `a ${given.constructor?.name ?? 'object'}` : kindOf(given)}`;
  throw failure('invalid_argument', `attach takes an http.Server; ${hint}`);
}

function pathsOf(path) {
  const paths = [path].flat();
  for (const one of paths) {
    if (typeof one !== 'string') throw failure('invalid_argument', `path must be a string or a list of them, got ${kindOf(one)}`);
    if (!one.startsWith('/') || /[?#]/.test(one)) {
      throw failure('invalid_argument', `path must begin with / and have neither ? nor #, got ${JSON.stringify(one.slice(0, 64))}`);
    }
  }
  if (paths.length === 0) throw failure('invalid_argument', 'path must name at least one path');
  return new Set(paths);
}

/** The path of a request target, which may be in absolute form. */
function pathOf(url) {
  const target = url.startsWith('/') ? url : url.replace(/^https?:\/\/[^/?#]*\/?/i, '/');
  const end = target.indexOf('?');
  return end < 0 ? target : target.slice(0, end);
}

/**
 * Whether an answer to a request before this one is not out yet: a pipelined upgrade, whose own answer would come before it or
 * into the middle of it (RFC 9112 section 9.3.2).
 */
function isAnswering(socket) {
  return Boolean(socket._httpMessage) || socket.writableLength > 0;
}

/** Refuses a handshake that the core cannot take. */
function refuse(socket, status) {
  socket.on('error', () => {});
  if (isAnswering(socket)) return void socket.destroy();
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

/** Throws for arguments that are not those of an `upgrade` listener. */
function checkUpgrade(request, socket, head) {
  const isRequest = typeof request?.method === 'string' && typeof request.url === 'string' && Array.isArray(request.rawHeaders);
  if (isRequest && typeof socket?.destroy === 'function' && ArrayBuffer.isView(head)) return;
  throw failure('invalid_argument', "handleUpgrade takes what an http.Server's `upgrade` tells: request, socket, head");
}

/** Hands the connection over. Node's own handle is closed; the core has a descriptor of its own by then. */
function handOver(nativeServer, request, socket, head) {
  socket.on('error', () => {});
  if (socket.destroyed) return; // the peer has left
  if (isAnswering(socket)) return void socket.destroy();
  const fd = socket._handle?.fd;
  try {
    if (socket.encrypted || fd === undefined || fd < 0) {
      throw failure('not_supported', 'the upgrade is not on a plain TCP socket');
    }
    // Nothing more may be read here: a byte that came into Node's buffers would be missing there.
    socket._handle.readStop?.();
    native(() => nativeServer.adopt(fd, Buffer.concat([headOf(request), head, ...buffered(socket)])));
    socket.destroy();
  } catch (error) {
    refuse(socket, '503 Service Unavailable');
    throw error;
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

module.exports = { attach, checkUpgrade, handOver, headOf, refuse };
