'use strict';
// Calls handlers through the functions of `server.use`.

const { internals } = require('./connection.js');
const { failure } = require('./errors.js');

/** The promise of `next()`. It knows what the middleware has made of it, and no part of it is an unhandled rejection. */
class Next extends Promise {
  #derived = [];

  then(done, failed) {
    const next = super.then(done, failed);
    Promise.prototype.then.call(next, undefined, () => {});
    this.#derived.push(next);
    return next;
  }

  /** It may be looked at only later. */
  watch() {
    super.then(undefined, () => {});
  }

  /** Settles as everything that was made of it: rejects with an error that nobody has handled. */
  async seen() {
    if (this.#derived.length === 0) return new Promise((resolve, reject) => super.then(resolve, reject));
    for (const one of this.#derived) await one.seen();
  }
}

/**
 * Calls `around`, each with `call` and a `next` that calls the ones behind it and then the listeners. The promise rejects with
 * the first error that no middleware has caught.
 */
function through(around, listeners, server, conn, call) {
  // Handlers of `close` begin when it is over.
  const wasLive = internals.isLive(conn);
  const hasEnded = () => wasLive && !internals.isLive(conn);
  const step = async (at) => {
    if (at === around.length) return void (await Promise.all(begin(listeners, server, conn, call, wasLive, hasEnded)));
    let next;
    let isOver = false;
    const goOn = () => {
      if (next !== undefined || isOver) {
        throw failure('invalid_argument', `next() was called ${isOver ? 'after the middleware had ended' : 'twice'}`);
      }
      next = new Next((resolve) => resolve(step(at + 1)));
      next.watch();
      return next;
    };
    try {
      await around[at].call(server, conn, call, goOn);
    } finally {
      isOver = true;
    }
    // A `next()` that was neither awaited nor returned: the handler's error is an error all the same.
    if (next !== undefined) await next.seen();
  };
  return step(0);
}

/**
 * Calls listeners until one of them throws, which ends the connection, or it ends otherwise; all of those of `close`. Returns what they
 * returned as promises.
 */
function begin(listeners, server, conn, call, wasLive, hasEnded) {
  const running = [];
  for (const listener of listeners) {
    if (hasEnded()) break;
    try {
      running.push(Promise.resolve(listener.call(server, conn, call.data, call.meta)));
    } catch (error) {
      running.push(Promise.reject(error));
      if (wasLive) break;
    }
  }
  return running;
}

module.exports = { through };
