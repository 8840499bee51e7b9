'use strict';
// Events on their way to handlers, in order: batches from the native side, one handler after the other.
//
// A handler that returns a promise is not waited for (as in `ws` and Socket.IO), but the microtasks and ticks that are
// ready run before the next handler, so that what it does synchronously after an `await` comes first.
//
// Each record is a try of its own: whatever is thrown costs the connection it belongs to, and the next record is handled.

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
/** Received binary messages are slices of a slab, like the chunks of Node's own sockets; large ones of a larger slab. */
const SLAB_BYTES = 64 * 1024;
const LARGE_SLAB_BYTES = 256 * 1024;
const LARGE_SLAB_MESSAGES = 16;
/** After this long the event loop's other work has its turn. */
const TURN_MS = 10;
const LOOK_EVERY = 32;

const READY = Promise.resolve();
// Captured: a test's fake timers must not stop a server.
const { nextTick } = process;
const now = performance.now.bind(performance);

/** What Node itself makes slices of Buffers with; `subarray` takes five times as long to get there. */
const Slice = Buffer[Symbol.species];

/**
 * Memory for received messages: zeroed, and no message that is moved to another thread takes the others with it. One byte is
 * never used, so that no message is the whole of it.
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
  #buffer = Buffer.alloc((RECORDS + 1) * 16);
  #words = new Uint32Array(this.#buffer.buffer, 0, (RECORDS + 1) * 4);
  #slab = newSlab(SLAB_BYTES);
  /** Its memory: the getter of a typed array is a call into C++, and each message needs it. */
  #memory = this.#slab.buffer;
  #slabEnd = 0;
  /** The bytes of a message that the slab had no room for: the next chunk gets a new one. */
  #missing = 0;
  #connections = [];

  // The chunk that is being handled.
  #count = 0;
  #at = 0;
  #text = '';
  #elements = [];
  #element = 0;
  #more = false;
  /** Users that were disconnected while it is handled: who is heard of in the rest of it was let in before. */
  #disconnected = new Set();
  /** When the event loop's other work has its turn again. */
  #turnEnd = 0;

  #isBusy = false;
  #events;
  /** The context of whoever started the server. Everything runs in it, but handlers: each connection has its own. */
  #context = new AsyncResource('WSGUARDSERVER');
  #resume = () => {
    this.#turnEnd = now() + TURN_MS;
    this.#goOn();
  };
  #goOn = () => this.inContext(() => this.#handle());
  /** Still the same turn: the event loop does nothing else while there are microtasks and ticks. */
  #afterMicrotasks = () => nextTick(this.#goOn);

  /** `sink` is told what happens: see `Happenings`. `events` are the names of the contract's events by number. */
  constructor(native, outbox, events, sink) {
    this.#native = native;
    this.#outbox = outbox;
    this.#events = events;
    this.#sink = sink;
  }

  /** There may be events. */
  wake = () => {
    if (!this.#isBusy) this.#resume();
  };

  /** Calls something outside of the context of whichever handler runs now. */
  inContext(call) {
    const before = internals.enter(undefined);
    try {
      return this.#context.runInAsyncScope(call);
    } finally {
      internals.enter(before);
    }
  }

  /** Every connection that was told of, by place; undefined where a place is free. */
  known() {
    return this.#connections;
  }

  /** The connection in a place of the native table. */
  connection(place) {
    return this.#connections[place];
  }

  *connections() {
    this.inContext(() => {
      this.#catchUp();
      this.reveal(this.#native.reveal());
    });
    for (const conn of this.#connections) if (conn !== undefined) yield conn;
  }

  /** Learns of connections that were withheld because there was nothing to tell of them. */
  reveal(revealed) {
    if (revealed === null) return;
    this.inContext(() => {
      for (const [place, low, high, opened] of JSON.parse(revealed)) {
        this.#connections[place] = this.#sink.makeConnection(low, high, opened, false);
      }
    });
  }

  /** Nothing more is handled as this user, whatever was read before. The native side knows of what it has not told. */
  disconnect(user) {
    for (const conn of this.#connections) if (conn?.user === user) internals.end(conn);
    if (this.#at < this.#count) this.#disconnected.add(user);
  }

  /** Handles what nobody hears of up to the first event that somebody does, which has a turn of its own. */
  #catchUp() {
    if (this.#isBusy) return;
    // From here on: taking events may call a listener of `error`, which may come here.
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

  /** Handles what there is. `true`: there may be more, for a turn of its own. */
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
    this.#isBusy = false;
    this.#outbox.held = false;
    this.#outbox.flush();
    return false;
  }

  /** Fetches a chunk. `false`: there is none, and the native side will wake us. */
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

  /** Handles what is left of the chunk; undefined: all of it. Else it goes on after microtasks, or after a turn (`true`). */
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
   * The end of the run of messages that begins at the next record: all are of the connection in `place`. The clock is looked
   * at behind it. It is empty where no message comes next.
   */
  #runEnd(place) {
    const words = this.#words;
    const most = Math.min(this.#count, this.#at - (this.#at % LOOK_EVERY) + LOOK_EVERY);
    let end = this.#at;
    if (this.#connections[place] === undefined) return end;
    while (end < most && words[end * 4 + 4] <= records.MESSAGE && words[end * 4 + 5] === place) end += 1;
    return end;
  }

  /** Handles messages of one connection up to a record, in its context, which is entered once for all of them. */
  #handleRun(conn, end) {
    try {
      return internals.run(conn, this.#handleMessages, conn, end);
    } catch (error) {
      // Handlers are called in a `try` of their own: there was no message to call them with.
      this.#sink.onFault(this.#slab.length === 0 ? moved(error) : error, conn);
      return false;
    }
  }

  /** `true`: a handler returned a promise. */
  #handleMessages = (conn, end) => {
    while (this.#at < end) if (this.#handleMessage(conn) === true) return true;
    return false;
  };

  #handleMessage(conn) {
    const words = this.#words;
    const word = ++this.#at * 4;
    const kind = words[word];
    const [start, length] = [words[word + 2], words[word + 3]];
    // Not within the `try`, where V8 takes half as long again to make it.
    const bytes = kind === records.BINARY ? new Slice(this.#memory, start, length) : undefined;
    try {
      if (kind === records.BINARY) return this.#sink.onRaw(conn, bytes, true);
      if (kind === records.TEXT) return this.#sink.onRaw(conn, this.#text.substring(start, start + length), false);
      return this.#event(conn, start, length);
    } catch (error) {
      this.#sink.onFault(error, conn);
      return false;
    }
  }

  /** Handles the next record, whatever that throws; `true`: its handler returned a promise. */
  #guarded() {
    const words = this.#words;
    // Of no connection that is known: it has no context to enter.
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

  /** The event loop's other work has its turn, and what was said so far goes out. */
  #yield() {
    try {
      this.#outbox.flush();
    } catch (error) {
      this.#sink.onFault(error);
    } finally {
      setImmediate(this.#resume);
    }
  }

  /** Handles one record that is no message; `true`: its handler returned a promise. */
  #record(kind, place, a, b) {
    switch (kind) {
      case records.OPEN:
        return this.#sink.onOpen(this.#introduce(place, a, b));
      case records.KNOWN:
        this.#introduce(place, a, b);
        return undefined;
      case records.CLOSE:
        return this.#close(place, a, b);
      case records.UPGRADE:
        return this.#sink.onUpgrade(a, b, this.#next());
      case records.VIOLATION:
        return this.#sink.onViolation(this.#next(), this.#connections[place]);
      case records.DRAINED:
        return this.#sink.onDrained(this.#connections[place]);
      case records.STOPPED:
        return this.#sink.onStopped();
    }
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

  #introduce(place, low, high) {
    const opened = this.#next();
    const isRevoked = opened[7] || (this.#disconnected.size > 0 && this.#disconnected.has(opened[2]));
    const conn = this.#sink.makeConnection(low, high, opened, isRevoked);
    this.#connections[place] = conn;
    return conn;
  }

  #close(place, code, clean) {
    const conn = this.#connections[place];
    this.#connections[place] = undefined;
    return this.#sink.onClose(conn, code, this.#next(), clean === 1);
  }
}

/** What a handler did to the memory of received messages took others that had not been handled. */
function moved(cause) {
  const message = 'the memory of received messages was moved away: copy a message (Buffer.from) before its buffer is transferred';
  return failure('invalid_argument', message, undefined, cause);
}

module.exports = { Inbox };
