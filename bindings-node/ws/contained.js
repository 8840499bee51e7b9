'use strict';
// Errors of the application's listeners. They cost one connection and not the process, unless the application has said how it wants
// to hear of them.

const { performance } = require('node:perf_hooks');
const { print } = require('../lib/failures.js');

/** At most so many errors are printed in each of these spans: a peer that can make a listener fail must not fill the log. */
const MOST_PRINTED = 10;
const PRINT_EVERY_MS = 1_000;
const now = performance.now.bind(performance);
let since = -Infinity;
let printed = 0;
let unprinted = 0;

/** A listener threw. Whoever listens to `uncaughtException` hears of it there, as with `ws`. */
function contain(error) {
  if (process.listenerCount('uncaughtException') === 0 && !process.hasUncaughtExceptionCaptureCallback()) return report(error);
  process.nextTick(() => {
    throw error;
  });
}

/** A listener's promise was rejected. Whoever listens to `unhandledRejection` hears of it there. */
function containRejection(error) {
  if (process.listenerCount('unhandledRejection') === 0) return contain(error);
  void Promise.reject(error);
}

function report(error) {
  if (now() - since >= PRINT_EVERY_MS) {
    if (unprinted > 0) print(`wsguard: ${unprinted} more failures were not printed; listen to uncaughtException to hear of all`);
    [since, printed, unprinted] = [now(), 0, 0];
  }
  if (printed >= MOST_PRINTED) return void (unprinted += 1);
  printed += 1;
  print('wsguard: a listener of a connection failed, and the connection was closed:', error);
}

module.exports = { contain, containRejection };
