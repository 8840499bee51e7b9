'use strict';
// The end of a connection: what the application may say, and for those who wait for it a promise and an AbortSignal, each made
// when it is asked for.

const { newController } = require('./abort.js');
const { failure } = require('./errors.js');
const { textOf } = require('./text.js');

/** The errors that say no more than that a connection has ended, and which one. */
const endings = new WeakMap();

/** Makes such an error. */
function ended(conn, words) {
  const error = failure('connection_closed', words);
  endings.set(error, conn);
  return error;
}

/** Whether an error, or its cause, says only that this connection has ended: who waited for something of it has not failed. */
function isEndOf(conn, error) {
  try {
    return endings.get(error) === conn || endings.get(error?.cause) === conn;
  } catch {
    // A `cause` that throws.
    return false;
  }
}

/** What fits into a close frame beside the code (RFC 6455 section 5.5). */
const MOST_REASON_BYTES = 123;

class Ending {
  #conn;
  #closing;
  #promise;
  #resolve;
  #controller;

  /** `closing`: how the connection has ended, if it has. */
  constructor(conn, closing) {
    this.#conn = conn;
    this.#closing = closing;
  }

  get promise() {
    this.#promise ??= this.#closing === undefined ? new Promise((resolve) => (this.#resolve = resolve)) : Promise.resolve(this.#closing);
    return this.#promise;
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = newController();
      if (this.#closing !== undefined) this.#controller.abort(reasonOf(this.#conn, this.#closing));
    }
    return this.#controller.signal;
  }

  settle(closing) {
    this.#closing = closing;
    this.#resolve?.(closing);
    this.#controller?.abort(reasonOf(this.#conn, closing));
  }
}

/** The reason of the signal: what was begun for the connection rejects with it. */
function reasonOf(conn, { code, reason, clean, verdict }) {
  const words = reason === '' ? `the connection has closed (${code})` : `the connection has closed (${code}: ${reason})`;
  return Object.assign(ended(conn, words), { closeCode: code, reason, clean, verdict });
}

/** Throws for what an endpoint may not send (RFC 6455 section 7.4): here, as there may be nobody whom the core would send it to. */
function checkClose(code, reason) {
  if (typeof code !== 'number') throw failure('invalid_argument', `close code must be a number, got ${typeof code}`);
  const isKnown = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
  if (!isKnown || !Number.isInteger(code)) {
    throw failure('invalid_argument', `close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, got ${code}`);
  }
  const bytes = Buffer.byteLength(textOf(reason, 'close reason'));
  if (bytes > MOST_REASON_BYTES) throw failure('invalid_argument', `close reason must be at most ${MOST_REASON_BYTES} bytes, got ${bytes}`);
}

module.exports = { Ending, checkClose, ended, isEndOf };
