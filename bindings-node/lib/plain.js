'use strict';
// Whether a message goes plain, although `compression` is on.

const { checkNames, failure } = require('./errors.js');
const { PLAIN } = require('./records.js');
const { kindOf } = require('./text.js');

const NAMES = ['compress'];

/** The flag of a message that is sent with these options. `takes`: what the call takes, for who gives it something else. */
function plainOf(options, takes) {
  if (options === undefined) return 0;
  if (options === null || typeof options !== 'object') throw failure('invalid_argument', `${takes}, got ${kindOf(options)} besides`);
  checkNames(options, NAMES, takes.slice(0, takes.indexOf(' ')));
  return flagOf(options.compress);
}

/** `compress` as a flag of the command. */
function flagOf(compress) {
  if (compress === undefined || compress === true) return 0;
  if (compress === false) return PLAIN;
  throw failure('invalid_argument', `compress must be a boolean, got ${kindOf(compress)}`);
}

module.exports = { flagOf, plainOf };
