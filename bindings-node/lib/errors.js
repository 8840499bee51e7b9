'use strict';
// Errors of this package's own; the core's come with `code` and `option` from the addon.

/** An error with a stable `code`, and the `option` at fault where there is one. */
function failure(code, message, option) {
  const error = code === 'invalid_argument' ? new TypeError(message) : new Error(message);
  error.code = code;
  if (option !== undefined) error.option = option;
  return error;
}

module.exports = { failure };
