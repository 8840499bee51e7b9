'use strict';
// Calls the application's handlers: each connection's in its own context, and what one throws costs its connection alone.

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

  /** Calls handlers of a connection until one of them throws; `true`: one returned a promise. */
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

  /** Calls handlers of what belongs to no connection, or to one that they do not work for. */
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

  /** Watches what a handler returned; whether it is a promise. What it rejects with is as if it had thrown. */
  #watch(result, conn) {
    // Most return nothing, or what `send` did: a property of a string is looked up slowly.
    if (result === undefined || typeof result === 'string') return false;
    const then = result?.then;
    if (typeof then !== 'function') return false;
    then.call(result, undefined, (error) => this.fail(error, conn));
    return true;
  }

  /** A handler has failed: its connection is over. */
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
