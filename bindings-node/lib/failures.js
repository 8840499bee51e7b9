'use strict';
// Reports errors to the listeners of `error`, or prints them to standard error if there is none.

const { errorMonitor } = require('node:events');
const { performance } = require('node:perf_hooks');

/** At most so many failures are printed in each of these spans. */
const MOST_PRINTED = 10;
const PRINT_EVERY_MS = 1_000;

const now = performance.now.bind(performance);

/** Prints an error, whatever it is: one that cannot be printed must not throw here. */
function print(...what) {
  try {
    console.error(...what);
  } catch {
    try {
      process.stderr.write(`${what[0]} an error that cannot be printed\n`);
    } catch {
      // Standard error is gone.
    }
  }
}

/** Prints some of the failures: a peer that can cause them must not fill standard error, nor block this thread on a full pipe. */
class Sample {
  #hint;
  /** When the span began, and the failures printed and left out in it. */
  #since = -Infinity;
  #printed = 0;
  #unprinted = 0;

  /** `hint`: how to hear of all. */
  constructor(hint) {
    this.#hint = hint;
  }

  /** `what`: pairs of words and an error. */
  print(...what) {
    const since = now();
    if (since - this.#since >= PRINT_EVERY_MS) {
      if (this.#unprinted > 0) print(`wsguard: ${this.#unprinted} more failures were not printed${this.#hint}`);
      [this.#since, this.#printed, this.#unprinted] = [since, 0, 0];
    }
    if (this.#printed >= MOST_PRINTED) return void (this.#unprinted += 1);
    this.#printed += 1;
    for (let at = 0; at < what.length; at += 2) print(what[at], what[at + 1]);
  }
}

class Failures {
  #server;
  #sample = new Sample('; listen to `error` to hear of all');

  constructor(server) {
    this.#server = server;
  }

  /** Whether `error` has a listener. Errors that a peer can cause at will are not printed without one. */
  get isHeard() {
    return this.#server.listenerCount('error') > 0;
  }

  /** `event`: what was handled. */
  report(error, conn, event) {
    const what = conn === undefined ? 'the application' : `a handler of connection ${conn.id}`;
    const told = (second) => this.#sample.print('wsguard: a listener of error failed:', second, 'wsguard: it was told:', error);
    for (const listener of this.#server.rawListeners(errorMonitor)) this.#tell(listener, error, conn, event, told);
    const listeners = this.#server.rawListeners('error');
    if (listeners.length === 0) return this.#sample.print(`wsguard: ${what} failed:`, error);
    for (const listener of listeners) this.#tell(listener, error, conn, event, told);
  }

  #tell(listener, error, conn, event, fail) {
    try {
      const result = listener.call(this.#server, error, conn, event);
      const then = result?.then;
      if (typeof then === 'function') then.call(result, undefined, fail);
    } catch (second) {
      fail(second);
    }
  }
}

module.exports = { Failures, Sample, print };
