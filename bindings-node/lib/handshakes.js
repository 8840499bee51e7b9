'use strict';
// Asks the application about handshakes, and keeps the data of accepted ones until their connections open.

const { performance } = require('node:perf_hooks');
const { UpgradeRequest, ask } = require('./authenticate.js');
const { native } = require('./errors.js');

/** An accepted handshake opens at once or never: after this long its peer is gone, and its data is forgotten. */
const FORGET_AFTER_MS = 60_000;

const now = performance.now.bind(performance);

class Handshakes {
  #native;
  #authenticate;
  #failures;
  #accepted = new Map();

  constructor(nativeServer, authenticate, failures) {
    this.#native = nativeServer;
    this.#authenticate = authenticate;
    this.#failures = failures;
  }

  /** A reload has brought another function. Handshakes that came by the policy before are asked, too. */
  setAuthenticate(authenticate) {
    this.#authenticate = authenticate ?? this.#authenticate;
  }

  /** Asks the application and passes its answer to the core. Returns true if it answers later. */
  ask(low, high, request) {
    const fail = (error) => {
      const late = this.#answer(low, high, {});
      if (!isLate(late) || this.#failures.isHeard) this.#failures.report(error, undefined, 'authenticate');
    };
    const settle = (isAccept, answer) => this.#settle(low, high, isAccept, answer);
    return ask(this.#authenticate, new UpgradeRequest(request), settle, fail);
  }

  /** Removes and returns the data of `accept` for the connection of this ticket; undefined: it was forgotten. */
  take(ticket) {
    const accepted = this.#accepted.get(ticket);
    this.#accepted.delete(ticket);
    return accepted;
  }

  #settle(low, high, isAccept, { user, data, expiresAtMs, roles, status }) {
    const ticket = String(joinU64(low, high));
    if (isAccept) this.#remember(ticket, data);
    const error = this.#answer(low, high, isAccept ? { accept: true, user, roles, expiresAtMs } : { status });
    if (error === undefined) return;
    this.#accepted.delete(ticket);
    if (isLate(error)) {
      if (this.#failures.isHeard) this.#failures.report(error, undefined, 'authenticate');
      return;
    }
    this.#answer(low, high, {});
    this.#failures.report(error, undefined, 'authenticate');
  }

  /** Answers a handshake. Returns the error, if the answer is wrong or the handshake is over. */
  #answer(low, high, answer) {
    try {
      native(() => this.#native.answer(low, high, answer));
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #remember(ticket, data) {
    const since = now();
    for (const [old, { at }] of this.#accepted) {
      if (since - at < FORGET_AFTER_MS) break;
      this.#accepted.delete(old);
    }
    this.#accepted.set(ticket, { data, at: since });
  }
}

/** The id of two words, low word first. */
function joinU64(low, high) {
  return (BigInt(high) << 32n) | BigInt(low);
}

/** Whether the handshake was over: the answer took too long, the peer has left, or the server has stopped. */
function isLate(error) {
  return error?.code === 'ticket_settled' || error?.code === 'stopped';
}

module.exports = { Handshakes };
