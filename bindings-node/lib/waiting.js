'use strict';
// Messages whose schema answers later, and what comes behind them: each connection's order stays, its peer is held back
// when much waits, and what waits counts towards `maxInboxBytes`. Of other connections nobody waits.

const { performance } = require('node:perf_hooks');
const { setTimeout, clearTimeout } = require('node:timers');
const { internals } = require('./connection.js');

/** Beyond these, or the bytes that the native side says, the peer is not read. */
const MOST_MESSAGES = 64;
/** A schema that does not answer keeps the end of its connection back for no longer. */
const PATIENCE_MS = 10_000;

const now = performance.now.bind(performance);

class Waiting {
  #native;
  #settle;
  #fail;
  /** By connection: what waits, the first of which is at work. */
  #queues = new Map();
  #whenEmpty;
  #isOver = false;
  /** What of one connection may wait. One message always may: its peer is held back behind it. */
  #mostBytes;
  /** When a drain is over: nothing that is closed waits beyond. */
  #until = Infinity;

  /** `settle(conn, message, result)` handles a message that was judged; `fail(error, conn)` hears what throws. */
  constructor(native, settle, fail) {
    this.#native = native;
    this.#mostBytes = native.maxWaitingBytes();
    this.#settle = settle;
    this.#fail = fail;
  }

  get isEmpty() {
    return this.#queues.size === 0;
  }

  /** Begins to wait for the judgement of a message. */
  begin(conn, message, judgement) {
    const queue = { messages: [], bytes: 0, isHeld: false, close: undefined, timer: undefined };
    this.#queues.set(conn, queue);
    this.#add(conn, queue, message);
    void this.#work(conn, queue, judgement);
  }

  /** Puts a message (its `bytes`, which count, and `judge`) behind those that wait; `false`: none does. */
  follow(conn, message) {
    const queue = this.#queues.size === 0 ? undefined : this.#queues.get(conn);
    if (queue === undefined) return false;
    this.#add(conn, queue, message);
    return true;
  }

  /** Calls `close` behind what waits, or at once when that has become pointless; `false`: nothing waits. */
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
    queue.timer = setTimeout(() => this.#end(conn, queue), Math.min(PATIENCE_MS, left));
  }

  /** The server drains until then: its end must not wait any longer. */
  endBy(until) {
    this.#until = Math.min(this.#until, until);
    for (const [conn, queue] of this.#queues) if (queue.close !== undefined) this.#arm(conn, queue);
  }

  /** The server ends at once: nothing that is closed waits any longer. */
  stop() {
    this.#isOver = true;
    for (const [conn, queue] of this.#queues) if (queue.close !== undefined) this.#end(conn, queue);
  }

  /** The user was disconnected: nothing that waits is handled as this user, also of connections that have closed. */
  endOf(user) {
    for (const [conn, queue] of this.#queues) {
      if (conn.user !== user) continue;
      internals.end(conn);
      if (queue.close !== undefined) this.#end(conn, queue);
    }
  }

  /** Calls `done` when nothing waits any more. */
  whenEmpty(done) {
    if (this.#queues.size === 0) done();
    else this.#whenEmpty = done;
  }

  #add(conn, queue, message) {
    queue.messages.push(message);
    queue.bytes += message.bytes;
    this.#native.keep(message.bytes);
    const isMuch = queue.messages.length >= MOST_MESSAGES || queue.bytes >= this.#mostBytes;
    if (isMuch && !queue.isHeld) {
      queue.isHeld = true;
      internals.hold(conn, true);
    }
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
        // Whoever gave up on the wait has taken the messages.
        if (queue.messages[0] !== message) return;
        if (internals.isLive(conn)) this.#settle(conn, message, result);
      } catch (error) {
        this.#fail(error, conn);
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
