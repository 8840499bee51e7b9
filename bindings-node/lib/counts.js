'use strict';
// Questions across the nodes of a cluster that wait for their answers.

const { failure, native } = require('./errors.js');

/** The number of a question is one of 32 bits. */
const NUMBERS = 2 ** 32;

class Counts {
  #native;
  #last = 0;
  #waiting = new Map();

  constructor(core) {
    this.#native = core;
  }

  /** Asks. `rooms`, `user`, or neither: everybody; `except`: the words of ids. */
  ask({ rooms, user }, except, timeoutMs) {
    return new Promise((resolve, reject) => {
      do this.#last = (this.#last + 1) % NUMBERS;
      while (this.#waiting.has(this.#last));
      const ticket = this.#last;
      native(() => this.#native.countEverywhere(ticket, rooms ?? null, user ?? null, except, timeoutMs));
      this.#waiting.set(ticket, { resolve, reject });
    });
  }

  /** Takes the answers that have come. Called whenever the native side wakes JavaScript. */
  settle() {
    if (this.#waiting.size === 0) return;
    for (const { ticket, connections, missing, code, message } of this.#native.takeCounts()) {
      const asked = this.#waiting.get(ticket);
      this.#waiting.delete(ticket);
      if (code === undefined) asked?.resolve({ connections, missing });
      else asked?.reject(failure(code, message));
    }
  }

  /** The server has ended: no answer comes any more. */
  end() {
    this.settle();
    for (const { reject } of this.#waiting.values()) reject(failure('stopped', 'the server has stopped'));
    this.#waiting.clear();
  }
}

module.exports = { Counts };
