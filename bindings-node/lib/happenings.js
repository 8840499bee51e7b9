'use strict';
// Handles each kind of record that the inbox reads: keeps the connections' state and calls the handlers.

const { Connection, internals } = require('./connection.js');
const records = require('./records.js');

/** Events that are skipped without a listener, by kind of record. */
const HEARD_BY = { [records.OPEN]: 'open', [records.CLOSE]: 'close', [records.VIOLATION]: 'violation' };

/** Closes after which no message of the connection may be handled, even one that was received before. */
const REVOKED = new Set(['session_expired', 'session_revoked', 'banned']);

/** Each method returns true if a handler returned a promise. */
class Happenings {
  #home;
  #contract;
  #listeners;
  #handlers;
  #handshakes;
  #messages;
  #onEnd;
  /** `stop()` was called: it drops all connections, also those that open in events still to come. */
  isDropping = false;

  /** `onEnd` is called after the last event. */
  constructor(home, contract, listeners, handlers, handshakes, messages, onEnd) {
    this.#home = home;
    this.#contract = contract;
    this.#listeners = listeners;
    this.#handlers = handlers;
    this.#handshakes = handshakes;
    this.#messages = messages;
    this.#onEnd = onEnd;
  }

  /** Returns true if records of this kind may have a listener. */
  hears(kind) {
    return kind !== records.ANNOUNCE && (HEARD_BY[kind] === undefined || this.#listeners.of(HEARD_BY[kind]).length > 0);
  }

  /** `opened`: the fields of a `Connection`, then the ticket. `isRevoked`: its user was disconnected after it was accepted. */
  makeConnection(low, high, opened, isRevoked) {
    const ticket = opened[6];
    const accepted = ticket === null ? undefined : this.#handshakes.take(ticket);
    const { native, hasBanned, latestBans, wasReloaded } = this.#home;
    // Its path may have led elsewhere when it opened, as the core's policy is the one of now.
    const rules = wasReloaded ? this.#contract.ofPath(opened[3], (path) => native.routeOf(path)) : this.#contract.of(opened[9]);
    const conn = new Connection(this.#home, low, high, opened, accepted?.data, rules);
    if (ticket !== null && accepted === undefined) internals.fail(conn);
    else if (this.isDropping || isRevoked) internals.end(conn);
    else if (hasBanned && native.isBanned(opened[1] ?? undefined, opened[2] ?? undefined)) internals.end(conn);
    // The core has closed it, unless it opened in the very millisecond of the ban's end.
    else if (hasBanned && latestBans.isOver(conn)) conn.close(1008, 'banned');
    return conn;
  }

  onOpen(conn) {
    if (!internals.isLive(conn)) return void internals.setUntold(conn);
    const opened = this.#handlers.open(this.#listeners.of('open'), conn);
    if (opened === undefined) return undefined;
    if (internals.isLive(conn)) this.#messages.waitFor(conn, opened);
    return true;
  }

  onClose(conn, code, closing) {
    const close = () => {
      internals.setClosed(conn, { code, ...closing });
      try {
        const all = internals.isUntold(conn) ? [] : this.#listeners.of('close');
        return this.#handlers.call(all, conn, 'close', code, closing);
      } finally {
        internals.forget(conn);
      }
    };
    // Its end is one moment then, also for listeners of its signal.
    if (!this.#messages.waiting.has(conn)) return close();
    const isPointless = !internals.isLive(conn) || REVOKED.has(closing.verdict);
    internals.setDrained(conn);
    internals.setGone(conn, { code, ...closing });
    return this.#messages.waiting.close(conn, isPointless, close) ? undefined : close();
  }

  onRaw(conn, data, isBinary) {
    return this.#messages.onRaw(conn, data, isBinary);
  }

  onJudgedBy(generation) {
    this.#messages.onJudgedBy(generation);
  }

  onMessage(conn, number, data, meta) {
    return this.#messages.onEvent(conn, number, data, meta);
  }

  onUpgrade(low, high, request) {
    return this.#handshakes.ask(low, high, request);
  }

  onUpgradeGone(low, high) {
    this.#handshakes.onGone(low, high);
    return undefined;
  }

  onPong(conn, rttMs) {
    if (conn !== undefined) internals.setPonged(conn, rttMs);
    return undefined;
  }

  onViolation(violation, conn) {
    violation.conn = conn;
    return this.#handlers.callOthers(this.#listeners.of('violation'), 'violation', violation, conn);
  }

  onDrained(conn) {
    if (conn === undefined || internals.isStillQueued(conn)) return undefined;
    internals.setDrained(conn);
    return internals.isLive(conn) ? this.#handlers.call(this.#listeners.of('drained'), conn, 'drained') : undefined;
  }

  onStopped() {
    return this.#messages.waiting.whenEmpty(this.#onEnd);
  }

  onFault(error, conn) {
    this.#handlers.fail(error, conn);
  }
}

module.exports = { Happenings };
