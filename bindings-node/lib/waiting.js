'use strict';
// Queues what waits for a promise (a message whose schema is asynchronous, the handlers of `open`), and later messages of the same
// connection, so that its order stays. Reading from the peer stops when the queue is long. Queued bytes count towards
// `maxInboxBytes`. Other connections do not wait.

const { performance } = require('node:perf_hooks');
const { setTimeout, clearTimeout } = require('node:timers');
const { internals } = require('./connection.js');

/** Beyond these, or the native side's limit in bytes, reading from the peer stops. */
const MOST_MESSAGES = 64;
/** So many times as much waits while a call or a ping is under way: its answer is behind what waits. */
const WHILE_ASKING = 4;
/** How long a promise that does not settle may delay the close of its connection. */
const TIMEOUT_MS = 10_000;

const now = performance.now.bind(performance);
// Captured, as the timers are: fake ones of a test must not hold messages.
const { nextTick } = process;
/** Resolves when the microtasks and ticks that are ready have run: as between two handlers of the inbox. */
const othersHaveRun = () => new Promise((resolve) => nextTick(resolve));

class Waiting {
  #native;
  #fail;
  /** The queue of each connection; the first message is worked on. */
  #queues = new Map();
  #whenEmpty;
  #isOver = false;
  /** The bytes that may wait of one connection. One message always may; reading stops behind it. */
  #mostBytes;
  /** When a drain ends: no close waits longer. */
  #until = Infinity;

  /** `fail(error, conn, event)` handles an error. */
  constructor(native, fail) {
    this.#native = native;
    this.#fail = fail;
    this.readLimit();
  }

  /** At the start, and behind a reload. */
  readLimit() {
    this.#mostBytes = this.#native.maxWaitingBytes();
  }

  get isEmpty() {
    return this.#queues.size === 0;
  }

  /**
   * Begins to wait for `judgement`. A message has `event` and `bytes`; `judge()` gives the value or promise that it waits for in
   * its turn, and `settle(result)` handles it; it returns true if a handler returned a promise.
   */
  begin(conn, message, judgement) {
    const queue = { messages: [], bytes: 0, isHeld: false, close: undefined, timer: undefined };
    this.#queues.set(conn, queue);
    this.#add(conn, queue, message);
    void this.#work(conn, queue, judgement);
  }

  has(conn) {
    return this.#queues.has(conn);
  }

  /** Queues a message behind those that wait. Returns false if none does. */
  follow(conn, message) {
    const queue = this.#queues.size === 0 ? undefined : this.#queues.get(conn);
    if (queue === undefined) return false;
    this.#add(conn, queue, message);
    return true;
  }

  /** Calls `close` behind the messages that wait, or at once if they must not be handled. Returns false if none waits. */
  close(conn, isPointless, close) {
    const queue = this.#queues.size === 0 ? undefined : this.#queues.get(conn);
    if (queue === undefined) return false;
    queue.close = close;
    if (isPointless || this.#isOver) this.#end(conn, queue);
    else this.#arm(conn, queue);
    return true;
  }

  #arm(conn, queue) {
    clearTimeout(queue.timer);
    const left = Math.max(0, this.#until - now());
    queue.timer = setTimeout(() => this.#end(conn, queue), Math.min(TIMEOUT_MS, left));
  }

  /** The server drains until then: no close waits longer. */
  endBy(until) {
    this.#until = Math.min(this.#until, until);
    for (const [conn, queue] of this.#queues) if (queue.close !== undefined) this.#arm(conn, queue);
  }

  /** The server stops at once: no close waits any longer. */
  stop() {
    this.#isOver = true;
    for (const [conn, queue] of this.#queues) if (queue.close !== undefined) this.#end(conn, queue);
  }

  /** No message of these connections that waits is handled, also not of those that have closed. */
  endOf(isMeant) {
    for (const [conn, queue] of this.#queues) {
      if (!isMeant(conn)) continue;
      internals.end(conn);
      if (queue.close !== undefined) this.#end(conn, queue);
    }
  }

  /** Calls `done` once nothing waits. */
  whenEmpty(done) {
    if (this.#queues.size === 0) done();
    else this.#whenEmpty = done;
  }

  #add(conn, queue, message) {
    queue.messages.push(message);
    queue.bytes += message.bytes;
    this.#native.keep(message.bytes);
    if (!queue.isHeld && this.#isMuch(conn, queue)) {
      queue.isHeld = true;
      internals.hold(conn, true, () => this.#weigh(conn, queue));
    }
  }

  /** A call or ping has begun: reads on unless too much waits even so. */
  #weigh(conn, queue) {
    if (!queue.isHeld || this.#isMuch(conn, queue)) return;
    queue.isHeld = false;
    internals.hold(conn, false);
  }

  #isMuch(conn, queue) {
    const times = internals.isAsking(conn) ? WHILE_ASKING : 1;
    return queue.messages.length >= MOST_MESSAGES * times || queue.bytes >= this.#mostBytes * times;
  }

  #take(queue) {
    const message = queue.messages.shift();
    queue.bytes -= message.bytes;
    this.#native.release(message.bytes);
  }

  async #work(conn, queue, judgement) {
    for (let answer = judgement; ; answer = undefined) {
      const [message] = queue.messages;
      try {
        const result = await (answer ?? message.judge());
        // The queue was ended meanwhile, and its messages discarded.
        if (queue.messages[0] !== message) return;
        // A handler that fails behind an `await` of something settled, as within a middleware, is the last one that is called.
        if (internals.isLive(conn) && message.settle(result) === true) await othersHaveRun();
      } catch (error) {
        this.#fail(error, conn, message.event);
      }
      if (queue.messages[0] !== message) return;
      this.#take(queue);
      if (queue.messages.length === 0 || !internals.isLive(conn)) return this.#end(conn, queue);
    }
  }

  #end(conn, queue) {
    if (this.#queues.get(conn) !== queue) return;
    this.#queues.delete(conn);
    clearTimeout(queue.timer);
    while (queue.messages.length > 0) this.#take(queue);
    try {
      if (queue.isHeld) internals.hold(conn, false);
    } finally {
      queue.close?.();
      const done = this.#whenEmpty;
      if (this.#queues.size === 0 && done !== undefined) {
        this.#whenEmpty = undefined;
        done();
      }
    }
  }
}

module.exports = { Waiting };
