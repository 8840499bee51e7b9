'use strict';
// A connection, with the surface that `ws` gives it on a server. `internals` is its interface for the rest of the package.

const { AsyncResource } = require('node:async_hooks');
const { EventEmitter } = require('node:events');
const { setImmediate } = require('node:timers');
const { failure } = require('../lib/errors.js');
const { PLAIN } = require('../lib/records.js');
const { Callbacks } = require('./callbacks.js');
const { closeArguments } = require('./closing.js');
const { isBlob, lengthOf, payloadOf } = require('./data.js');
const target = require('./event-target.js');
const { Sender } = require('./frames.js');

const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3];
const STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const BINARY_TYPES = ['nodebuffer', 'arraybuffer', 'fragments', 'blob'];
const REJECTED = Symbol.for('nodejs.rejection');
const NO_CLIENT =
  'wsguard/ws is the server side: to connect somewhere, use globalThis.WebSocket (Node 22, browsers) or the package ws';

let internals;
/** The connection whose context is entered. */
let inside;

class WebSocket extends EventEmitter {
  #hub;
  #outbox;
  #low = 0;
  #high = 0;
  #state = CONNECTING;
  #protocol = '';
  #isCompressed = false;
  #binaryType = 'nodebuffer';
  #isPaused = false;
  #isClean = false;
  /** The application has closed it: nothing was said behind the close frame. */
  #hasClosed = false;
  /** Nothing of the peer is told any more but the end: it was terminated, or a listener has failed. */
  #isDeaf = false;
  /** The peer is gone, and its stream: only what it had said before is still to be told. */
  #hasLeft = false;
  /** What came while it was paused, as functions that tell it: what was on its way when reading stopped. */
  #kept;
  #socket = null;
  #session;
  #context;
  /** Bytes that were given to `send` when it was too late. */
  #late = 0;
  /** Those of sends that wait for a Blob. */
  #waiting = 0;
  /** What is said behind a Blob that is being read: functions, in order. */
  #behind;
  /** A message of several `send`s is under way. */
  #isFragmented = false;
  #isQueued = false;
  #hasFault = false;
  #callbacks;
  #sender;

  /** @internal Connections are made by a server. `address` is null there, as in `ws`. */
  constructor(address, protocols, options) {
    // A rejected handler of this connection costs this connection: see `REJECTED` below.
    super({ captureRejections: true });
    if (address !== null || options === undefined) throw failure('not_supported', NO_CLIENT);
  }

  get readyState() {
    return this.#state;
  }

  get protocol() {
    return this.#protocol;
  }

  get extensions() {
    return this.#isCompressed ? 'permessage-deflate' : '';
  }

  /** What `new WebSocket(url)` was given: nothing, on a server. */
  get url() {
    return undefined;
  }

  get isPaused() {
    return this.#isPaused;
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    if (BINARY_TYPES.includes(type)) this.#binaryType = type;
  }

  get bufferedAmount() {
    if (this.#state === CLOSED || this.#hub === undefined) return this.#late;
    this.#outbox.flush();
    return this.#hub.native.bufferedBytes(this.#low, this.#high) + this.#waiting + this.#late;
  }

  /** Who this is by the policy: `user`, `roles`, `ip`, `claims`, … */
  get wsguard() {
    return this.#session;
  }

  /** The socket below: Node's, or (with `port`) one with its addresses. */
  get _socket() {
    return this.#socket;
  }

  /** For libraries that encode frames themselves: see `Sender`. */
  get _sender() {
    return (this.#sender ??= new Sender(this));
  }

  send(data, options, cb) {
    if (this.#state !== OPEN || this.#behind !== undefined) return this.#sendLater(data, options, cb);
    // What nearly every message is: whole, without a callback, a string or a Buffer.
    if (cb === undefined && typeof options !== 'function' && !this.#isFragmented && (options?.fin ?? true)) {
      const isBinary = isToBeBinary(data, options);
      const plain = plainFlag(options);
      if (typeof data === 'string' && !isBinary) return this.#text(data, plain);
      if (data instanceof Uint8Array) return isBinary ? this.#binary(data, plain) : this.#textBytes(data, plain);
    }
    if (typeof options === 'function') [cb, options] = [options, undefined];
    return this.#sendWith(data, options, cb);
  }

  ping(data, mask, cb) {
    this.#control('ping', data, mask, cb);
  }

  pong(data, mask, cb) {
    this.#control('pong', data, mask, cb);
  }

  close(code, data) {
    if (this.#state !== OPEN) return;
    const [known, reason] = closeArguments(code, data);
    this.#state = CLOSING;
    this.#hasClosed = true;
    this.#inOrder(0, () => {
      this.#outbox.flush();
      this.#hub.close(this.#low, this.#high, known, reason);
    });
  }

  terminate() {
    if (this.#state === CLOSED || this.#hub === undefined) return;
    this.#state = CLOSING;
    this.#isDeaf = true;
    this.#outbox.flush();
    this.#hub.native.terminate(this.#low, this.#high);
  }

  pause() {
    this.#setPaused(true);
  }

  resume() {
    this.#setPaused(false);
  }

  addEventListener(type, handler, options) {
    target.add(this, type, handler, options, false, () => this.#isClean);
  }

  removeEventListener(type, handler) {
    target.remove(this, type, handler);
  }

  /** A handler returned a promise that was rejected. */
  [REJECTED](error) {
    this.#hub?.onRejected(error, this);
  }

  /** `plain`: `PLAIN`, or 0. */
  #text(text, plain) {
    this.#outbox.text(this.#low, this.#high, text, plain);
  }

  #binary(bytes, plain) {
    this.#outbox.binary(this.#low, this.#high, bytes, lengthOf(bytes), plain);
  }

  #textBytes(bytes, plain) {
    this.#outbox.textBytes(this.#low, this.#high, bytes, lengthOf(bytes), plain);
  }

  #sendWith(data, options, cb) {
    const { fin = true, compress } = options ?? {};
    if (typeof data === 'number') data = data.toString();
    const isBinary = isToBeBinary(data, options);
    if (isBlob(data)) return this.#readBlob(data, (bytes) => this.#sendRead(bytes, { binary: isBinary, fin, compress }, cb), cb);
    const payload = typeof data === 'string' && isBinary ? Buffer.from(data) : payloadOf(data);
    try {
      this.#say(payload, isBinary, fin, plainFlag(options));
    } catch (error) {
      if (typeof cb !== 'function') throw error;
      return this.#tellLater(cb, error);
    }
    if (typeof cb === 'function') this.#tellWhenWritten(cb);
  }

  #say(payload, isBinary, fin, plain) {
    // The parts of a message go plain.
    if (!fin || this.#isFragmented) return this.#fragment(payload, isBinary, fin);
    if (typeof payload === 'string') return this.#text(payload, plain);
    if (isBinary) return this.#binary(payload, plain);
    this.#textBytes(payload, plain);
  }

  #fragment(payload, isBinary, fin) {
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
    const opcode = this.#isFragmented ? 0 : isBinary ? 2 : 1;
    this.#outbox.fragment(this.#low, this.#high, opcode, fin, bytes, lengthOf(bytes));
    this.#isFragmented = !fin;
  }

  /** Reads a Blob and gives its bytes to `say`; what is said meanwhile follows them. */
  #readBlob(blob, say, cb) {
    const { size } = blob;
    this.#waiting += size;
    this.#behind ??= [];
    const goOn = (call, result) => {
      this.#waiting -= size;
      this.#goOn(() => call(result));
    };
    // One of the application's own may throw.
    new Promise((resolve) => resolve(blob.arrayBuffer())).then(
      (buffer) => process.nextTick(goOn, say, new Uint8Array(buffer)),
      (error) => process.nextTick(goOn, () => this.#onUnread(error, cb)),
    );
  }

  #sendRead(bytes, options, cb) {
    if (this.#state === CLOSED) return void cb?.(closedMeanwhile());
    this.#sendWith(bytes, options, cb);
  }

  #onUnread(error, cb) {
    if (typeof cb === 'function') cb(error);
    if (this.#state !== CLOSED) internals.fault(this, error);
    this.terminate();
  }

  /** Runs what a Blob was read for, then what waits behind it, up to the next Blob. */
  #goOn(first) {
    const behind = this.#behind;
    this.#behind = undefined;
    this.#try(first);
    let at = 0;
    while (at < behind.length && this.#behind === undefined) this.#try(behind[at++]);
    if (this.#behind !== undefined) this.#behind = this.#behind.concat(behind.slice(at));
  }

  /** Calls what no listener's `try` is around: an error costs this connection, and no process. */
  #try(call, value) {
    try {
      call(value);
    } catch (error) {
      this.#hub.onFault(error, this);
    }
  }

  /** Calls `say` with `cb` now, or behind a Blob that is being read; `bytes` count as buffered until then. `cb` hears if it is too late. */
  #inOrder(bytes, say, cb) {
    if (this.#behind === undefined) return say(cb);
    const told = typeof cb === 'function' ? AsyncResource.bind(cb) : undefined;
    this.#waiting += bytes;
    this.#behind.push(() => {
      this.#waiting -= bytes;
      if (this.#state !== CLOSED) return say(told);
      told?.(closedMeanwhile());
    });
  }

  #sendLater(data, options, cb) {
    this.#checkOpened();
    if (typeof options === 'function') [cb, options] = [options, undefined];
    if (typeof data === 'number') data = data.toString();
    if (this.#state !== OPEN) return this.#onLate(data, cb);
    const kept = isBlob(data) || typeof data === 'string' ? data : Uint8Array.prototype.slice.call(payloadOf(data));
    const isBinary = isToBeBinary(data, options);
    this.#inOrder(byteLengthOf(kept), (told) => this.#sendWith(kept, { ...options, binary: isBinary }, told), cb);
  }

  #control(kind, data, mask, cb) {
    this.#checkOpened();
    if (typeof data === 'function') [cb, data] = [data, undefined];
    else if (typeof mask === 'function') cb = mask;
    if (typeof data === 'number') data = data.toString();
    if (this.#state !== OPEN) return this.#onLate(data, cb);
    if (isBlob(data)) {
      checkControl(data.size);
      return this.#inOrder(data.size, (told) => this.#readBlob(data, (bytes) => this.#control(kind, bytes, mask, told), told), cb);
    }
    const given = payloadOf(data);
    const payload = typeof given === 'string' ? Buffer.from(given) : given;
    checkControl(payload.length);
    this.#inOrder(payload.length, (told) => {
      if (kind === 'ping') this.#outbox.ping(this.#low, this.#high, payload, payload.length);
      else this.#outbox.pong(this.#low, this.#high, payload, payload.length);
      if (typeof told === 'function') this.#tellWhenWritten(told);
    }, cb);
  }

  #checkOpened() {
    if (this.#state === CONNECTING) throw new Error('WebSocket is not open: readyState 0 (CONNECTING)');
  }

  #onLate(data, cb) {
    if (data) this.#late += byteLengthOf(isBlob(data) ? data : payloadOf(data));
    if (typeof cb !== 'function') return;
    this.#tellLater(cb, new Error(`WebSocket is not open: readyState ${this.#state} (${STATES[this.#state]})`));
  }

  #tellLater(cb, error) {
    process.nextTick(() => this.#try(cb, error));
  }

  #tellWhenWritten(cb) {
    this.#callbacks ??= new Callbacks();
    this.#callbacks.add(cb);
    this.#hub.awaitWritten(this);
  }

  #setPaused(isPaused) {
    if (this.#state === CONNECTING || this.#state === CLOSED) return;
    if (this.#isPaused === isPaused) return;
    this.#isPaused = isPaused;
    // What was kept comes first.
    if (!isPaused && this.#kept !== undefined) return void process.nextTick(() => internals.run(this, () => this.#tellKept()));
    if (!this.#hasLeft) this.#hub.native.pause(this.#low, this.#high, isPaused);
  }

  /** Tells what was kept, until a listener pauses again; then reads on. */
  #tellKept() {
    while (this.#kept?.length > 0) {
      if (this.#isPaused) return undefined;
      if (this.#tellOne()) return void setImmediate(() => internals.run(this, () => this.#tellKept()));
    }
    if (this.#kept === undefined || this.#isPaused) return undefined;
    this.#kept = undefined;
    if (this.#state !== CLOSED) this.#hub.native.pause(this.#low, this.#high, false);
  }

  /** Returns what `tell` does: whether the rest is told in a later turn. */
  #tellOne() {
    const tell = this.#kept.shift();
    if (this.#isDeaf) return false;
    let yields = false;
    this.#try(() => (yields = tell()));
    return yields;
  }

  static {
    internals = {
      open(ws, hub, low, high, { socket, protocol, isCompressed, session }) {
        ws.#hub = hub;
        ws.#outbox = hub.outbox;
        [ws.#low, ws.#high] = [low, high];
        ws.#context = new AsyncResource('WEBSOCKET', { requireManualDestroy: true });
        [ws.#socket, ws.#protocol, ws.#isCompressed, ws.#session] = [socket, protocol, isCompressed, session];
        ws.#state = OPEN;
      },
      words: (ws) => [ws.#low, ws.#high],
      binaryType: (ws) => ws.#binaryType,
      isOver: (ws) => ws.#state === CLOSED,
      isClean: (ws) => ws.#isClean,
      isDeaf: (ws) => ws.#isDeaf,
      /** Whether nothing may be told now: it is paused, or something came before. */
      isKeeping: (ws) => ws.#isPaused || ws.#kept !== undefined,
      /** `tell` returns whether what follows is told in a later turn. */
      keep: (ws, tell) => void (ws.#kept ??= []).push(tell),
      /** It has ended: what was kept is told before that. */
      tellKept(ws) {
        while (ws.#kept?.length > 0) ws.#tellOne();
        ws.#kept = undefined;
      },
      /** A listener has failed. */
      fail(ws) {
        ws.#outbox.fail(ws.#low, ws.#high);
        [ws.#state, ws.#isDeaf] = [CLOSING, true];
      },
      setQueued: (ws, isQueued) => (ws.#isQueued = isQueued),
      isQueued: (ws) => ws.#isQueued,
      /** The core has begun to close it: the peer need not get what is said from here on. */
      closing(ws) {
        if (ws.#state === OPEN) ws.#state = CLOSING;
      },
      /** The peer has left: the core reads to the end what had come, also of one that is paused, as nothing else would end that. */
      left(ws) {
        if (ws.#state === CLOSED) return;
        ws.#hasLeft = true;
        if (ws.#isPaused) ws.#hub.native.pause(ws.#low, ws.#high, false);
      },
      /** Ends the socket behind what was said, without a close frame. */
      hangUp(ws) {
        if (ws.#state === CLOSED || ws.#hub === undefined) return;
        ws.#state = CLOSING;
        ws.#outbox.flush();
        ws.#hub.native.hangUp(ws.#low, ws.#high);
      },
      /** What was said so far is written: calls the callbacks of `send`. */
      written: (ws) => ws.#callbacks?.settle(undefined),
      /** A frame broke a rule, which is told once. Without a listener it ends the connection, and no process. */
      fault(ws, error) {
        if (ws.#hasFault) return;
        ws.#hasFault = true;
        if (ws.#state !== CLOSED) ws.#state = CLOSING;
        if (ws.listenerCount('error') > 0) ws.emit('error', error);
      },
      /** `isAnswered`: the peer has answered our close frame, and with that read what was said before it. */
      close(ws, code, reason, isClean, isAnswered) {
        ws.#state = CLOSED;
        ws.#isClean = isClean;
        try {
          const isRead = isAnswered && ws.#hasClosed;
          ws.#callbacks?.settle(isRead ? undefined : new Error('the connection was closed before the data was written'));
        } finally {
          try {
            ws.emit('close', code, reason);
          } finally {
            ws.#context.emitDestroy();
          }
        }
      },
      run(ws, call, a, b, c) {
        if (ws === inside) return call(a, b, c);
        const before = inside;
        inside = ws;
        try {
          return ws.#context.runInAsyncScope(call, undefined, a, b, c);
        } finally {
          inside = before;
        }
      },
      enter(ws) {
        const before = inside;
        inside = ws;
        return before;
      },
    };
  }
}

/** As `ws` reads it: where the options have `binary` it counts, also an undefined one. */
function isToBeBinary(data, options) {
  if (typeof options === 'object' && options !== null && 'binary' in options) return Boolean(options.binary);
  return typeof data !== 'string';
}

/** Whether a message is to go plain, as the flag of its command. */
function plainFlag(options) {
  return (options?.compress ?? true) ? 0 : PLAIN;
}

function closedMeanwhile() {
  return new Error('The socket was closed while the blob was being read');
}

/** Throws for what fits into no control frame (RFC 6455 section 5.5). */
function checkControl(length) {
  if (length > 125) throw new RangeError('The data size must not be greater than 125 bytes');
}

function byteLengthOf(data) {
  if (typeof data === 'string') return Buffer.byteLength(data);
  return isBlob(data) ? data.size : data.byteLength;
}

for (const [number, name] of STATES.entries()) {
  const constant = { enumerable: true, value: number };
  Object.defineProperty(WebSocket, name, constant);
  Object.defineProperty(WebSocket.prototype, name, constant);
}
for (const name of ['addEventListener', 'binaryType', 'bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'removeEventListener', 'url']) {
  Object.defineProperty(WebSocket.prototype, name, { enumerable: true });
}
for (const type of ['open', 'error', 'close', 'message']) {
  Object.defineProperty(WebSocket.prototype, `on${type}`, {
    enumerable: true,
    configurable: true,
    get() {
      return target.attribute(this, type);
    },
    set(handler) {
      target.setAttribute(this, type, handler, () => internals.isClean(this));
    },
  });
}

module.exports = { WebSocket, internals };
