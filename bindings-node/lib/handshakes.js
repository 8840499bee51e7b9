'use strict';
// Asks the application about handshakes, and keeps the data of accepted ones until their connections open.

const { UpgradeRequest, ask, setGone } = require('./authenticate.js');
const { native } = require('./errors.js');

class Handshakes {
  #native;
  #authenticate;
  #failures;
  /** The requests that have no answer, by ticket. */
  #asked = new Map();
  /** What accepted handshakes have for their connections, by ticket, until they open or are gone. */
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
  ask(low, high, told) {
    const ticket = ticketOf(low, high);
    const request = new UpgradeRequest(told);
    const fail = (error) => {
      this.#asked.delete(ticket);
      const late = this.#answer(low, high, {});
      if (!isLate(late) || this.#failures.isHeard) this.#failures.report(error, undefined, 'authenticate');
    };
    const settle = (isAccept, answer) => {
      this.#asked.delete(ticket);
      this.#settle(low, high, isAccept, answer);
    };
    this.#asked.set(ticket, request);
    return ask(this.#authenticate, request, settle, fail);
  }

  /** Removes and returns the data of `accept` for the connection of this ticket; undefined: it was forgotten. */
  take(ticket) {
    const accepted = this.#accepted.get(ticket);
    this.#accepted.delete(ticket);
    return accepted;
  }

  /** A handshake is over without a connection. */
  onGone(low, high) {
    const ticket = ticketOf(low, high);
    this.#accepted.delete(ticket);
    const request = this.#asked.get(ticket);
    this.#asked.delete(ticket);
    if (request !== undefined) setGone(request);
  }

  #settle(low, high, isAccept, { user, data, expiresAtMs, roles, subprotocol, headers, status, body }) {
    const ticket = ticketOf(low, high);
    if (isAccept) this.#accepted.set(ticket, { data });
    const answer = isAccept ? { accept: true, user, roles, expiresAtMs, subprotocol, headers } : { status, headers, body };
    const error = this.#answer(low, high, answer);
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
}

/** A ticket of two words, low word first: below 2^53. */
function ticketOf(low, high) {
  return String((BigInt(high) << 32n) | BigInt(low));
}

/** Whether the handshake was over: the answer took too long, the peer has left, or the server has stopped. */
function isLate(error) {
  return error?.code === 'ticket_settled' || error?.code === 'stopped';
}

module.exports = { Handshakes };
