'use strict';
// One open connection, as handlers see it. Its inner side, for the rest of the package, is `internals`.

const { AsyncResource } = require('node:async_hooks');
const { performance } = require('node:perf_hooks');
const { inspect } = require('node:util');
const { failure, native } = require('./errors.js');
const { bytesOf, lengthOf } = require('./bytes.js');
const { checkEmits, checkSends } = require('./protocol.js');
const { checkCount, eventOf, idOf, jsonOf, kindOf, nameOf, textOf } = require('./text.js');

const MOST_ROOMS = 1024;
// Captured: a test's fake timers do not change when a session ends.
const today = Date.now.bind(Date);
const now = performance.now.bind(performance);
const NO_ROOMS = new Set();
const SEND = 'send takes one message, and no callback (its answer says what became of it)';
const EMIT = 'emit takes an event and one value, and no callback';
const REPLY = 'reply takes the meta of the message, an event and one value';

let internals;
/** The connection in whose context we are: it is entered once, however many messages are handled in it. */
let inside;

class Connection {
  #outbox;
  #native;
  #low;
  #high;
  #opened;
  #data;
  #context = new AsyncResource('WSGUARDCONNECTION', { requireManualDestroy: true });
  /** When the session ends, by a clock that nobody sets, as the core's is; never later than by the date. */
  #endsAt;
  /** Nothing more is handled or sent: it has closed, or the application ended it. */
  #isOver = false;
  #hasFailed = false;
  #isQueued = false;
  /** What was said to it since the hand-over `#turn`. */
  #turn = -1;
  #gathered = 0;
  #drained;
  #rooms = NO_ROOMS;
  #isPaused = false;
  #isHeld = false;
  /** Nobody was told that it opened, so nobody is told that it closed. */
  #isUntold = false;

  /** @internal `opened`: id, address, user, path, subprotocol, end of the session. */
  constructor(outbox, nativeServer, low, high, opened, data) {
    this.#outbox = outbox;
    this.#native = nativeServer;
    this.#low = low;
    this.#high = high;
    this.#opened = opened;
    this.#data = data;
    this.#endsAt = opened[5] === null ? Infinity : now() + Math.max(0, opened[5] - today() - 1);
  }

  get id() {
    return this.#opened[0];
  }

  get ip() {
    return this.#opened[1];
  }

  get user() {
    return this.#opened[2];
  }

  get path() {
    return this.#opened[3];
  }

  get subprotocol() {
    return this.#opened[4];
  }

  get data() {
    return this.#data;
  }

  set data(data) {
    this.#data = data;
  }

  get isOpen() {
    return this.#isLive();
  }

  get isQueued() {
    return this.#isQueued;
  }

  get rooms() {
    return [...this.#rooms];
  }

  send(data) {
    checkCount(arguments.length, 1, SEND);
    checkSends(this.#outbox);
    if (typeof data === 'string') {
      if (!this.#isLive()) return 'dropped';
      return this.#said(this.#outbox.text(this.#low, this.#high, data));
    }
    const bytes = bytesOf(data);
    const length = lengthOf(bytes);
    if (!this.#isLive()) return 'dropped';
    return this.#said(this.#outbox.binary(this.#low, this.#high, bytes, length));
  }

  emit(event, data) {
    checkCount(arguments.length, 2, EMIT);
    checkEmits(this.#outbox);
    eventOf(event);
    const text = jsonOf(data);
    if (!this.#isLive()) return 'dropped';
    return this.#said(this.#outbox.emit(this.#low, this.#high, event, text));
  }

  reply(meta, event, data) {
    checkCount(arguments.length, 3, REPLY);
    checkEmits(this.#outbox);
    const id = idIn(meta);
    if (id === undefined) return this.emit(event, data);
    const idText = idOf(id);
    eventOf(event);
    const text = jsonOf(data);
    if (!this.#isLive()) return 'dropped';
    return this.#said(this.#outbox.reply(this.#low, this.#high, idText, event, text));
  }

  join(room) {
    checkCount(arguments.length, 1, 'join takes one room');
    nameOf(room, 'room');
    if (!this.#isLive() || this.#rooms.has(room)) return;
    if (this.#rooms.size >= MOST_ROOMS) {
      throw failure('invalid_argument', `a connection may be in ${MOST_ROOMS} rooms, and this one is`);
    }
    this.#now('join', room);
    if (this.#rooms === NO_ROOMS) this.#rooms = new Set();
    this.#rooms.add(room);
  }

  leave(room) {
    checkCount(arguments.length, 1, 'leave takes one room');
    nameOf(room, 'room');
    if (!this.#isLive() || !this.#rooms.has(room)) return;
    this.#now('leave', room);
    this.#rooms.delete(room);
  }

  close(code = 1000, reason = '') {
    if (typeof code !== 'number') throw failure('invalid_argument', `close code must be a number, got ${typeof code}`);
    textOf(reason, 'close reason');
    if (!this.#isLive()) return;
    // What is no code is told by the core, which knows them.
    const whole = Number.isInteger(code) && code >= 0 && code <= 0xffff ? code : 0;
    this.#outbox.flush();
    native(() => this.#native.close(this.#low, this.#high, whole, reason));
    this.#end();
  }

  drained() {
    // What was just said counts.
    this.#outbox.flush();
    if (!this.#isLive() || !this.#isQueued) return Promise.resolve();
    this.#drained ??= withResolvers();
    return this.#drained.promise;
  }

  pause() {
    this.#setPaused(true, this.#isHeld);
  }

  resume() {
    this.#setPaused(false, this.#isHeld);
  }

  get [Symbol.toStringTag]() {
    return 'Connection';
  }

  /** Without `data`, which may hold secrets of a session, for logs. */
  [inspect.custom](_depth, options) {
    return `Connection ${inspect(this.toJSON(), options)}`;
  }

  toJSON() {
    const { id, ip, user, path, subprotocol, isOpen } = this;
    return { id, ip, user, path, subprotocol, isOpen };
  }

  #isLive() {
    if (this.#isOver) return false;
    if (this.#endsAt === Infinity || now() < this.#endsAt) return true;
    // The core closes it at this moment, whatever waits here.
    this.#end();
    return false;
  }

  /** A connection for which much was gathered has it handed over, so that the answer speaks of it. */
  #said(bytes) {
    const outbox = this.#outbox;
    if (this.#turn !== outbox.turn) {
      this.#turn = outbox.turn;
      this.#gathered = 0;
    }
    this.#gathered += bytes;
    if (this.#gathered > outbox.quarter) outbox.flush();
    return this.#isQueued ? 'queued' : 'sent';
  }

  /** What was said before must come before. */
  #now(call, argument) {
    this.#outbox.flush();
    native(() => this.#native[call](this.#low, this.#high, argument));
  }

  #setPaused(isPaused, isHeld) {
    const was = this.#isPaused || this.#isHeld;
    this.#isPaused = isPaused;
    this.#isHeld = isHeld;
    if (this.#isOver || was === (isPaused || isHeld)) return;
    native(() => this.#native.pause(this.#low, this.#high, isPaused || isHeld));
  }

  /** Nothing follows but the close. Who waits for the peer to read need not any longer. */
  #end() {
    this.#isOver = true;
    this.#setDrained();
  }

  #setDrained() {
    this.#isQueued = false;
    const drained = this.#drained;
    this.#drained = undefined;
    drained?.resolve();
  }

  static {
    internals = {
      belongsTo: (value, outbox) => internals.isConnection(value) && value.#outbox === outbox,
      isConnection: (value) => typeof value === 'object' && value !== null && #outbox in value,
      halves: (conn) => [conn.#low, conn.#high],
      isLive: (conn) => conn.#isLive(),
      hasFailed: (conn) => conn.#hasFailed,
      /** Whether its context was entered. */
      isInside: (conn) => conn === inside,
      /** Runs handlers where what they put into an AsyncLocalStorage stays this connection's. */
      run(conn, call, a, b, c, d) {
        if (conn === inside) return call(a, b, c, d);
        const before = internals.enter(conn);
        try {
          return conn.#context.runInAsyncScope(call, undefined, a, b, c, d);
        } finally {
          inside = before;
        }
      },
      /** Says in whose context we are from here on, and returns in whose we were. */
      enter(conn) {
        const before = inside;
        inside = conn;
        return before;
      },
      /** The handler failed: 1011. */
      fail(conn) {
        if (conn.#hasFailed || !conn.#isLive()) return;
        conn.#hasFailed = true;
        conn.#outbox.fail(conn.#low, conn.#high);
        conn.#end();
      },
      /** A message that the application's own schema refused; `ends`: that closes the connection. */
      refuse(conn, event, ends) {
        conn.#outbox.flush();
        native(() => conn.#native.refuse(conn.#low, conn.#high, event));
        if (ends) conn.#end();
      },
      /** The application has ended it, or it had ended before it was known. */
      end: (conn) => conn.#end(),
      setUntold: (conn) => (conn.#isUntold = true),
      isUntold: (conn) => conn.#isUntold,
      /** Messages wait for an asynchronous schema: the peer waits, too, whatever the application says. */
      hold: (conn, isHeld) => conn.#setPaused(conn.#isPaused, isHeld),
      setQueued(conn) {
        if (!conn.#isOver) conn.#isQueued = true;
      },
      /** What was sent since waits again: a record that was on its way speaks of what was sent before. */
      isStillQueued: (conn) => conn.#native.isQueued(conn.#low, conn.#high),
      /** The peer has read everything, or never will. */
      setDrained: (conn) => conn.#setDrained(),
      /** The last handler was called. */
      setClosed(conn) {
        conn.#end();
        conn.#rooms = NO_ROOMS;
      },
      forget: (conn) => void conn.#context.emitDestroy(),
    };
  }
}

/** The id of the message that is replied to. An id in the place of its message would be no id at all, and nobody's reply. */
function idIn(meta) {
  if (meta === undefined || (typeof meta === 'object' && meta !== null)) return meta?.id;
  throw failure('invalid_argument', `reply takes the meta of the message (with its id), got ${kindOf(meta)}`);
}

function withResolvers() {
  const deferred = {};
  deferred.promise = new Promise((resolve) => (deferred.resolve = resolve));
  return deferred;
}

module.exports = { Connection, EMIT, SEND, internals };
