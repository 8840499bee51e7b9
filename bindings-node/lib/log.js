'use strict';
// The core's log: verdicts, the policy in force, reloads. It is one for the process.

const addon = require('./native.js').load();
const { checkNames, failure, native } = require('./errors.js');
const { Sample } = require('./failures.js');
const { kindOf } = require('./text.js');

/** Writes the log to standard error. */
function logToStderr(options = {}) {
  checkNames(options, ['format'], 'logToStderr');
  const { format = 'plain' } = options;
  if (format !== 'plain' && format !== 'json') throw failure('invalid_argument', 'format must be "plain" or "json"');
  addon.logToStderr(format === 'json');
}

/** Gives each record to a function. */
function logTo(listener, options = {}) {
  if (typeof listener !== 'function') throw failure('invalid_argument', `logTo takes a function, got ${kindOf(listener)}`);
  checkNames(options, ['level'], 'logTo');
  const { level = 'info' } = options;
  const sample = new Sample('');
  const failed = (error) => sample.print('wsguard: the listener of the log failed:', error);
  const tell = (text) => {
    try {
      const result = listener(JSON.parse(text));
      const then = result?.then;
      if (typeof then === 'function') then.call(result, undefined, failed);
    } catch (error) {
      failed(error);
    }
  };
  native(() => addon.logTo(String(level), tell));
}

module.exports = { logTo, logToStderr };
