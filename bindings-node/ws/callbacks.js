'use strict';
// The callbacks of `send`, `ping` and `pong`, until what was said is written.

const { AsyncResource } = require('node:async_hooks');

/** A callback, and the context of whoever gave it: it is called in that one, as those of Node's own sockets are. */
class Callback extends AsyncResource {
  #callback;

  constructor(callback) {
    super('WEBSOCKETCALLBACK', { requireManualDestroy: true });
    this.#callback = callback;
  }

  call(error) {
    try {
      this.runInAsyncScope(this.#callback, undefined, error);
    } finally {
      this.emitDestroy();
    }
  }
}

class Callbacks {
  #waiting = [];

  add(callback) {
    this.#waiting.push(new Callback(callback));
  }

  /** Calls all of them: with an error, or with none where everything is written. */
  settle(error) {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    let failure;
    for (const callback of waiting) {
      try {
        callback.call(error);
      } catch (thrown) {
        failure ??= { thrown };
      }
    }
    // The others are called all the same.
    if (failure !== undefined) throw failure.thrown;
  }
}

module.exports = { Callbacks };
