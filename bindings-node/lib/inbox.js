'use strict';
// Events on their way to handlers, in order: batches from the native side, one handler after the other.
//
// Nothing awaits the promise of a handler (as in `ws` and Socket.IO), but ready microtasks and ticks run before the next
// handler, so that code behind an `await` of something settled runs first.
//
// Each record is handled in a try of its own: an error closes the connection of the record, and the next record is handled.

const { AsyncResource } = require('node:async_hooks');
const { performance } = require('node:perf_hooks');
const { setImmediate } = require('node:timers');
const { markAsUntransferable } = require('node:worker_threads');
const { keepSlab } = require('./bytes.js');
const { internals } = require('./connection.js');
const { failure } = require('./errors.js');
const records = require('./records.js');
const { Meta } = require('./meta.js');

const RECORDS = 1024;
/** Received binary messages are slices of a slab, as the chunks of Node's own sockets are; large ones of a larger slab. */
const SLAB_BYTES = 64 * 1024;
const LARGE_SLAB_BYTES = 256 * 1024;
const LARGE_SLAB_MESSAGES = 16;
/** After this long the inbox yields to the event loop. */
const TURN_MS = 10;
const LOOK_EVERY = 32;

const NOBODY = new Set();
/** A connection closes for no fault of a frame. */
const NO_FAULT = [null, null];
const READY = Promise.resolve();
// Captured: a test's fake timers must not stop a server.
const { nextTick } = process;
const now = performance.now.bind(performance);

/** The class that Node itself makes slices of Buffers with; `subarray` takes five times as long. */
const Slice = Buffer[Symbol.species];

/**
 * Allocates memory for received messages. It is zeroed and cannot be transferred to another thread, as the transfer of one
 * message would take the others with it. One byte is never used, so that no message spans all of it.
 */
function newSlab(bytes) {
  const slab = Buffer.alloc(bytes + 1).subarray(0, bytes);
  markAsUntransferable(slab.buffer);
  keepSlab(slab);
  return slab;
}

class Inbox {
  #native;
  #outbox;
  #sink;
  #contexts;
  #buffer = Buffer.alloc((RECORDS + 1) * 16);
  #words = new Uint32Array(this.#buffer.buffer, 0, (RECORDS + 1) * 4);
  #slab = newSlab(SLAB_BYTES);
  /** Its memory: the getter of a typed array is a call into C++, and each message needs it. */
  #memory = this.#slab.buffer;
  #slabEnd = 0;
  /** The size of a message that did not fit into the slab; the next chunk gets a new slab. */
  #missing = 0;
  #connections = [];
  /** Those of each user, from the first question on: to look at all for each would take milliseconds where there are 100 000. */
  #byUser;
  /** By id, from the first question on. */
  #byId;

  // The chunk that is being handled.
  #count = 0;
  #at = 0;
  #text = '';
  #elements = [];
  #element = 0;
  #more = false;
  /** Users that were disconnected since the chunk was taken: connections that open in the rest of it were let in before. */
  #disconnected = new Set();
  /** When the inbox yields to the event loop. */
  #turnEnd = 0;

  #isBusy = false;
  #events;
  /** The context in which the server was started. Everything but handlers runs in it; each connection has its own. */
  #context = new AsyncResource('WSGUARDSERVER');
  #resume = () => {
    this.#turnEnd = now() + TURN_MS;
    this.#goOn();
  };
  #goOn = () => this.inContext(() => this.#handle());
  /** Still the same turn: the event loop does nothing else while there are microtasks and ticks. */
  #afterMicrotasks = () => nextTick(this.#goOn);

  /**
   * `sink` handles each record: see `Happenings`. `events` are the names of the contract's events by number. `contexts` enters the
   * contexts of connections (`enter`, `run`) and ends them (`end`).
   */
  constructor(native, outbox, events, sink, contexts = internals) {
    this.#native = native;
    this.#outbox = outbox;
    this.#events = events;
    this.#sink = sink;
    this.#contexts = contexts;
  }

  /** Called when there may be events. */
  wake = () => {
    if (!this.#isBusy) this.#resume();
  };

  /** Calls a function in the context of the server instead of the running handler's. */
  inContext(call) {
    const before = this.#contexts.enter(undefined);
    try {
      return this.#context.runInAsyncScope(call);
    } finally {
      this.#contexts.enter(before);
    }
  }

  /** Every connection that JavaScript knows, by place; undefined where a place is free. */
  known() {
    return this.#connections;
  }

  /** The connection in a place of the native table. */
  connection(place) {
    return this.#connections[place];
  }

  *connections() {
    this.announceAll();
    for (const conn of this.#connections) if (conn !== undefined) yield conn;
  }

  /** The connections of a user, all of those that have opened. */
  ofUser(user) {
    this.announceAll();
    if (this.#byUser === undefined) {
      this.#byUser = new Map();
      for (const conn of this.#connections) if (conn !== undefined) this.#index(conn);
    }
    return this.#byUser.get(user) ?? NOBODY;
  }

  /** The connection with this id that `connections` lists: the native side forgets one before its close is handled here. */
  ofId(id) {
    this.announceAll();
    if (this.#byId === undefined) {
      this.#byId = new Map();
      for (const conn of this.#connections) if (conn !== undefined) this.#byId.set(conn.id, conn);
    }
    return this.#byId.get(id);
  }

  #index(conn) {
    const { user } = conn;
    if (user === null) return;
    const all = this.#byUser.get(user);
    if (all === undefined) this.#byUser.set(user, new Set([conn]));
    else all.add(conn);
  }

  #unindex(conn) {
    const all = this.#byUser.get(conn.user);
    all?.delete(conn);
    if (all?.size === 0) this.#byUser.delete(conn.user);
  }

  #keep(place, conn) {
    this.#connections[place] = conn;
    this.#byId?.set(conn.id, conn);
    if (this.#byUser !== undefined) this.#index(conn);
  }

  /** Makes all connections known that have opened. */
  announceAll() {
    this.inContext(() => {
      this.#catchUp();
      this.announce(this.#native.announce());
    });
  }

  /** Makes connections whose opens the native side had deferred: JSON, or null for none. */
  announce(announced) {
    if (announced === null) return;
    this.inContext(() => {
      for (const [place, low, high, opened] of JSON.parse(announced)) {
        this.#keep(place, this.#sink.makeConnection(low, high, opened, false));
      }
    });
  }

  /** Ends the connections of a user, and those that the rest of the chunk opens. The native side marks later ones. */
  disconnect(user) {
    this.end((conn) => conn.user === user);
    if (this.#at < this.#count) this.#disconnected.add(user);
  }

  /** Ends connections: nothing of them is handled any more. */
  end(isMeant) {
    for (const conn of this.#connections) if (conn !== undefined && isMeant(conn)) this.#contexts.end(conn);
  }

  /** Handles events without a listener, up to the first one that has some; that one is handled in a later turn. */
  #catchUp() {
    if (this.#isBusy) return;
    // Set before events are taken: that may call a listener of `error`, which may call this again.
    this.#isBusy = true;
    let hasEvents = true;
    try {
      hasEvents = this.#take();
      const words = this.#words;
      while (this.#at < this.#count && !this.#sink.hears(words[this.#at * 4 + 4])) this.#guarded();
    } finally {
      if (hasEvents) setImmediate(this.#resume);
      else this.#isBusy = false;
    }
  }

  #handle() {
    this.#isBusy = true;
    this.#outbox.held = true;
    let goesOn = true;
    try {
      goesOn = this.#handleAll();
    } catch (error) {
      this.#sink.onFault(error);
    } finally {
      if (goesOn) this.#yield();
    }
  }

  /** Handles all events. Returns true if it stopped early, and the rest needs another turn. */
  #handleAll() {
    const end = this.#turnEnd;
    for (;;) {
      if (this.#at === this.#count) {
        if (now() > end) return true;
        if (!this.#take()) break;
      }
      const result = this.#handleChunk(end);
      if (result !== undefined) return result;
    }
    if (this.#sink.onFlushed !== undefined) {
      this.#outbox.flush();
      this.#sink.onFlushed();
    }
    this.#isBusy = false;
    this.#outbox.held = false;
    this.#outbox.flush();
    return false;
  }

  /** Takes a chunk. Returns false if there is none; then the native side will call `wake`. */
  #take() {
    const isNew = !this.#more;
    if (isNew) this.#outbox.flush();
    if (this.#missing > 0 || this.#slab.length === 0) this.#renewSlab(this.#missing);
    this.#at = this.#count;
    this.#disconnected.clear();
    const text = this.#native.take(this.#buffer, this.#slab, this.#slabEnd);
    const words = this.#words;
    this.#more = (words[1] & records.MORE) !== 0;
    this.#slabEnd = words[2];
    this.#missing = words[3];
    this.#count = 0;
    this.#at = 0;
    if (text !== null) {
      if ((words[1] & 0xff) === records.JSON_TEXT) {
        this.#elements = JSON.parse(text);
        this.#element = 0;
      } else this.#text = text;
    }
    this.#count = words[0];
    return this.#count > 0 || this.#more;
  }

  #renewSlab(bytes) {
    const wanted = Math.max(SLAB_BYTES, Math.min(bytes * LARGE_SLAB_MESSAGES, LARGE_SLAB_BYTES), bytes);
    this.#slab = newSlab(wanted);
    this.#memory = this.#slab.buffer;
    this.#slabEnd = 0;
  }

  /** Handles the rest of the chunk. Returns undefined at its end, false to go on after microtasks, true after another turn. */
  #handleChunk(end) {
    while (this.#at < this.#count) {
      const place = this.#words[this.#at * 4 + 5];
      const runEnd = this.#runEnd(place);
      if ((runEnd > this.#at ? this.#handleRun(this.#connections[place], runEnd) : this.#guarded()) === true) {
        if (now() > end) return true;
        READY.then(this.#afterMicrotasks);
        return false;
      }
      if (this.#at % LOOK_EVERY === 0 && now() > end) return true;
    }
    return undefined;
  }

  /**
   * The end of the run of messages that begins at the next record: all belong to the connection in `place`. The run is empty
   * if the next record is not a message. It is short enough that the clock may be read only behind it.
   */
  #runEnd(place) {
    const words = this.#words;
    const most = Math.min(this.#count, this.#at - (this.#at % LOOK_EVERY) + LOOK_EVERY);
    let end = this.#at;
    if (this.#connections[place] === undefined) return end;
    while (end < most && words[end * 4 + 4] <= records.MESSAGE && words[end * 4 + 5] === place) end += 1;
    return end;
  }

  /** Handles the run up to `end` in the connection's context, which is entered once for all of its messages. */
  #handleRun(conn, end) {
    try {
      return this.#contexts.run(conn, this.#handleMessages, conn, end);
    } catch (error) {
      // Handlers run in a `try` of their own: what failed was to make the message, as the slab is gone.
      this.#sink.onFault(this.#slab.length === 0 ? moved(error) : error, conn);
      return false;
    }
  }

  /** Returns true, and stops, if a handler returned a promise. */
  #handleMessages = (conn, end) => {
    while (this.#at < end) if (this.#handleMessage(conn) === true) return true;
    return false;
  };

  #handleMessage(conn) {
    const words = this.#words;
    const word = ++this.#at * 4;
    const kind = words[word];
    const [start, length] = [words[word + 2], words[word + 3]];
    // Outside of the `try`: within it V8 does not inline this constructor, and takes half as long again.
    const bytes = kind === records.BINARY || kind === records.TEXT_BYTES ? new Slice(this.#memory, start, length) : undefined;
    try {
      if (bytes !== undefined) return this.#sink.onRaw(conn, bytes, kind === records.BINARY);
      if (kind === records.TEXT) return this.#sink.onRaw(conn, this.#text.substring(start, start + length), false);
      return this.#event(conn, start, length);
    } catch (error) {
      this.#sink.onFault(error, conn);
      return false;
    }
  }

  /** Handles the next record and any error of it. Returns true if its handler returned a promise. */
  #guarded() {
    const words = this.#words;
    // Its connection is unknown: there is no context to enter.
    if (words[this.#at * 4 + 4] <= records.MESSAGE) return this.#handleMessage(undefined);
    const word = ++this.#at * 4;
    const place = words[word + 1];
    try {
      return this.#record(words[word], place, words[word + 2], words[word + 3]);
    } catch (error) {
      this.#sink.onFault(error, this.#connections[place]);
      return false;
    }
  }

  /** Sends what was gathered, and yields to the event loop. */
  #yield() {
    try {
      this.#outbox.flush();
      // Peers that keep this busy must not keep it from others: that those were written to is told here as well.
      this.#sink.onFlushed?.();
    } catch (error) {
      this.#sink.onFault(error);
    } finally {
      setImmediate(this.#resume);
    }
  }

  /** Handles a record that is not a message. Returns true if its handler returned a promise. */
  #record(kind, place, a, b) {
    switch (kind) {
      case records.OPEN:
        return this.#sink.onOpen(this.#makeConnection(place, a, b));
      case records.ANNOUNCE:
        this.#makeConnection(place, a, b);
        return undefined;
      case records.CLOSE:
        return this.#close(place, a, b);
      case records.UPGRADE:
        return this.#sink.onUpgrade(a, b, this.#next());
      case records.VIOLATION:
        return this.#sink.onViolation(this.#next(), this.#connections[place]);
      case records.CLOSING:
        return this.#sink.onClosing(this.#connections[place], a === 1 ? this.#next() : NO_FAULT);
      case records.DRAINED:
        return this.#sink.onDrained(this.#connections[place]);
      case records.PONG:
        return this.#sink.onPong(this.#connections[place], (a + b * 2 ** 32) / 1e6);
      case records.UPGRADE_GONE:
        return this.#sink.onUpgradeGone(a, b);
      case records.PEER_PING:
      case records.PEER_PONG:
        return this.#control(kind, this.#connections[place], a, b);
      case records.PIPE_READY:
        return this.#sink.onPipeReady(a, b);
      case records.PIPE_ROOM:
        return this.#sink.onPipeRoom(a, b);
      case records.ADOPTION_ENDED:
        return this.#sink.onAdoptionEnded(a, b);
      case records.JUDGED_BY:
        return void this.#sink.onJudgedBy(a);
      case records.STOPPED:
        return this.#sink.onStopped();
    }
  }

  /** A ping or pong of the peer, in the context of its connection. */
  #control(kind, conn, start, length) {
    if (conn === undefined) return undefined;
    const payload = new Slice(this.#memory, start, length);
    return this.#contexts.run(conn, () => this.#sink.onControl(conn, payload, kind === records.PEER_PING));
  }

  #next() {
    return this.#elements[this.#element++];
  }

  #event(conn, word, bytes) {
    const number = word & records.UNKNOWN_EVENT;
    const isListed = number !== records.UNKNOWN_EVENT;
    const event = isListed ? this.#events[number] : this.#next();
    const data = this.#next();
    const id = (word & records.HAS_ID) !== 0 ? this.#next() : undefined;
    const status = (word & records.STATUS_OK) !== 0 ? 'ok' : (word & records.STATUS_ERROR) !== 0 ? 'error' : undefined;
    return this.#sink.onMessage(conn, number, data, new Meta(event, id, status, bytes));
  }

  #makeConnection(place, low, high) {
    const opened = this.#next();
    const isRevoked = opened[7] || (this.#disconnected.size > 0 && this.#disconnected.has(opened[2]));
    const conn = this.#sink.makeConnection(low, high, opened, isRevoked);
    this.#keep(place, conn);
    return conn;
  }

  #close(place, code, clean) {
    const conn = this.#connections[place];
    this.#connections[place] = undefined;
    const closing = { reason: this.#next(), clean: clean === 1, verdict: this.#next() };
    const peer = this.#next();
    // One that could not be made is unknown.
    if (conn !== undefined) this.#byId?.delete(conn.id);
    if (conn !== undefined && this.#byUser !== undefined) this.#unindex(conn);
    return this.#sink.onClose(conn, code, closing, peer);
  }
}

/** A handler has moved the slab away, and with it messages that were not handled yet. */
function moved(cause) {
  const message = 'the memory of received messages was moved away: copy a message (Buffer.from) before its buffer is transferred';
  return failure('invalid_argument', message, undefined, cause);
}

module.exports = { Inbox };
