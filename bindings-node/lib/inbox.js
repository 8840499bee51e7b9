'use strict';
// Events on their way to handlers, in order: batches from the native side, one handler after the other.
//
// A handler that returns a promise is not waited for (as in `ws` and Socket.IO), but the microtasks and ticks that are
// ready run before the next handler, so that what it does synchronously after an `await` comes first.

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

/** What Node itself makes slices of Buffers with; `subarray` takes five times as long to get there. */
const Slice = Buffer[Symbol.species];

class Inbox {
  #native;
  #outbox;
  #sink;
  #buffer = Buffer.allocUnsafeSlow((RECORDS + 1) * 16);
  #words = new Uint32Array(this.#buffer.buffer, 0, (RECORDS + 1) * 4);
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
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

  #isBusy = false;
  #events;
  #resume = () => this.#handle();
  #afterMicrotasks = () => process.nextTick(this.#resume);

  /** `sink` is told what happens: see `Server`. `events` are the names of the contract's events by number. */
  constructor(native, outbox, events, sink) {
    this.#native = native;
    this.#outbox = outbox;
    this.#events = events;
    this.#sink = sink;
  }

  /** There may be events. */
  wake = () => {
    if (!this.#isBusy) this.#handle();
  };

  /** The connection in a place of the native table. */
  connection(place) {
    return this.#connections[place];
  }

  *connections() {
    this.#catchUp();
    this.reveal();
    for (const conn of this.#connections) if (conn !== undefined) yield conn;
  }

  /** Learns of the connections that were withheld because there was nothing to tell of them. */
  reveal() {
    const revealed = this.#native.reveal();
    if (revealed === null) return;
    for (const [place, low, high, opened] of JSON.parse(revealed)) {
      this.#connections[place] = this.#sink.makeConnection(low, high, opened);
    }
  }

  /** Handles what nobody hears of up to the first event that somebody does, which has a turn of its own. */
  #catchUp() {
    if (this.#isBusy || !this.#take()) return;
    this.#isBusy = true;
    const words = this.#words;
    while (this.#at < this.#count && !this.#sink.hears(words[this.#at * 4 + 4])) {
      const word = ++this.#at * 4;
      this.#record(words[word], words[word + 1], words[word + 2], words[word + 3]);
    }
    setImmediate(this.#resume);
  }

  #handle() {
    this.#isBusy = true;
    this.#outbox.held = true;
    const end = performance.now() + TURN_MS;
    for (;;) {
      if (this.#at === this.#count) {
        if (performance.now() > end) return this.#yield();
        if (!this.#take()) break;
      }
      if (!this.#handleChunk(end)) return;
    }
    this.#isBusy = false;
    this.#outbox.held = false;
    this.#outbox.flush();
  }

  /** Fetches a chunk. `false`: there is none, and the native side will wake us. */
  #take() {
    if (!this.#more) this.#outbox.flush();
    if (this.#missing > 0) this.#newSlab(this.#missing);
    const text = this.#native.take(this.#buffer, this.#slab, this.#slabEnd);
    const words = this.#words;
    this.#count = words[0];
    this.#at = 0;
    this.#more = (words[1] & records.MORE) !== 0;
    this.#slabEnd = words[2];
    this.#missing = words[3];
    if (text !== null) {
      if ((words[1] & 0xff) === records.JSON_TEXT) {
        this.#elements = JSON.parse(text);
        this.#element = 0;
      } else this.#text = text;
    }
    return this.#count > 0 || this.#more;
  }

  #newSlab(bytes) {
    const wanted = Math.max(SLAB_BYTES, Math.min(bytes * LARGE_SLAB_MESSAGES, LARGE_SLAB_BYTES), bytes);
    this.#slab = Buffer.allocUnsafeSlow(wanted);
    this.#slabEnd = 0;
  }

  /** Handles what is left of the chunk. `false`: it goes on later, after microtasks or after the event loop's turn. */
  #handleChunk(end) {
    const words = this.#words;
    while (this.#at < this.#count) {
      const word = ++this.#at * 4;
      const result = this.#record(words[word], words[word + 1], words[word + 2], words[word + 3]);
      if (result === true) {
        READY.then(this.#afterMicrotasks);
        return false;
      }
      if (this.#at % LOOK_EVERY === 0 && performance.now() > end) {
        this.#yield();
        return false;
      }
    }
    return true;
  }

  /** The event loop's other work has its turn, and what was said so far goes out. */
  #yield() {
    this.#outbox.flush();
    setImmediate(this.#resume);
  }

  /** Handles one record; `true`: its handler returned a promise. */
  #record(kind, place, a, b) {
    switch (kind) {
      case records.BINARY:
        return this.#sink.onRaw(this.#connections[place], new Slice(this.#slab.buffer, a, b), true);
      case records.TEXT:
        return this.#sink.onRaw(this.#connections[place], this.#text.substring(a, a + b), false);
      case records.MESSAGE:
        return this.#message(place, a, b);
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

  #message(place, word, bytes) {
    const number = word & records.UNKNOWN_EVENT;
    const isListed = number !== records.UNKNOWN_EVENT;
    const event = isListed ? this.#events[number] : this.#next();
    const data = this.#next();
    const id = (word & records.HAS_ID) !== 0 ? this.#next() : undefined;
    const status = (word & records.STATUS_OK) !== 0 ? 'ok' : (word & records.STATUS_ERROR) !== 0 ? 'error' : undefined;
    return this.#sink.onMessage(this.#connections[place], number, data, new Meta(event, id, status, bytes));
  }

  #introduce(place, low, high) {
    const conn = this.#sink.makeConnection(low, high, this.#next());
    this.#connections[place] = conn;
    return conn;
  }

  #close(place, code, clean) {
    const conn = this.#connections[place];
    this.#connections[place] = undefined;
    return this.#sink.onClose(conn, code, this.#next(), clean === 1);
  }
}

module.exports = { Inbox };
