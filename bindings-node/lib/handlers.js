'use strict';
// Calls the application's handlers, each in the context of its connection. An error closes that connection alone.

const { AsyncResource } = require('node:async_hooks');
const { internals } = require('./connection.js');
const { print } = require('./failures.js');

class Handlers {
  #server;
  #failures;

  constructor(server, failures) {
    this.#server = server;
    this.#failures = failures;
  }

  /** Calls handlers of a connection until one of them throws. Returns true if one returned a promise. */
  call(listeners, conn, first, second) {
    if (listeners.length === 0) return false;
    // A run of messages has entered the context once for all of them.
    if (internals.isInside(conn)) return this.#callEach(listeners, conn, first, second);
    return internals.run(conn, this.#enter, listeners, conn, first, second);
  }

  #enter = (listeners, conn, first, second) => this.#callEach(listeners, conn, first, second);

  #callEach(listeners, conn, first, second) {
    const hadFailed = internals.hasFailed(conn);
    let pending = false;
    for (let at = 0; at < listeners.length; at += 1) {
      try {
        pending = this.#watch(listeners[at].call(this.#server, conn, first, second), conn) || pending;
      } catch (error) {
        this.fail(error, conn);
      }
      if (!hadFailed && internals.hasFailed(conn)) break;
    }
    return pending;
  }

  /** Calls handlers of an event that has no connection, or that must not close its connection if they fail. */
  callOthers(listeners, first, conn) {
    if (listeners.length === 0) return false;
    const callEach = () => {
      let pending = false;
      for (let at = 0; at < listeners.length; at += 1) {
        try {
          const listener = listeners[at];
          pending = this.#watch(first === undefined ? listener.call(this.#server) : listener.call(this.#server, first)) || pending;
        } catch (error) {
          this.#failures.report(error);
        }
      }
      return pending;
    };
    return conn === undefined ? new AsyncResource('WSGUARDEVENT').runInAsyncScope(callEach) : internals.run(conn, callEach);
  }

  /** Returns true if a handler's result is a promise. A rejection is handled as an error that it threw. */
  #watch(result, conn) {
    // Most return nothing, or the result of `send`: V8 looks up a property of a string slowly.
    if (result === undefined || typeof result === 'string') return false;
    const then = result?.then;
    if (typeof then !== 'function') return false;
    then.call(result, undefined, (error) => this.fail(error, conn));
    return true;
  }

  /** Closes the connection of a handler that failed, and reports the error. */
  fail(error, conn) {
    try {
      if (conn !== undefined) internals.fail(conn);
    } catch (second) {
      print('wsguard: the end of a connection failed:', second);
    }
    this.#failures.report(error, conn);
  }
}

module.exports = { Handlers };
