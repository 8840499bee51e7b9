'use strict';
// Calls handlers through the functions of `server.use`.

const { failure } = require('./errors.js');

/** The promise of `next()`; it knows whether the middleware has looked at it. */
class Next extends Promise {
  isTaken = false;

  then(done, failed) {
    this.isTaken = true;
    return super.then(done, failed);
  }

  static get [Symbol.species]() {
    return Promise;
  }
}

/**
 * Calls `around`, each with `call` and a `next` that calls the ones behind it and then the listeners. The promise rejects with
 * the first error that no middleware has caught.
 */
function through(around, listeners, server, conn, call) {
  const step = async (at) => {
    if (at === around.length) return void (await Promise.all(begin(listeners, server, conn, call)));
    let next;
    let isOver = false;
    const goOn = () => {
      if (next !== undefined || isOver) {
        throw failure('invalid_argument', `next() was called ${isOver ? 'after the middleware had ended' : 'twice'}`);
      }
      next = new Next((resolve) => resolve(step(at + 1)));
      // It may be looked at only later.
      Promise.prototype.then.call(next, undefined, () => {});
      return next;
    };
    try {
      await around[at].call(server, conn, call, goOn);
    } finally {
      isOver = true;
    }
    // A `next()` that was neither awaited nor returned: the handler's error is an error all the same.
    if (next !== undefined && !next.isTaken) await next;
  };
  return step(0);
}

/** Calls listeners until one of them throws. Returns what they returned as promises. */
function begin(listeners, server, conn, call) {
  const running = [];
  for (const listener of listeners) {
    try {
      running.push(Promise.resolve(listener.call(server, conn, call.data, call.meta)));
    } catch (error) {
      running.push(Promise.reject(error));
      break;
    }
  }
  return running;
}

module.exports = { through };
