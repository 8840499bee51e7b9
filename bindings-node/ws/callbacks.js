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
    for (const callback of waiting) callback(error);
  }
}

module.exports = { Callbacks };
