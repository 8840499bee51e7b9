'use strict';
// The server: Node's manners around the native one. It decides nothing that a peer could notice.

const { EventEmitter } = require('node:events');
const { load } = require('./native.js');
const { readOptions } = require('./policy.js');
const { Outbox } = require('./outbox.js');
const { Inbox } = require('./inbox.js');
const { Connection, textOf } = require('./connection.js');
const { Accept, UpgradeRequest, ask } = require('./authenticate.js');
const { Listeners } = require('./listeners.js');
const { audience } = require('./room.js');
const { attach, handOver } = require('./attach.js');
const { failure } = require('./errors.js');
const records = require('./records.js');

const native = load();

/** The longest timer: it fires every 24 days and does nothing but keep the process alive. */
const LONGEST_MS = 0x7fffffff;
/** An accepted handshake is open at once or never; data that is still waiting after this long has lost its peer. */
const FORGET_AFTER_MS = 60_000;

/** Events that nobody needs to hear of. */
const HEARD_BY = { [records.OPEN]: 'open', [records.CLOSE]: 'close', [records.VIOLATION]: 'violation' };

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

/** Servers that run, so that the end of the process finds their threads ended. */
const running = new Set();
let watchesExit = false;

function endWithProcess(one) {
  running.add(one);
  if (watchesExit) return;
  watchesExit = true;
  process.on('exit', () => {
    for (const server of running) server.abandon();
  });
}

class Server extends EventEmitter {
  #native;
  #outbox;
  #inbox;
  #authenticate;
  #validators;
  #events;
  #listeners;
  #accepted = new Map();
  #keepAlive;
  #isReferenced = true;
  #state = 'new';
  #address;
  #detach = [];
  #stopped = {};

  constructor(options) {
    super();
    const { json, authenticate, validators } = readOptions(options);
    this.#native = new native.NativeServer(json);
    this.#authenticate = authenticate;
    this.#events = this.#native.events();
    this.#validators = this.#events.map((name) => validators.get(name));
    this.#listeners = new Listeners(this);
    this.#stopped.promise = new Promise((resolve) => (this.#stopped.resolve = resolve));
  }

  // --- life -------------------------------------------------------------------------------------------------------

  async listen({ signal } = {}) {
    signal?.throwIfAborted();
    this.#start(true);
    signal?.addEventListener('abort', () => this.drain(), { once: true });
    return this.#address;
  }

  attach(httpServer, options) {
    const detach = attach(this, httpServer, options);
    try {
      if (this.#state === 'new') this.#start(false);
    } catch (error) {
      detach();
      throw error;
    }
    this.#detach.push(detach);
    return this;
  }

  handleUpgrade(request, socket, head) {
    if (this.#state === 'new') this.#start(false);
    try {
      handOver(this.#native, request, socket, head);
    } catch (error) {
      this.#report(error);
    }
  }

  #start(listens) {
    if (this.#state !== 'new') {
      throw failure('already_started', 'the server was started already; a server has one life: make another');
    }
    const wake = () => this.#inbox.wake();
    this.#outbox = new Outbox(this.#native, (outcome) => this.#onOutcome(outcome));
    this.#inbox = new Inbox(this.#native, this.#outbox, this.#events, this.#sink());
    this.#address = this.#native.start(listens, wake);
    this.#state = 'running';
    this.#heed();
    endWithProcess(this.#native);
    // A server beside an HTTP server lives as long as that one does.
    if (listens) this.#keepAlive = setInterval(() => {}, LONGEST_MS);
    if (!this.#isReferenced) this.#keepAlive?.unref();
    // Arms the alarm; events that came already are handled in a turn of their own.
    setImmediate(wake);
  }

  async drain({ timeoutMs = 10_000, jitterMs = 0 } = {}) {
    checkDuration(timeoutMs, 'timeoutMs');
    checkDuration(jitterMs, 'jitterMs');
    return this.#end(() => this.#native.drain(timeoutMs, jitterMs));
  }

  stop() {
    return this.#end(() => this.#native.stop());
  }

  #end(how) {
    if (this.#state === 'new') {
      this.#state = 'stopped';
      this.#stopped.resolve();
    }
    for (const detach of this.#detach.splice(0)) detach();
    if (this.#state === 'running') {
      this.#outbox.flush();
      how();
      // Its end is waited for, whatever unref() said.
      this.#keepAlive ??= setInterval(() => {}, LONGEST_MS);
      this.#keepAlive.ref();
    }
    return this.#stopped.promise;
  }

  [asyncDispose]() {
    return this.drain();
  }

  ref() {
    this.#isReferenced = true;
    this.#keepAlive?.ref();
    return this;
  }

  unref() {
    this.#isReferenced = false;
    this.#keepAlive?.unref();
    return this;
  }

  // --- what an application says -----------------------------------------------------------------------------------

  get address() {
    return this.#address;
  }

  get isRunning() {
    return this.#state === 'running';
  }

  get connections() {
    return this.#inbox === undefined ? [].values() : this.#inbox.connections();
  }

  to(room) {
    return audience(this.#outbox, textOf(room, 'room'));
  }

  toAll() {
    return audience(this.#outbox, undefined);
  }

  disconnectUser(user) {
    this.#outbox?.flush();
    this.#native.disconnectUser(textOf(user, 'user'));
  }

  stats() {
    return JSON.parse(this.#native.stats());
  }

  reloadTls() {
    this.#native.reloadTls();
  }

  // --- listeners --------------------------------------------------------------------------------------------------

  onEvent(event, listener) {
    return this.on(this.#listeners.keyOf(event), listener);
  }

  offEvent(event, listener) {
    return this.off(this.#listeners.keyOf(event), listener);
  }

  addListener(name, listener) {
    super.addListener(name, listener);
    return this.#listenersChanged();
  }

  prependListener(name, listener) {
    super.prependListener(name, listener);
    return this.#listenersChanged();
  }

  on(name, listener) {
    super.on(name, listener);
    return this.#listenersChanged();
  }

  removeListener(name, listener) {
    super.removeListener(name, listener);
    return this.#listenersChanged();
  }

  off(name, listener) {
    super.off(name, listener);
    return this.#listenersChanged();
  }

  removeAllListeners(...names) {
    super.removeAllListeners(...names);
    return this.#listenersChanged();
  }

  #listenersChanged() {
    this.#listeners.forget();
    this.#heed();
    return this;
  }

  /** What nobody listens to need not wake this thread, and connections of which nobody has heard are not made. */
  #heed() {
    const isHeard = (name) => this.listenerCount(name) > 0;
    const [opens, closes] = [isHeard('open'), isHeard('close')];
    if (opens || closes) this.#inbox?.reveal();
    this.#native.heed(opens, closes, isHeard('violation'));
  }

  // --- what happens -----------------------------------------------------------------------------------------------

  /** Where the inbox tells what happens. Each answers `true` when a handler returned a promise. */
  #sink() {
    const call = (listeners, conn, first, second) => this.#call(listeners, conn, first, second);
    const listeners = this.#listeners;
    return {
      hears: (kind) => kind !== records.KNOWN && (HEARD_BY[kind] === undefined || listeners.of(HEARD_BY[kind]).length > 0),
      makeConnection: (low, high, opened) => this.#makeConnection(low, high, opened),
      onOpen: (conn) => (conn.hasFailed ? undefined : call(listeners.of('open'), conn)),
      onClose: (conn, code, reason, clean) => {
        conn.setClosed();
        return call(listeners.of('close'), conn, code, { reason, clean });
      },
      onRaw: (conn, data, isBinary) => (conn.hasFailed ? undefined : call(listeners.ofMessage, conn, data, isBinary)),
      onMessage: (conn, number, data, meta) => this.#onMessage(conn, number, data, meta),
      onUpgrade: (low, high, request) => this.#onUpgrade(low, high, new UpgradeRequest(request)),
      onViolation: (violation, conn) => {
        violation.conn = conn;
        return call(listeners.of('violation'), undefined, violation);
      },
      onDrained: (conn) => {
        conn?.setDrained();
        return conn === undefined ? undefined : call(listeners.of('drained'), conn);
      },
      onStopped: () => this.#onStopped(),
    };
  }

  #makeConnection(low, high, opened) {
    const ticket = opened[5];
    if (ticket === null) return new Connection(this.#outbox, this.#native, low, high, opened);
    const accepted = this.#accepted.get(ticket);
    this.#accepted.delete(ticket);
    const conn = new Connection(this.#outbox, this.#native, low, high, opened, accepted?.data);
    if (accepted === undefined) conn.fail();
    return conn;
  }

  #onMessage(conn, number, data, meta) {
    if (conn.hasFailed) return undefined;
    const standard = this.#validators[number];
    if (standard !== undefined) return this.#validate(standard, conn, number, data, meta);
    return this.#dispatch(conn, number, data, meta);
  }

  #dispatch(conn, number, data, meta) {
    const all = this.#listeners.ofAny;
    const pending = all.length > 0 && this.#call(all, conn, data, meta);
    const listeners = this.#listeners.ofEvent(number, this.#events);
    return this.#call(listeners, conn, data, meta) || pending;
  }

  /** The Standard Schema's own say, after the core has checked the JSON Schema behind it. */
  #validate(standard, conn, number, data, meta) {
    const settle = (result) => {
      if (result.issues === undefined) return this.#dispatch(conn, number, result.value, meta);
      if (conn.isOpen) conn.refuse(meta.event);
      return undefined;
    };
    try {
      const result = standard.validate(data);
      if (typeof result?.then !== 'function') return settle(result);
      result.then(settle).catch((error) => this.#fail(error, conn));
      return true;
    } catch (error) {
      this.#fail(error, conn);
    }
  }

  /** Calls handlers; what they throw or reject ends the connection they worked for, and nothing else. */
  #call(listeners, conn, first, second) {
    let pending = false;
    for (let at = 0; at < listeners.length; at += 1) {
      try {
        const result = conn === undefined ? listeners[at].call(this, first) : listeners[at].call(this, conn, first, second);
        if (typeof result?.then === 'function') {
          pending = true;
          result.then(undefined, (error) => this.#fail(error, conn));
        }
      } catch (error) {
        this.#fail(error, conn);
      }
    }
    return pending;
  }

  #fail(error, conn) {
    conn?.fail();
    this.#report(error, conn);
  }

  #report(error, conn) {
    try {
      if (this.listenerCount('error') > 0) return void this.emit('error', error, conn);
    } catch (second) {
      console.error('wsguard: a listener of error failed:', second);
    }
    console.error(`wsguard: ${conn === undefined ? 'the application' : `a handler of connection ${conn.id}`} failed:`, error);
  }

  #onUpgrade(low, high, request) {
    const fail = (error) => {
      this.#answer(low, high, {});
      this.#report(error);
    };
    return ask(this.#authenticate, request, (answer) => this.#settle(low, high, answer), fail);
  }

  #settle(low, high, answer) {
    const ticket = String(BigInt(high) << 32n | BigInt(low));
    const isAccept = answer instanceof Accept;
    if (isAccept) this.#remember(ticket, answer.data);
    const { user, expiresAtMs, status } = answer;
    const error = this.#answer(low, high, isAccept ? { accept: true, user, expiresAtMs } : { status });
    if (error === undefined) return;
    this.#accepted.delete(ticket);
    // Too late, or the peer has left: said to whoever listens, never printed, for a peer could fill the log so.
    if (error.code === 'ticket_settled') return void (this.listenerCount('error') > 0 && this.#report(error));
    this.#answer(low, high, {});
    this.#report(error);
  }

  /** Answers a handshake; the error, if it is no answer or there is none to answer. */
  #answer(low, high, answer) {
    try {
      this.#native.answer(low, high, answer);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #remember(ticket, data) {
    const now = performance.now();
    for (const [old, { since }] of this.#accepted) {
      if (now - since < FORGET_AFTER_MS) break;
      this.#accepted.delete(old);
    }
    this.#accepted.set(ticket, { data, since: now });
  }

  #onOutcome({ queued, errors }) {
    for (const place of queued) {
      const conn = this.#inbox.connection(place);
      if (conn !== undefined) conn.isQueued = true;
    }
    for (const { code, message, place } of errors) this.#report(failure(code, message), this.#inbox.connection(place));
  }

  #onStopped() {
    this.#state = 'stopped';
    running.delete(this.#native);
    clearInterval(this.#keepAlive);
    this.#stopped.resolve();
    return this.#call(this.#listeners.of('stopped'), undefined);
  }
}

function checkDuration(value, name) {
  if (typeof value === 'number' && value >= 0) return;
  throw failure('invalid_argument', `${name} must be a number of milliseconds, got ${String(value)}`);
}

module.exports = { Server, logToStderr: native.logToStderr };
