'use strict';
// Hands over the connections of Node's servers: by the descriptor of a socket, or as a stream whose bytes are fed through.

const { AsyncResource } = require('node:async_hooks');
const http = require('node:http');
const { Socket } = require('node:net');
const timers = require('node:timers');
const { headOf } = require('../lib/attach.js');
const { contain } = require('./contained.js');
const { Refusal, offeredIn } = require('./handshake.js');
const { Feed } = require('./feed.js');
const { pauseBy, set } = require('./paused.js');

// Captured: a test's fake timers must not keep a socket.
const { clearTimeout, setTimeout } = timers;

const KEY = /^[+/0-9A-Za-z]{22}==$/;
const TWICE = 'server.handleUpgrade() was called more than once with the same socket, possibly due to a misconfiguration';
/** How long a peer may take to be gone that the core has found to be. */
const PATIENCE_MS = 1000;
/** The bytes of a 101 at least. */
const HEAD_BYTES = 129;
/** The streams that were handed over, and the server that has each. */
const taken = new WeakMap();

/**
 * What is no websocket handshake by its form is refused here, in the words of `ws`; everything else is the core's to judge. Returns
 * false if it was refused.
 */
function checkAdoptable(server, request, socket) {
  const owner = taken.get(socket);
  if (owner !== undefined) return isLeftTo(owner, server, request);
  const fault = formFault(request);
  if (fault !== undefined) {
    if (server.listenerCount('wsClientError') > 0) tellFault(server, request, socket, fault);
    else refuse(socket, fault);
    return false;
  }
  if (!socket.readable || !socket.writable || isAnsweringAnother(request, socket)) return void socket.destroy();
  if (!server._isClosing) return true;
  refuse(socket, new Refusal(503));
  return false;
}

/**
 * Of a socket that another server has: where both would handle the request, the application is wrong, and told. Where one of two
 * servers of different paths has it already, that one answers, also if it only refuses: any peer can cause this.
 */
function isLeftTo(owner, server, request) {
  if (owner.shouldHandle(request) && server.shouldHandle(request)) throw new Error(TWICE);
  return false;
}

/** Any peer can cause this: a listener that throws costs it its socket, and not the process. */
function tellFault(server, request, socket, { message }) {
  try {
    server.emit('wsClientError', new Error(message), socket, request);
  } catch (error) {
    socket.destroy();
    contain(error);
  }
}

/**
 * Whether the answer to a request before this one is not out (RFC 9112 section 9.3.2): ours would come into the middle of it. That
 * an answer to this one was begun, as `@fastify/websocket` does, is no matter.
 */
function isAnsweringAnother(request, { _httpMessage: answer }) {
  return Boolean(answer) && answer.req !== request;
}

function formFault({ method, headers }) {
  if (method !== 'GET') return new Refusal(405, 'Invalid HTTP method');
  if (headers.upgrade?.toLowerCase() !== 'websocket') return new Refusal(400, 'Invalid Upgrade header');
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) return new Refusal(400, 'Missing or invalid Sec-WebSocket-Key header');
  const version = Number(headers['sec-websocket-version']);
  if (version !== 13 && version !== 8) {
    return new Refusal(400, 'Missing or invalid Sec-WebSocket-Version header', { 'Sec-WebSocket-Version': '13, 8' });
  }
  if (offeredIn(headers['sec-websocket-protocol']) === undefined) return new Refusal(400, 'Invalid Sec-WebSocket-Protocol header');
  return undefined;
}

/** Answers a request that the core does not get. */
function refuse(socket, { status, message, headers }) {
  socket.on('error', () => socket.destroy());
  const all = { Connection: 'close', 'Content-Type': 'text/html', 'Content-Length': Buffer.byteLength(message), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join('')}\r\n${message}`);
}

/** Hands a connection of `server` over. `done` is told its `WebSocket`. */
function adopt(server, hub, request, socket, head, done) {
  taken.set(socket, server);
  socket.setTimeout?.(0);
  socket.setNoDelay?.(true);
  // What the application is asked and told until the connection is open runs where it called `handleUpgrade`, as with `ws`.
  const context = new AsyncResource('WSGUARDHANDSHAKE');
  const entry = { request, socket, done, context, version: request.headers['sec-websocket-version'], transport: undefined };
  const tag = hub.handshakes.hand(entry);
  const received = [headOf(plain(request)), head];
  const told = { ...addressesOf(request, socket), isSecure: Boolean(socket.encrypted ?? request.socket?.encrypted), tag };
  try {
    const fd = descriptorOf(socket);
    entry.transport = fd === undefined ? new Feed(hub, socket, told, received) : new Held(hub, socket, fd, told, received);
  } catch (error) {
    hub.handshakes.forget(tag);
    refuseFor(socket, error);
  }
}

/** What the policy forbids on this socket, or why nothing can start, is the application's to mend, and no reason to end the process. */
function refuseFor(socket, error) {
  refuse(socket, new Refusal(503));
  if (error?.code !== 'connection_closed' && error?.code !== 'stopped') contain(error);
}

/** The request as the core takes it: HTTP/2's has no line of HTTP/1.1, and version 8 of the protocol is 13 by another name. */
function plain(request) {
  const { method, url, headers } = request;
  const rawHeaders = request.rawHeaders ?? rawOf(headers);
  if (headers['sec-websocket-version'] !== '8') return { method, url, httpVersion: '1.1', rawHeaders };
  const renamed = rawHeaders.map((text, at) => {
    if (at % 2 === 0) return text.toLowerCase() === 'sec-websocket-origin' ? 'Origin' : text;
    return rawHeaders[at - 1].toLowerCase() === 'sec-websocket-version' ? '13' : text;
  });
  return { method, url, httpVersion: '1.1', rawHeaders: renamed };
}

/**
 * The lines of a request that no parser of Node's has read: `injectWS` of `@fastify/websocket` makes one by hand. It has no host, which
 * the core asks for (RFC 9112 section 3.2).
 */
function rawOf(headers) {
  const lines = Object.entries({ host: 'localhost', ...headers }).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
  for (const [name, value] of lines) {
    http.validateHeaderName(name);
    http.validateHeaderValue(name, value);
  }
  return lines.flat();
}

/** The addresses of both ends, which stay readable on the socket. */
function addressesOf(request, socket) {
  const below = typeof socket.remoteAddress === 'string' ? socket : request.socket ?? socket;
  const address = (ip, port) => (ip === undefined ? undefined : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
  return { peer: address(below.remoteAddress, below.remotePort), local: address(below.localAddress, below.localPort) };
}

/** The descriptor of a plain socket of Node's own; undefined: it has none that could be read from. */
function descriptorOf(socket) {
  if (process.platform === 'win32' || socket.encrypted || !(socket instanceof Socket)) return undefined;
  // What Node has still to write goes before what we say.
  if (socket.writableLength > 0) return undefined;
  const fd = socket._handle?.fd;
  return Number.isInteger(fd) && fd >= 0 && typeof socket._handle.readStop === 'function' ? fd : undefined;
}

/** A socket whose descriptor the core has as well. Node's object stays as long as the connection, and reads nothing. */
class Held {
  #socket;

  constructor(hub, socket, fd, told, received) {
    this.#socket = socket;
    stopReading(socket);
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) received.push(chunk);
    keepAddresses(socket);
    socket.on('error', () => {});
    try {
      hub.adoptSocket(fd, told, Buffer.concat(received));
    } catch (error) {
      readAgain(socket);
      throw error;
    }
  }

  /** Calls `end` when the application, or Node, destroys the socket. */
  onClosed(end) {
    // The application may have destroyed it while it thought about the handshake.
    if (this.#socket.destroyed) process.nextTick(end);
    else this.#socket.once('close', end);
  }

  /** Node reads and writes nothing of it from here on. */
  isReadBy(ws) {
    const socket = this.#socket;
    pauseBy(ws, socket);
    // Node would hear of no byte, and take every peer for idle.
    set(socket, 'setTimeout', () => socket);
    // By this others find whether anybody has answered a socket: Socket.IO ends those of other paths where nobody has. What is said
    // behind the 101 is not counted.
    set(socket, 'bytesWritten', socket.bytesWritten + HEAD_BYTES);
  }

  /**
   * Calls `end` when the application ends its side of the socket: Node would end it at once, and with that cut off what the core has
   * not written.
   */
  onEnded(end) {
    this.#socket._final = (callback) => {
      end();
      callback();
    };
  }

  /** The peer has left before there was a connection: Node reads that for itself. */
  giveBack() {
    const socket = this.#socket;
    readAgain(socket);
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), PATIENCE_MS).unref();
    socket.once('end', () => process.nextTick(() => socket.destroy()));
    socket.once('close', () => clearTimeout(timer));
  }

  end() {
    this.#socket.destroy();
  }
}

/**
 * Nothing more may be read here: a byte that came into Node's buffers would be missing in the core's. A stream begins again by itself,
 * from `read()` where its buffer was full, and a turn later where somebody has called `resume()` or listens to `readable`.
 */
function stopReading(socket) {
  socket._handle.readStop();
  set(socket, '_read', () => {});
}

/** The core has not taken it, or has let it go. */
function readAgain(socket) {
  delete socket._read;
  socket._handle?.readStart();
}

/** Node forgets the local address of a socket that is destroyed. */
function keepAddresses(socket) {
  for (const name of ['remoteAddress', 'remotePort', 'remoteFamily', 'localAddress', 'localPort', 'localFamily']) {
    const value = socket[name];
    if (value !== undefined) Object.defineProperty(socket, name, { value, configurable: true, enumerable: true });
  }
}

module.exports = { adopt, checkAdoptable, refuseFor };
