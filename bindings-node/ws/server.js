'use strict';
// The server, with the surface of the one of `ws`: where it listens, whom it takes, and its end.

const { EventEmitter } = require('node:events');
const { onDisconnect } = require('../lib/worker.js');
const { adopt, checkAdoptable, refuseFor } = require('./adopt.js');
const { Hub } = require('./hub.js');
const { addressOf } = require('./peer-socket.js');
const { readPolicy } = require('./policy.js');
const { WebSocket } = require('./websocket.js');

const [RUNNING, CLOSING, CLOSED] = [0, 1, 2];
const REJECTED = Symbol.for('nodejs.rejection');
const WAYS = 'One and only one of the "port", "server", or "noServer" options must be specified';
/** Options of `ws` that are not kept, and what happens instead. */
const UNKEPT = {
  perMessageDeflate: 'nothing is compressed, as the policy does not say so: compression: {}',
  skipUTF8Validation: 'texts are always checked',
};
const warned = new Set();

class WebSocketServer extends EventEmitter {
  #hub;
  #http;
  #listener;
  #detach;
  #isListening = false;

  constructor(given, callback) {
    // A listener of `connection` whose promise is rejected costs that connection: see `REJECTED` below.
    super({ captureRejections: true });
    const options = {
      allowSynchronousEvents: true,
      autoPong: true,
      maxBufferedChunks: 256 * 1024,
      maxPendingAutoPongs: 60,
      skipUTF8Validation: false,
      handleProtocols: null,
      clientTracking: true,
      verifyClient: null,
      noServer: false,
      backlog: null,
      server: null,
      host: null,
      path: null,
      port: null,
      WebSocket,
      ...given,
    };
    const hasPort = options.port !== null && options.port !== undefined;
    if (Number(hasPort) + Number(Boolean(options.server)) + Number(Boolean(options.noServer)) !== 1) throw new TypeError(WAYS);
    const policy = readPolicy(options);
    if (options.skipUTF8Validation) warn('skipUTF8Validation');
    if (options.perMessageDeflate && !policy.mayCompress) warn('perMessageDeflate');
    if (options.perMessageDeflate === true) options.perMessageDeflate = {};
    this.options = options;
    this._state = RUNNING;
    this.#hub = new Hub(this, policy, options);
    if (options.clientTracking) this.clients = new Set();
    if (hasPort) return void this.#listen(callback);
    // What can fail, or is asked before the first peer comes, must not wait for it. Without that a server costs no threads until then.
    if (policy.reachesOut) this.#hub.start(false);
    if (options.server) this.#attach(options.server);
  }

  get _server() {
    return this.#listener ?? this.#http ?? null;
  }

  /** @internal */
  get _isClosing() {
    return this._state > RUNNING;
  }

  /** @internal */
  get _isListening() {
    return this.#isListening;
  }

  address() {
    if (this.options.noServer) throw new Error('The server is operating in "noServer" mode');
    return this._server === null ? null : this._server.address();
  }

  shouldHandle(request) {
    const { path } = this.options;
    if (!path) return true;
    const query = request.url.indexOf('?');
    return (query < 0 ? request.url : request.url.slice(0, query)) === path;
  }

  handleUpgrade(request, socket, head, callback) {
    if (!checkAdoptable(this, request, socket)) return;
    try {
      this.#hub.start(false);
    } catch (error) {
      // Any peer comes here: that must not end the process.
      return refuseFor(socket, error);
    }
    adopt(this, this.#hub, request, socket, head, callback);
  }

  close(callback) {
    if (this._state === CLOSED) {
      if (callback) this.once('close', () => callback(new Error('The server is not running')));
      return void process.nextTick(() => this.#emitClose());
    }
    if (callback) this.once('close', callback);
    if (this._state === CLOSING) return;
    this._state = CLOSING;
    this.#detach?.();
    const listener = this.#listener;
    if (listener !== undefined) this.prependOnceListener('close', () => listener.emit('close'));
    this.#detach = this.#http = this.#listener = undefined;
    this.#stopListening();
    this.#goOnClosing();
  }

  #stopListening() {
    this.#isListening = false;
    this.#hub.stopListening();
  }

  /** @internal A connection has opened. `done`: what `handleUpgrade` was given. */
  _opened(ws, request, done) {
    this.clients?.add(ws);
    if (done === undefined) return void this.emit('connection', ws, request);
    const result = done(ws, request);
    const then = result?.then;
    if (typeof then === 'function') then.call(result, undefined, (error) => this.#hub.onRejected(error, ws));
  }

  /** A listener's promise was rejected. */
  [REJECTED](error, name, ...values) {
    this.#hub.onRejected(error, name === 'connection' && values[0] instanceof WebSocket ? values[0] : undefined);
  }

  /** @internal A connection is about to tell its end. */
  _closing(ws) {
    this.clients?.delete(ws);
  }

  /** @internal A connection has told its end, or there will be none. */
  _closed() {
    this.#goOnClosing();
    // Without `clients` nobody has waited for the last of them.
    if (this._state === CLOSED && this.#hub.count === 0) this.#hub.stop();
  }

  /** Whether connections are left, or about to open, that the end of the server waits for. */
  get #isBusy() {
    const { port } = this.options;
    const waits = this.clients !== undefined || (port !== null && port !== undefined);
    return waits && this.#hub.isBusy;
  }

  /** The server is closed when nothing is left that it waits for. */
  #goOnClosing() {
    if (this._state !== CLOSING || this.#isBusy) return;
    process.nextTick(() => {
      if (this._state === CLOSING && !this.#isBusy) this.#emitClose();
    });
  }

  #emitClose() {
    this._state = CLOSED;
    if (this.#hub.count === 0) this.#hub.stop();
    this.emit('close');
  }

  #listen(callback) {
    if (callback) this.once('listening', callback);
    let address;
    try {
      address = this.#hub.start(true);
    } catch (error) {
      if (error?.code !== 'listen_failed') throw error;
      return void process.nextTick(() => this.emit('error', systemError(error, this.options)));
    }
    this.#isListening = true;
    this.#listener = new Listener(addressOf(address));
    this.#detach = onDisconnect(() => this.#stopListening());
    process.nextTick(() => {
      if (this._state === RUNNING) this.emit('listening');
    });
  }

  #attach(server) {
    this.#http = server;
    const listeners = {
      listening: () => this.emit('listening'),
      error: (error) => this.emit('error', error),
      upgrade: (request, socket, head) => this.handleUpgrade(request, socket, head),
    };
    for (const [name, listener] of Object.entries(listeners)) server.on(name, listener);
    this.#detach = () => {
      for (const [name, listener] of Object.entries(listeners)) server.removeListener(name, listener);
    };
  }
}

/** What stands for the HTTP server that `ws` has on a port: its address and its end. */
class Listener extends EventEmitter {
  #place;

  constructor(place) {
    super();
    this.#place = place;
  }

  get listening() {
    return true;
  }

  address() {
    return { ...this.#place };
  }
}

function warn(name) {
  if (warned.has(name)) return;
  warned.add(name);
  process.emitWarning(`${name}: ${UNKEPT[name]}`, { type: 'WsguardWarning', code: 'WSGUARD_UNKEPT' });
}

/** The error as Node's own servers tell it. */
function systemError(error, { port, host }) {
  const { code } = error.cause ?? {};
  if (code === undefined) return error;
  return Object.assign(new Error(`listen ${code}: ${error.message}`, { cause: error }), { code, errno: error.cause.errno, syscall: 'listen', address: host, port });
}

module.exports = { WebSocketServer };
