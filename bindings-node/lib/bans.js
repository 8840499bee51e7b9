'use strict';
// Whom a ban is of: an address, a network, or a user.

const { BlockList, isIPv4 } = require('node:net');
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

/** The network of an address of IPv6: who has one address has them all. */
const IPV6_BITS = 64;
/** Those in use. Others may stand for IPv4. */
const IPV6_PROPER = /^[23f]/i;

/**
 * Whether a connection is of the address or network of a ban that the core has taken. `isBanned` asks the core, which costs as much as
 * fifty comparisons: not for each of 100 000 connections. Nor does it know of a ban that is over by then.
 */
function isOf(whom, isBanned) {
  const [address, bits] = whom.split('/');
  if (isIPv4(address)) {
    const matches = bits === undefined ? (ip) => ip === address : inNetwork(address, Number(bits));
    // An address of IPv6 may stand for one of IPv4.
    return ({ ip }) => ip !== null && (ip.includes(':') ? isBanned(ip) : matches(ip));
  }
  if (!IPV6_PROPER.test(address)) return ({ ip }) => ip !== null && isBanned(ip);
  const network = new BlockList();
  network.addSubnet(address, Number(bits ?? IPV6_BITS), 'ipv6');
  return ({ ip }) => ip !== null && ip.includes(':') && network.check(ip, 'ipv6');
}

/** Whether an address of IPv4 is in a network. */
function inNetwork(address, bits) {
  const [wanted, mask] = [numberOf(address), bits === 0 ? 0 : -1 << (32 - bits)];
  return (ip) => ((numberOf(ip) ^ wanted) & mask) === 0;
}

/** An address of IPv4 as a whole number of 32 bits. */
function numberOf(ip) {
  return ip.split('.').reduce((number, byte) => (number << 8) | byte, 0);
}

/** How long a connection may be on its way to JavaScript, and how many bans are remembered for those. */
const REMEMBER_MS = 10_000;
const MOST_REMEMBERED = 256;

/** The latest bans of addresses: whoever was let in before one and is heard of later stays out, even if the ban is over by then. */
class LatestBans {
  /** Oldest first. */
  #bans = [];

  add(isMeant) {
    const at = Date.now();
    this.#bans.push({ isMeant, at });
    if (this.#bans.length > MOST_REMEMBERED) this.#bans.shift();
  }

  /** Whether a connection that is heard of now opened before a ban of it. */
  isOver(conn) {
    if (this.#bans.length === 0) return false;
    const since = Date.now() - REMEMBER_MS;
    this.#bans = this.#bans.filter(({ at }) => at >= since);
    return this.#bans.some(({ isMeant, at }) => conn.openedAtMs <= at && isMeant(conn));
  }
}

/** The time of a ban in milliseconds; null: it does not end by itself. */
function timeOf(forMs) {
  if (forMs === undefined || forMs === null) return null;
  if (typeof forMs === 'number' && forMs > 0 && forMs <= Number.MAX_SAFE_INTEGER) return Math.ceil(forMs);
  const got = typeof forMs === 'number' ? forMs : kindOf(forMs);
  throw failure('invalid_argument', `forMs must be a positive number of milliseconds, got ${got}`);
}

module.exports = { LatestBans, isOf, timeOf, whomOf };
