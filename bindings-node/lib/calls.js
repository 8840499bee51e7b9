'use strict';
// Requests of the server to its peers: `conn.call`. Each connection has those of its own.

const { performance } = require('node:perf_hooks');
const timers = require('node:timers');
const { ended } = require('./ending.js');
const { failure } = require('./errors.js');

// Captured: a test's fake timers do not change when a call ends.
const { setTimeout, clearTimeout } = timers;
const now = performance.now.bind(performance);

/** The calls of one connection that may be under way. */
const MOST_CALLS = 1024;
/** A longer timer of Node's fires at once. */
const LONGEST_MS = 0x7fffffff;
/** Ids of ours. `@wsguard/client` begins its own with `~`. */
const OURS = /^s[1-9]\d{0,15}$/;

class Calls {
  #last = 0;
  #waiting = new Map();

  /** Begins a call. Returns its id, and the promise of its answer. */
  begin(event, timeoutMs) {
    if (this.#waiting.size >= MOST_CALLS) {
      throw failure('too_many_calls', `${MOST_CALLS} calls of this connection are under way, and a connection may have no more`);
    }
    this.#last += 1;
    const id = `s${this.#last}`;
    const call = { event, timer: undefined, release: undefined };
    const answer = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
    const until = now() + timeoutMs;
    const arm = () => {
      call.timer = setTimeout(expire, Math.min(until - now(), LONGEST_MS));
    };
    const expire = () => {
      // A timer may be early by a part of a millisecond, or shorter than the time.
      if (now() < until) return arm();
      this.#take(id).reject(failure('call_timeout', `no answer to \`${event}\` came within ${timeoutMs} ms`));
    };
    arm();
    this.#waiting.set(id, call);
    return { id, answer };
  }

  get isWaiting() {
    return this.#waiting.size > 0;
  }

  /** Whether a message with a status answers a call, perhaps one whose time is over. */
  knows(id) {
    return typeof id === 'string' && OURS.test(id) && Number(id.slice(1)) <= this.#last;
  }

  /**
   * An answer came, and is judged: the call is its own, and `release` is called once it is not, or when the call is over. Returns false
   * if nobody waits for it: it is late, or there was one before.
   */
  claim(id, release) {
    const call = this.#waiting.get(id);
    if (call === undefined || call.release !== undefined) return false;
    call.release = release;
    return true;
  }

  /** The answer was none: another one may come. */
  unclaim(id) {
    const call = this.#waiting.get(id);
    call?.release?.();
    if (call !== undefined) call.release = undefined;
  }

  /** The answer of a call. Nobody waits for one that comes too late. */
  settle(event, { id, status }, data) {
    const call = this.#take(id);
    if (call === undefined) return;
    if (status === 'ok') return call.resolve(data);
    const error = failure('call_refused', `the peer answered \`${call.event}\` with an error`);
    call.reject(Object.assign(error, { event, data }));
  }

  /** The message could not be sent: there is no answer to wait for. */
  forget(id) {
    this.#take(id);
  }

  /** The connection is closed. */
  end(conn) {
    for (const id of [...this.#waiting.keys()]) {
      const { event, reject } = this.#take(id);
      reject(closedDuring(conn, event));
    }
  }

  #take(id) {
    const call = this.#waiting.get(id);
    this.#waiting.delete(id);
    clearTimeout(call?.timer);
    call?.release?.();
    return call;
  }
}

/** The error of a call whose answer cannot come any more. */
function closedDuring(conn, event) {
  return ended(conn, `the connection was closed before an answer to \`${event}\` came`);
}

module.exports = { Calls, closedDuring };
