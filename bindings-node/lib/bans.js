'use strict';
// Whom a ban is of: an address, a network, or a user.

const { checkNames, failure } = require('./errors.js');
const { kindOf, nameOf, textOf } = require('./text.js');

/** Reads `{ ip }` or `{ user }` with the other names that `what` takes. Returns whether it is a user, and the text. */
function whomOf(given, others, what) {
  checkNames(given, ['ip', 'user', ...others], what);
  const { ip, user } = given;
  if ((ip === undefined) === (user === undefined)) {
    throw failure('invalid_argument', `${what} takes either ip or user, got ${ip === undefined ? 'neither' : 'both'}`);
  }
  return user === undefined ? { isUser: false, whom: textOf(ip, 'ip') } : { isUser: true, whom: nameOf(user, 'user') };
}

/**
 * Whether a connection is of an address or network that was just banned. `isBanned` asks the core, which costs as much as fifty
 * comparisons: not for each of 100 000 connections.
 */
function isOf(whom, isBanned) {
  const isIpv4 = !/[:/]/.test(whom);
  // An address of IPv6 may stand for one of IPv4.
  const mayBe = (ip) => !isIpv4 || ip.includes(':');
  return ({ ip }) => ip !== null && (ip === whom || (mayBe(ip) && isBanned(ip)));
}

/** The time of a ban in milliseconds; null: it does not end by itself. */
function timeOf(forMs) {
  if (forMs === undefined || forMs === null) return null;
  if (typeof forMs === 'number' && forMs > 0 && forMs <= Number.MAX_SAFE_INTEGER) return Math.ceil(forMs);
  const got = typeof forMs === 'number' ? forMs : kindOf(forMs);
  throw failure('invalid_argument', `forMs must be a positive number of milliseconds, got ${got}`);
}

module.exports = { isOf, timeOf, whomOf };
