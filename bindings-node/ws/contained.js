'use strict';
// Errors of the application's listeners. They cost one connection and not the process, unless the application has said how it wants
// to hear of them.

const { Sample } = require('../lib/failures.js');

const sample = new Sample('; listen to uncaughtException to hear of all');

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
  sample.print('wsguard: the application failed, and a connection was closed for it:', error);
}

module.exports = { contain, containRejection };
