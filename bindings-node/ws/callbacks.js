'use strict';
// The callbacks of `send`, `ping` and `pong`, until what was said is written.

class Callbacks {
  #waiting = [];

  add(callback) {
    this.#waiting.push(callback);
  }

  /** Calls all of them: with an error, or with none where everything is written. */
  settle(error) {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    let failure;
    for (const callback of waiting) {
      try {
        callback(error);
      } catch (thrown) {
        failure ??= { thrown };
      }
    }
    // The others are called all the same.
    if (failure !== undefined) throw failure.thrown;
  }
}

module.exports = { Callbacks };
