'use strict';
// Calls the application's handlers, each in the context of its connection. An error closes that connection alone.

const { AsyncResource } = require('node:async_hooks');
const { internals } = require('./connection.js');
const { isEndOf } = require('./ending.js');
const { print } = require('./failures.js');
const { through } = require('./middleware.js');

class Handlers {
  #server;
  #failures;
  /** The functions of `server.use`. */
  #around = [];

  constructor(server, failures) {
    this.#server = server;
    this.#failures = failures;
  }

  /** Calls handlers through this function, inside of those that were given before. */
  use(middleware) {
    this.#around = [...this.#around, middleware];
  }

  /** Whether there is a middleware: it is called once for all listeners of a message. */
  get isWrapped() {
    return this.#around.length > 0;
  }

  /** Calls handlers of a connection until one of them throws. Returns true if one returned a promise. */
  call(listeners, conn, event, first, second) {
    if (listeners.length === 0) return false;
    // A run of messages has entered the context once for all of them.
    if (internals.isInside(conn)) return this.#callEach(listeners, conn, event, first, second);
    return internals.run(conn, this.#callEach, listeners, conn, event, first, second);
  }

  /** Calls the handlers of `open`. Returns a promise that resolves when all of theirs have settled; undefined: there is none. */
  open(listeners, conn) {
    const settling = [];
    if (listeners.length > 0) internals.run(conn, this.#callEach, listeners, conn, 'open', undefined, undefined, settling);
    return settling.length === 0 ? undefined : Promise.all(settling);
  }

  #callEach = (listeners, conn, event, first, second, settling) => {
    if (this.#around.length > 0) return this.#callThrough(listeners, conn, event, first, second, settling);
    const hadFailed = internals.hasFailed(conn);
    let pending = false;
    for (let at = 0; at < listeners.length; at += 1) {
      try {
        pending = this.#watch(listeners[at].call(this.#server, conn, first, second), conn, event, settling) || pending;
      } catch (error) {
        this.fail(error, conn, event);
      }
      if (!hadFailed && internals.hasFailed(conn)) break;
    }
    return pending;
  };

  #callThrough(listeners, conn, event, first, second, settling) {
    const call = { event, data: first, meta: second };
    return this.#watch(through(this.#around, listeners, this.#server, conn, call), conn, event, settling);
  }

  /** Calls handlers of an event that has no connection, or that must not close its connection if they fail. */
  callOthers(listeners, event, first, conn) {
    if (listeners.length === 0) return false;
    const callEach = () => {
      let pending = false;
      for (let at = 0; at < listeners.length; at += 1) {
        try {
          const listener = listeners[at];
          const result = first === undefined ? listener.call(this.#server) : listener.call(this.#server, first);
          pending = this.#watch(result, undefined, event) || pending;
        } catch (error) {
          this.#failures.report(error, undefined, event);
        }
      }
      return pending;
    };
    return conn === undefined ? new AsyncResource('WSGUARDEVENT').runInAsyncScope(callEach) : internals.run(conn, callEach);
  }

  /**
   * Returns true if a handler's result is a promise. A rejection is handled as an error that it threw. `settling` gets a promise
   * that resolves behind it.
   */
  #watch(result, conn, event, settling) {
    // Most return nothing, or the result of `send`: V8 looks up a property of a string slowly.
    if (result === undefined || typeof result === 'string') return false;
    const then = result?.then;
    if (typeof then !== 'function') return false;
    const fail = (error) => this.fail(error, conn, event);
    if (settling === undefined) then.call(result, undefined, fail);
    else settling.push(settled(result, then, fail));
    return true;
  }

  /**
   * Closes the connection of a handler that failed, and reports the error. One that was interrupted by the end of its own connection has
   * not failed: peers leave at will.
   */
  fail(error, conn, event) {
    if (conn !== undefined && isEndOf(conn, error)) return;
    try {
      if (conn !== undefined) internals.fail(conn);
    } catch (second) {
      print('wsguard: the end of a connection failed:', second);
    }
    this.#failures.report(error, conn, event);
  }
}

/** Resolves when a promise has resolved, or was rejected and `fail` has handled that. */
async function settled(result, then, fail) {
  try {
    await new Promise((resolve, refuse) => then.call(result, resolve, refuse));
  } catch (error) {
    fail(error);
  }
}

module.exports = { Handlers };
