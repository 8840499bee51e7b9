'use strict';
// Takes messages to the application's handlers, past its Standard Schemas.

const { internals } = require('./connection.js');
const { failure } = require('./errors.js');
const { Waiting } = require('./waiting.js');

class Messages {
  #listeners;
  #handlers;
  #events;
  #validators;
  #enforces;
  /** Events of the contract that came and had no listener. */
  #unheard = new Set();
  /** Messages whose schema is asynchronous. */
  waiting;

  /** `validators`: Standard Schemas by the number of their event. `enforces`: a mismatch closes the connection. */
  constructor(nativeServer, listeners, handlers, { events, validators, enforces }) {
    this.#listeners = listeners;
    this.#handlers = handlers;
    this.#events = events;
    this.#validators = validators;
    this.#enforces = enforces;
    const settle = (conn, message, result) => this.#onJudged(conn, message, result);
    this.waiting = new Waiting(nativeServer, settle, (error, conn) => handlers.fail(error, conn));
  }

  /** Each of these returns true if a handler returned a promise. */
  onRaw(conn, data, isBinary) {
    if (!internals.isLive(conn)) return undefined;
    const all = this.#listeners.ofMessage;
    if (all.length === 0) this.#tellUnheard('message');
    return this.#handlers.call(all, conn, data, isBinary);
  }

  onEvent(conn, number, data, meta) {
    if (!internals.isLive(conn)) return undefined;
    const standard = this.#validators[number];
    if (standard === undefined && this.waiting.isEmpty) return this.#dispatch(conn, number, data, meta);
    const message = { number, data, meta, bytes: meta.sizeBytes, judge: () => this.#judge(standard, conn, data) };
    if (this.waiting.follow(conn, message)) return undefined;
    if (standard === undefined) return this.#dispatch(conn, number, data, meta);
    return this.#validate(conn, message);
  }

  #dispatch(conn, number, data, meta) {
    const all = this.#listeners.ofAny;
    const own = this.#listeners.ofEvent(number, this.#events);
    if (all.length === 0) {
      if (own.length === 0 && number < this.#events.length) this.#tellUnheard(this.#events[number]);
      return this.#handlers.call(own, conn, data, meta);
    }
    const pending = this.#handlers.call(all, conn, data, meta);
    return internals.isLive(conn) && this.#handlers.call(own, conn, data, meta) ? true : pending;
  }

  /** Warns of an event without a listener, which is a mistake: once, so that a peer cannot fill the log. */
  #tellUnheard(event) {
    if (this.#unheard.has(event)) return;
    this.#unheard.add(event);
    process.emitWarning(`an event \`${event}\` came, and nobody listens to it`, { type: 'WsguardWarning', code: 'WSGUARD_UNHEARD' });
  }

  /** Calls the Standard Schema's own `validate`; the core has checked its JSON Schema. */
  #judge(standard, conn, data) {
    return standard === undefined ? { value: data } : internals.run(conn, () => standard.validate(data));
  }

  #validate(conn, message) {
    try {
      const result = message.judge();
      const then = result?.then;
      if (typeof then !== 'function') return this.#onJudged(conn, message, result);
      this.waiting.begin(conn, message, new Promise((resolve, fail) => then.call(result, resolve, fail)));
      return true;
    } catch (error) {
      this.#handlers.fail(error, conn);
      return undefined;
    }
  }

  #onJudged(conn, { number, meta }, result) {
    if (!internals.isLive(conn)) return undefined;
    const hasIssues = result?.issues !== undefined && result.issues !== null;
    if (result === null || typeof result !== 'object' || (!hasIssues && !('value' in result))) {
      throw failure('invalid_argument', 'a schema must answer { value } or { issues }');
    }
    if (!hasIssues) return this.#dispatch(conn, number, result.value, meta);
    internals.refuse(conn, meta.event, this.#enforces);
    return undefined;
  }
}

module.exports = { Messages };
