'use strict';
// Makes the errors of this package and of the addon, in the realm that loaded the package.

/** An error with a stable `code`, and the `option` at fault where there is one. */
function failure(code, message, option, cause) {
  const given = cause === undefined ? undefined : { cause };
  const error = code === 'invalid_argument' ? new TypeError(message, given) : new Error(message, given);
  error.code = code;
  if (option !== undefined) error.option = option;
  return error;
}

/** Calls the addon. What it throws is of Node's main realm, which is not that of a test runner's sandbox. */
function native(call) {
  try {
    return call();
  } catch (error) {
    throw ours(error);
  }
}

function ours(error) {
  if (typeof error?.code !== 'string') return error;
  const made = failure(error.code, error.message, error.option, systemError(error));
  Error.captureStackTrace?.(made, native);
  return made;
}

/** What the system said, as Node's own errors tell it. */
function systemError({ message, errno }) {
  if (typeof errno !== 'number') return undefined;
  const { getSystemErrorName } = require('node:util');
  const cause = new Error(message);
  cause.errno = -errno;
  try {
    cause.code = getSystemErrorName(-errno);
  } catch {
    // A number that Node has no name for.
  }
  return cause;
}

/** Throws for anything but an object with known names. */
function checkNames(given, known, what) {
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    const kind = given === null ? 'null' : given === undefined ? 'nothing' : Array.isArray(given) ? 'an array' : `a ${typeof given}`;
    throw failure('invalid_argument', `${what} takes { ${known.join(', ')} }, got ${kind}`);
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    throw failure('invalid_argument', `${what} takes { ${known.join(', ')} }, not \`${name}\`${didYouMean(name, known)}`);
  }
}

/** A hint, if one of the known names is similar. */
function didYouMean(name, known) {
  let best;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const [given, wanted] = [name.toLowerCase(), candidate.toLowerCase()];
    const isPart = Math.min(given.length, wanted.length) >= 3 && (given.includes(wanted) || wanted.includes(given));
    const far = isPart ? 1 : distance(given, wanted);
    if (far < least) [best, least] = [candidate, far];
  }
  return best === undefined || least >= Math.max(best.length, 2) ? '' : `; did you mean \`${best}\`?`;
}

/** Levenshtein distance. Long names are not typing errors. */
function distance(a, b) {
  if (a.length > 64 || b.length > 64) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

module.exports = { checkNames, didYouMean, failure, native };
