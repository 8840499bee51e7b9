'use strict';
// A connection, as handlers see it. `internals` is its interface for the rest of the package.

const { AsyncResource } = require('node:async_hooks');
const { performance } = require('node:perf_hooks');
const { inspect } = require('node:util');
const { MOST_EARLIER } = require('./contract.js');
const { checkNames, failure, native } = require('./errors.js');
const { bytesOf, lengthOf } = require('./bytes.js');
const { Calls, closedDuring } = require('./calls.js');
const { Ending, checkClose, ended } = require('./ending.js');
const { Opened } = require('./opened.js');
const { flagOf, plainOf } = require('./plain.js');
const { checkEmits, checkSends } = require('./protocol.js');
const { checkCount, durationOf, eventOf, idOf, jsonOf, kindOf, nameOf } = require('./text.js');

const MOST_ROOMS = 1024;
// Captured: a test's fake timers do not change when a session ends.
const today = Date.now.bind(Date);
const now = performance.now.bind(performance);
const NO_ROOMS = new Set();
const NO_RULES = [];
const SEND = 'send takes one message and { compress }, and no callback (its answer says what became of it)';
const EMIT = 'emit takes an event, one value and { compress }, and no callback';
const REPLY = 'reply takes the meta of the message, an event, one value and { compress }';
const CALL_MS = 10_000;

let internals;
/** The connection whose context is entered: once, however many messages are handled in it. */
let inside;

class Connection extends Opened {
  #home;
  #outbox;
  #native;
  #low;
  #high;
  #data;
  /** The rules of its messages: see `Contract`. */
  #rules;
  /** Those before the latest reloads: messages that were judged by them may still come. */
  #earlierRules = NO_RULES;
  #context = new AsyncResource('WSGUARDCONNECTION', { requireManualDestroy: true });
  /** When the session ends, by the monotonic clock, as in the core; never later than by the date. */
  #endsAt;
  /** It has closed, or the application ended it: nothing more is handled or sent. */
  #isOver = false;
  /** The core has closed it: calls and pings have no answer. */
  #isGone = false;
  /** Called when a call or ping begins while reading is held. */
  #onAsk;
  #hasFailed = false;
  #isQueued = false;
  /** Bytes that were sent to it since the flush `#turn`. */
  #turn = -1;
  #gathered = 0;
  #drained;
  #rooms = NO_ROOMS;
  #isPaused = false;
  #isHeld = false;
  /** Its `open` was not emitted, so neither is its `close`. */
  #isUntold = false;
  /** How it ended, once the core has told. */
  #left;
  /** The same, once its close was handled. */
  #closing;
  #ending;
  #calls;
  /** Pings without an answer, oldest first. */
  #pings = [];

  /** @internal `home`: what all connections of a server share (outbox, native, watchEnds). `opened`: see `Opened`. */
  constructor(home, low, high, opened, data, rules) {
    super(opened);
    this.#home = home;
    this.#outbox = home.outbox;
    this.#native = home.native;
    this.#low = low;
    this.#high = high;
    this.#data = data;
    this.#rules = rules;
    this.#endsAt = opened[5] === null ? Infinity : now() + Math.max(0, opened[5] - today() - 1);
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

  get closed() {
    return this.#watched().promise;
  }

  get signal() {
    return this.#watched().signal;
  }

  get bufferedAmount() {
    if (this.#isOver) return 0;
    this.#outbox.flush();
    return this.#native.bufferedBytes(this.#low, this.#high);
  }

  get rooms() {
    this.#seeRooms();
    return [...this.#rooms];
  }

  /** Another node may have cleared rooms that it is in. */
  #seeRooms() {
    if (this.#rooms.size === 0 || !this.#outbox.isNode) return;
    const rooms = this.#native.roomsOf(this.#low, this.#high);
    // It has closed, and nobody was told yet.
    if (rooms === null) return;
    const still = new Set(rooms);
    for (const room of this.#rooms) if (!still.has(room)) this.#rooms.delete(room);
  }

  send(data, options) {
    checkCount(arguments.length, 2, SEND);
    const plain = plainOf(options, SEND);
    checkSends(this.#rules.isRaw);
    if (typeof data === 'string') {
      if (!this.#isLive()) return 'closed';
      return this.#said(this.#outbox.text(this.#low, this.#high, data, plain));
    }
    const bytes = bytesOf(data);
    const length = lengthOf(bytes);
    if (!this.#isLive()) return 'closed';
    return this.#said(this.#outbox.binary(this.#low, this.#high, bytes, length, plain));
  }

  emit(event, data, options) {
    checkCount(arguments.length, 3, EMIT);
    const plain = plainOf(options, EMIT);
    checkEmits(!this.#rules.isRaw);
    eventOf(event);
    const text = jsonOf(data);
    if (!this.#isLive()) return 'closed';
    return this.#said(this.#outbox.emit(this.#low, this.#high, event, text, plain));
  }

  reply(meta, event, data, options) {
    checkCount(arguments.length, 4, REPLY);
    const plain = plainOf(options, REPLY);
    checkEmits(!this.#rules.isRaw);
    const id = idIn(meta);
    if (id === undefined) return this.emit(event, data, options);
    const idText = idOf(id);
    eventOf(event);
    const text = jsonOf(data);
    if (!this.#isLive()) return 'closed';
    return this.#said(this.#outbox.reply(this.#low, this.#high, idText, event, text, plain));
  }

  replyError(meta, event, data, options) {
    checkCount(arguments.length, 4, REPLY);
    const plain = plainOf(options, REPLY);
    checkEmits(!this.#rules.isRaw);
    const id = idIn(meta);
    const idText = id === undefined ? '' : idOf(id);
    eventOf(event);
    const text = jsonOf(data);
    if (!this.#isLive()) return 'closed';
    return this.#said(this.#outbox.replyError(this.#low, this.#high, idText, event, text, plain));
  }

  call(event, data, options) {
    return watched(() => this.#call(event, data, options));
  }

  #call(event, data, options = {}) {
    checkEmits(!this.#rules.isRaw);
    checkNames(options, ['timeoutMs', 'compress'], 'call');
    const plain = flagOf(options.compress);
    const timeoutMs = durationOf(options.timeoutMs ?? CALL_MS, 'timeoutMs');
    eventOf(event);
    const text = jsonOf(data);
    if (this.#isGone || !this.#isLive()) throw closedDuring(this, event);
    this.#calls ??= new Calls();
    const { id, answer } = this.#calls.begin(event, timeoutMs);
    try {
      this.#said(this.#outbox.request(this.#low, this.#high, JSON.stringify(id), event, text, plain));
    } catch (error) {
      this.#calls.forget(id);
      throw error;
    }
    this.#onAsk?.();
    return answer;
  }

  ping() {
    const given = arguments.length;
    return watched(() => this.#ping(given), given === 0);
  }

  #ping(given) {
    checkCount(given, 0, 'ping takes nothing, and resolves to the milliseconds until its answer');
    if (this.#isGone || !this.#isLive()) throw this.#unanswered();
    this.#now('ping');
    const answer = new Promise((resolve, reject) => this.#pings.push({ resolve, reject }));
    this.#onAsk?.();
    return answer;
  }

  terminate() {
    if (this.#closing !== undefined) return;
    // Also behind a close whose handshake takes long.
    this.#now('terminate');
    this.#end();
  }

  join(room) {
    checkCount(arguments.length, 1, 'join takes one room');
    nameOf(room, 'room');
    if (!this.#isLive()) return;
    if (this.#rooms.has(room) || this.#rooms.size >= MOST_ROOMS) this.#seeRooms();
    if (this.#rooms.has(room)) return;
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
    checkClose(code, reason);
    if (!this.#isLive()) return;
    this.#outbox.flush();
    native(() => this.#native.close(this.#low, this.#high, code, reason));
    this.#end();
  }

  drained() {
    // Commands that are only gathered count.
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

  /** For logs: without `data`, which may hold secrets of a session. */
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
    // The core closes it at this moment, even if messages wait here.
    this.#end();
    return false;
  }

  /** Flushes if much was gathered for this connection, so that the result takes it into account. */
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

  /** Calls the core at once, after the commands that were gathered before. */
  #now(call, ...given) {
    this.#outbox.flush();
    native(() => this.#native[call](this.#low, this.#high, ...given));
  }

  #setPaused(isPaused, isHeld) {
    const was = this.#isPaused || this.#isHeld;
    this.#isPaused = isPaused;
    this.#isHeld = isHeld;
    if (this.#isOver || was === (isPaused || isHeld)) return;
    native(() => this.#native.pause(this.#low, this.#high, isPaused || isHeld));
  }

  #watched() {
    if (this.#ending === undefined) {
      this.#ending = new Ending(this, this.#left);
      if (this.#left === undefined) this.#home.watchEnds();
    }
    return this.#ending;
  }

  /** Nothing follows but the close. Settles `drained()`. */
  #end() {
    this.#isOver = true;
    this.#setDrained();
    this.#setGone();
  }

  /** No answer can come any more. */
  #setGone() {
    this.#isGone = true;
    this.#calls?.end(this);
    for (const { reject } of this.#pings.splice(0)) reject(this.#unanswered());
  }

  #unanswered() {
    return ended(this, 'the connection was closed before a ping was answered');
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
      /** The words of its id, low word first. */
      idWords: (conn) => [conn.#low, conn.#high],
      isLive: (conn) => conn.#isLive(),
      /** Whether a message with a status and this id answers a call; `settle` settles it. */
      isAnswer: (conn, id) => conn.#calls !== undefined && conn.#calls.knows(id),
      /** Makes a call the answer's own until it is over, when `release` is called. Returns false if nobody waits for the answer. */
      claim: (conn, { id }, release) => conn.#calls.claim(id, release),
      unclaim: (conn, { id }) => conn.#calls.unclaim(id),
      settle: (conn, meta, data) => conn.#calls.settle(meta.event, meta, data),
      /** The oldest ping was answered. */
      setPonged: (conn, rttMs) => conn.#pings.shift()?.resolve(rttMs),
      /** The rules by a policy that came into force. */
      setRules(conn, rules) {
        conn.#earlierRules = [...conn.#earlierRules.slice(1 - MOST_EARLIER), conn.#rules];
        conn.#rules = rules;
      },
      /** The rules that it had in a generation; `undefined`: it was not known then. */
      rulesIn: (conn, generation) =>
        generation === conn.#rules.generation ? conn.#rules : conn.#earlierRules.find((rules) => rules.generation === generation),
      hasFailed: (conn) => conn.#hasFailed,
      /** Whether its context is entered. */
      isInside: (conn) => conn === inside,
      /** Calls handlers in the connection's context, so that its AsyncLocalStorage is its own. */
      run(conn, call, a, b, c, d, e, f) {
        if (conn === inside) return call(a, b, c, d, e, f);
        const before = internals.enter(conn);
        try {
          return conn.#context.runInAsyncScope(call, undefined, a, b, c, d, e, f);
        } finally {
          inside = before;
        }
      },
      /** Records whose context is entered from here on, and returns whose it was before. */
      enter(conn) {
        const before = inside;
        inside = conn;
        return before;
      },
      /** Closes it with 1011, as a handler failed. */
      fail(conn) {
        if (conn.#hasFailed || !conn.#isLive()) return;
        conn.#hasFailed = true;
        conn.#outbox.fail(conn.#low, conn.#high);
        conn.#end();
      },
      /** Reports a message that the application's schema refused; `ends`: that closes the connection. */
      refuse(conn, { event, id }, ends) {
        conn.#outbox.flush();
        const idText = id === undefined ? undefined : JSON.stringify(id);
        native(() => conn.#native.refuse(conn.#low, conn.#high, event, idText));
        if (ends) conn.#end();
      },
      /** Ends it: the application did, or it had ended before JavaScript knew of it. */
      end: (conn) => conn.#end(),
      setUntold: (conn) => (conn.#isUntold = true),
      isUntold: (conn) => conn.#isUntold,
      /** Stops reading while messages wait for an asynchronous schema, also after `resume()`. */
      hold(conn, isHeld, onAsk) {
        conn.#onAsk = onAsk;
        conn.#setPaused(conn.#isPaused, isHeld);
      },
      /** Whether a call or a ping waits for its answer. */
      isAsking: (conn) => conn.#pings.length > 0 || conn.#calls?.isWaiting === true,
      setQueued(conn) {
        if (!conn.#isOver) conn.#isQueued = true;
      },
      /** Whether messages that were sent after a `drained` record was written wait again. */
      isStillQueued: (conn) => conn.#native.isQueued(conn.#low, conn.#high),
      /** The peer has read everything, or never will: settles `drained()`. */
      setDrained: (conn) => conn.#setDrained(),
      /** It is closed, while messages from before may still wait for their handlers. */
      setGone(conn, closing) {
        conn.#setGone();
        conn.#left = closing;
        conn.#ending?.settle(closing);
      },
      /** Its last handler is about to be called. */
      setClosed(conn, closing) {
        conn.#end();
        conn.#rooms = NO_ROOMS;
        conn.#left = closing;
        conn.#closing = closing;
        conn.#ending?.settle(closing);
      },
      forget: (conn) => void conn.#context.emitDestroy(),
    };
  }
}

/** The id to reply to. Refuses an id in place of the meta, which would make a reply without an id. */
function idIn(meta) {
  if (meta === undefined || (typeof meta === 'object' && meta !== null)) return meta?.id;
  throw failure('invalid_argument', `reply takes the meta of the message (with its id), got ${kindOf(meta)}`);
}

/** Errors of what is asked of a peer that a peer can cause: it leaves, or answers nothing. */
const OF_PEERS = new Set(['connection_closed', 'too_many_calls']);

/**
 * The promise of `begin()`. What a peer can cause ends no process whose application does not wait for the answer; `isRight`: the
 * application has made no mistake.
 */
function watched(begin, isRight = false) {
  let answer;
  try {
    answer = begin();
  } catch (error) {
    answer = Promise.reject(error);
    if (!isRight && !OF_PEERS.has(error?.code)) return answer;
  }
  answer.catch(() => {});
  return answer;
}

function withResolvers() {
  const deferred = {};
  deferred.promise = new Promise((resolve) => (deferred.resolve = resolve));
  return deferred;
}

module.exports = { Connection, EMIT, SEND, internals };
