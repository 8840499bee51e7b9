'use strict';
// Checks names and JSON of the application in the call that gives them.

const { failure } = require('./errors.js');

const MOST_NAME_BYTES = 256;
/** Two different texts with half a surrogate pair would become the same one on their way to UTF-8. */
const HALF_PAIR = /\p{Surrogate}/u;
const isWellFormed = String.prototype.isWellFormed
  ? (text) => text.isWellFormed()
  : (text) => !HALF_PAIR.test(text);

function kindOf(value) {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : typeof value;
}

/** Any text. */
function textOf(value, what) {
  if (typeof value !== 'string') throw failure('invalid_argument', `${what} must be a string, got ${kindOf(value)}`);
  if (!isWellFormed(value)) throw failure('invalid_argument', `${what} must not have half a surrogate pair`);
  return value;
}

/** The name of a room or of a user: 1 to 256 bytes. */
function nameOf(value, what) {
  textOf(value, what);
  // No unit takes more than three bytes.
  if (value.length > 0 && (value.length * 3 <= MOST_NAME_BYTES || Buffer.byteLength(value) <= MOST_NAME_BYTES)) return value;
  throw failure('invalid_argument', `${what} must be 1 to ${MOST_NAME_BYTES} bytes, got ${Buffer.byteLength(value)}`);
}

/** The name of an event. */
function eventOf(value) {
  if (textOf(value, 'event') === '') throw failure('invalid_argument', 'event must not be empty');
  return value;
}

/** Text of JSON. `undefined` is null, as for an absent `data`. */
function jsonOf(data) {
  if (data === undefined) return 'null';
  let text;
  try {
    text = JSON.stringify(data);
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : 'it threw';
    throw failure('invalid_argument', `data must be JSON: ${why}`, undefined, error);
  }
  if (text === undefined) throw failure('invalid_argument', `data must be JSON, got a ${typeof data}`);
  return text;
}

/** The text of an id to reply to: a string or a whole number, as the peer's was. */
function idOf(id) {
  if (typeof id === 'string') return JSON.stringify(id);
  // Both ends of what the core takes from a peer are whole numbers, too.
  if (Number.isInteger(id) && Math.abs(id) <= 2 ** 53) return String(id === 0 ? 0 : id);
  const got = typeof id === 'number' ? id : kindOf(id);
  throw failure('invalid_argument', `the id of a reply must be a string or a whole number up to 2^53, got ${got}`);
}

/** A time in milliseconds. */
function durationOf(value, name) {
  if (typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
  const got = typeof value === 'number' ? value : kindOf(value);
  throw failure('invalid_argument', `${name} must be a number of milliseconds, got ${got}`);
}

/** Throws for further arguments, which `ws` and Socket.IO take: options, several values, a callback. */
function checkCount(given, most, what) {
  if (given > most) throw failure('invalid_argument', `${what}, got ${given} arguments`);
}

module.exports = { checkCount, durationOf, eventOf, idOf, isWellFormed, jsonOf, kindOf, nameOf, textOf };
