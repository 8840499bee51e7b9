'use strict';
// The handshakes that the application is asked about, from the core's question to the connection.

const { AsyncResource } = require('node:async_hooks');
const { UpgradeRequest, ask, setGone } = require('../lib/authenticate.js');
const { native } = require('../lib/errors.js');
const { contain } = require('./contained.js');
const { Refusal, consult } = require('./handshake.js');
const { requestOf } = require('./request.js');

/** What the core gets where the application failed: 503. */
const FAILED = {};

class Handshakes {
  #hub;
  #server;
  #policy;
  /** What to do, by ticket, when a handshake is over that has no answer. */
  #asked = new Map();
  /** What accepted handshakes have for their connections, by ticket. */
  #accepted = new Map();
  /** What was told of connections that were handed over, by tag. */
  #handed = new Map();
  #lastTag = 0;

  constructor(hub, server, policy) {
    this.#hub = hub;
    this.#server = server;
    this.#policy = policy;
  }

  /** Asks the application about a handshake that the core has found in order. */
  ask(low, high, told) {
    const ticket = ticketOf(low, high);
    const entry = this.#entryOf(told);
    const asked = new UpgradeRequest(told);
    const answered = () => {
      this.#asked.delete(ticket);
      entry.socket.off('close', onClose);
    };
    const onGone = () => {
      answered();
      entry.context.runInAsyncScope(() => {
        setGone(asked);
        entry.socket._ended?.();
      });
    };
    // The application has destroyed the socket while it thought; it may never answer, and nothing else would.
    const onClose = () => {
      onGone();
      this.#answer(low, high, FAILED);
    };
    const fail = (error) => {
      answered();
      this.#answer(low, high, FAILED);
      contain(error);
    };
    const settle = (session) => (answer) => {
      answered();
      this.#settle(low, high, ticket, entry, session, answer);
    };
    entry.socket.once('close', onClose);
    this.#asked.set(ticket, onGone);
    try {
      entry.context.runInAsyncScope(() => this.#ask(told, asked, entry.request, settle, fail));
    } catch (error) {
      fail(error);
    }
    return undefined;
  }

  #ask(told, asked, request, settle, fail) {
    const how = { isClosing: () => this.#server._isClosing, chooses: this.#policy.chooses(told.route) };
    const { authenticate } = this.#policy;
    if (authenticate === undefined || told.identity !== null) return consult(this.#server, request, how, settle({}), fail);
    const onAnswer = (isAccept, answer) => {
      if (!isAccept) return settle({})(answer);
      try {
        consult(this.#server, request, how, settle(answer), fail);
      } catch (error) {
        fail(error);
      }
    };
    return ask(authenticate, asked, onAnswer, fail);
  }

  /** A connection is handed over. Returns the tag by which the core speaks of it. */
  hand(entry) {
    do this.#lastTag = (this.#lastTag + 1) >>> 0;
    while (this.#handed.has(this.#lastTag));
    this.#handed.set(this.#lastTag, entry);
    entry.tag = this.#lastTag;
    return this.#lastTag;
  }

  /** Whether the core has something that was handed over, and has not said yet what becomes of it. */
  get isWaiting() {
    return this.#handed.size > 0;
  }

  /** Whether handshakes are accepted whose connections have not opened yet. */
  get areOpening() {
    return this.#accepted.size > 0;
  }

  /** A connection that was handed over is over, or its own from here on. */
  forget(tag) {
    const entry = this.#handed.get(tag);
    this.#handed.delete(tag);
    return entry;
  }

  /** There will be no connection of what was handed over. */
  onEnded(tag, status) {
    const transport = this.forget(tag)?.transport;
    if (status === 0) transport?.giveBack();
    else transport?.end();
  }

  /** The request and what belongs to it: those of the HTTP server where it was handed over, else made of what the core tells. */
  #entryOf(told) {
    const handed = this.#handed.get(told.adopted);
    if (handed !== undefined) return handed;
    const request = requestOf(told, this.#policy.isEncrypted);
    // One per handshake: what `verifyClient` enters for one peer, no other peer's listeners may see.
    const context = new AsyncResource('WSGUARDHANDSHAKE');
    return { request, socket: request.socket, done: undefined, context, transport: undefined };
  }

  /** `answer`: a refusal, or what `consult` says of an accepted one. */
  #settle(low, high, ticket, entry, session, answer) {
    if (answer instanceof Refusal || answer.status !== undefined) {
      return this.#onWrong(low, high, this.#answer(low, high, answer instanceof Refusal ? answer.answer : answer));
    }
    const { user, roles, expiresAtMs } = session;
    const subprotocol = answer.subprotocol ?? session.subprotocol;
    const headers = [...(session.headers ?? []), ...answer.headers];
    // The connection is told in the context of the answer, which may have entered who this is.
    entry.context = new AsyncResource('WSGUARDHANDSHAKE');
    this.#accepted.set(ticket, entry);
    const error = this.#answer(low, high, { accept: true, user, roles, expiresAtMs, subprotocol, headers });
    if (error !== undefined) this.#accepted.delete(ticket);
    this.#onWrong(low, high, error);
  }

  /** An answer that the core does not take (a status of 200, a header with a line break) must not leave the peer waiting. */
  #onWrong(low, high, error) {
    if (error === undefined || error.code === 'ticket_settled' || error.code === 'stopped') return;
    this.#answer(low, high, FAILED);
    contain(error);
  }

  #answer(low, high, answer) {
    try {
      native(() => this.#hub.native.answer(low, high, answer));
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** Removes and returns what an accepted handshake has for its connection; undefined: it was forgotten. */
  take(ticket) {
    const accepted = this.#accepted.get(ticket);
    this.#accepted.delete(ticket);
    this.#handed.delete(accepted?.tag);
    return accepted;
  }

  /** A handshake is over without a connection. */
  onGone(low, high) {
    const ticket = ticketOf(low, high);
    this.#accepted.delete(ticket);
    this.#asked.get(ticket)?.();
  }
}

/** A ticket of two words, low word first: below 2^53. */
function ticketOf(low, high) {
  return String((BigInt(high) << 32n) | BigInt(low));
}

module.exports = { Handshakes };
