'use strict';
// The end of a connection, for those who wait for it: a promise and an AbortSignal. Each is made when it is asked for.

const { failure } = require('./errors.js');

class Ending {
  #closing;
  #promise;
  #resolve;
  #controller;

  /** `closing`: how the connection has ended, if it has. */
  constructor(closing) {
    this.#closing = closing;
  }

  get promise() {
    this.#promise ??= this.#closing === undefined ? new Promise((resolve) => (this.#resolve = resolve)) : Promise.resolve(this.#closing);
    return this.#promise;
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#closing !== undefined) this.#controller.abort(reasonOf(this.#closing));
    }
    return this.#controller.signal;
  }

  settle(closing) {
    this.#closing = closing;
    this.#resolve?.(closing);
    this.#controller?.abort(reasonOf(closing));
  }
}

/** The reason of the signal: what was begun for the connection rejects with it. */
function reasonOf({ code, reason, clean, verdict }) {
  const words = reason === '' ? `the connection has closed (${code})` : `the connection has closed (${code}: ${reason})`;
  return Object.assign(failure('connection_closed', words), { closeCode: code, reason, clean, verdict });
}

module.exports = { Ending };
