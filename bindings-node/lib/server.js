'use strict';
// The server: Node's manners around the native one. It decides nothing that a peer could notice.

const { AsyncResource } = require('node:async_hooks');
const { EventEmitter, errorMonitor } = require('node:events');
const { performance } = require('node:perf_hooks');
const { clearInterval, setImmediate, setInterval } = require('node:timers');
const addon = require('./native.js').load();
const { readOptions } = require('./policy.js');
const { Outbox } = require('./outbox.js');
const { Inbox } = require('./inbox.js');
const { Waiting } = require('./waiting.js');
const { Connection, internals } = require('./connection.js');
const { UpgradeRequest, ask } = require('./authenticate.js');
const { Listeners } = require('./listeners.js');
const { everybody, members } = require('./room.js');
const { attach, checkUpgrade, handOver, refuse } = require('./attach.js');
const { checkNames, failure, native } = require('./errors.js');
const { checkCount, nameOf, kindOf } = require('./text.js');
const records = require('./records.js');

/** The longest timer: it fires every 24 days and does nothing but keep the process alive. */
const LONGEST_MS = 0x7fffffff;
/** An accepted handshake is open at once or never; data that is still waiting after this long has lost its peer. */
const FORGET_AFTER_MS = 60_000;
/** So many disconnected users are remembered for the connections that are not heard of yet. */
const MOST_REVOKED = 65_536;

/** So many failures that nobody listens to are printed in each of these spans. */
const MOST_PRINTED = 10;
const PRINT_EVERY_MS = 1_000;

/** Events that nobody needs to hear of. */
const HEARD_BY = { [records.OPEN]: 'open', [records.CLOSE]: 'close', [records.VIOLATION]: 'violation' };

/** Closes behind which nothing may be handled any more, whatever was read before. */
const REVOKED = new Set(
  JSON.parse(addon.verdicts())
    .filter(({ code }) => code.startsWith('session_') || code === 'banned')
    .map(({ closeCode, reason }) => `${closeCode} ${reason}`),
);

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');
const now = performance.now.bind(performance);

/** Servers that run, so that the end of the process finds their threads ended, and what was said delivered. */
const running = new Set();
let watchesExit = false;

function endWithProcess(end) {
  running.add(end);
  if (watchesExit) return;
  watchesExit = true;
  process.on('exit', () => {
    for (const one of running) one();
  });
}

/** Tells a failure that nobody listens to, whatever it is: one that cannot be printed must not do more harm. */
function print(...what) {
  try {
    console.error(...what);
  } catch {
    try {
      process.stderr.write(`${what[0]} an error that cannot be printed\n`);
    } catch {
      // There is nobody to tell.
    }
  }
}

class Server extends EventEmitter {
  #native;
  #outbox;
  #inbox;
  #authenticate;
  #validators;
  #enforces;
  #events;
  #listeners;
  #waiting;
  #accepted = new Map();
  /** Users that were disconnected, the oldest first, and the number of the last time: whoever was let in before is over. */
  #revoked = new Map();
  /** Events of the contract that came and found nobody. */
  #unheard = new Set();
  /** What attached servers were told of once. */
  #toldOf = new Set();
  /** Failures printed since then, and those that were too many. */
  #printedSince = -Infinity;
  #printed = 0;
  #unprinted = 0;
  #keepAlive;
  #isReferenced = true;
  #state = 'new';
  /** `stop` was called: every connection is over. */
  #isDropping = false;
  #address;
  #detach = [];
  #stopped = {};
  #abandon;
  #forgetSignal;

  constructor(options) {
    super();
    const { json, authenticate, validators, isRaw, enforces } = readOptions(options);
    this.#native = native(() => new addon.NativeServer(json));
    this.#authenticate = authenticate;
    this.#enforces = enforces;
    this.#events = this.#native.events();
    this.#validators = this.#events.map((name) => validators.get(name));
    this.#listeners = new Listeners(this, this.#events, isRaw);
    this.#stopped.promise = new Promise((resolve) => (this.#stopped.resolve = resolve));
  }

  // --- life -------------------------------------------------------------------------------------------------------

  async listen(...given) {
    const [options = {}] = given;
    if (given.length > 1 || typeof options === 'number' || typeof options === 'string') {
      throw failure('invalid_argument', 'listen takes { signal } and returns a promise; the address is the option `listen`');
    }
    checkNames(options, ['signal'], 'listen');
    const { signal } = options;
    if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
      throw failure('invalid_argument', `signal must be an AbortSignal, got ${kindOf(signal)}`);
    }
    signal?.throwIfAborted();
    this.#start(true);
    if (signal !== undefined) this.#drainOn(signal);
    return this.#address;
  }

  #drainOn(signal) {
    const drain = () => void this.drain();
    signal.addEventListener('abort', drain, { once: true });
    this.#forgetSignal = () => signal.removeEventListener('abort', drain);
  }

  attach(httpServer, options) {
    this.#checkNotStopped();
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
    checkUpgrade(request, socket, head);
    if (this.#state === 'stopped') return refuse(socket, '503 Service Unavailable');
    if (this.#state === 'new') this.#start(false);
    try {
      handOver(this.#native, request, socket, head);
    } catch (error) {
      // The peer has left, or the server is about to; what is wrong with the set-up is said once, not for each peer.
      if (error.code === 'connection_closed' || error.code === 'stopped' || this.#toldOf.has(error.code)) return;
      this.#toldOf.add(error.code);
      this.#report(error);
    }
  }

  #checkNotStopped() {
    if (this.#state === 'stopped') throw failure('stopped', 'the server has ended; a server has one life: make another');
  }

  #start(listens) {
    if (this.#state !== 'new') {
      const why = this.#address === '' ? 'was attached already; listen() first, then attach()' : 'was started already';
      throw failure('already_started', `the server ${why}; a server has one life: make another`);
    }
    const wake = () => this.#inbox.wake();
    const address = native(() => this.#native.start(listens, wake));
    // Nothing comes before this turn is over.
    this.#address = address;
    this.#outbox = new Outbox(this.#native, this.#native.maxOutboxBytes(), (outcome) => this.#onOutcome(outcome));
    this.#inbox = new Inbox(this.#native, this.#outbox, this.#events, this.#sink());
    this.#waiting = new Waiting(
      this.#native,
      (conn, message, result) => this.#onJudged(conn, message, result),
      (error, conn) => this.#fail(error, conn),
    );
    this.#state = 'running';
    this.#heed();
    this.#abandon = () => this.#endNow();
    endWithProcess(this.#abandon);
    // A server beside an HTTP server lives as long as that one does.
    if (listens) this.#keepAlive = setInterval(() => {}, LONGEST_MS);
    if (!this.#isReferenced) this.#keepAlive?.unref();
    // Arms the alarm; events that came already are handled in a turn of their own.
    setImmediate(wake);
  }

  /** The process ends: what was said goes out, threads end. */
  #endNow() {
    try {
      this.#outbox.flush();
    } catch {
      // Nothing may keep the others from their end.
    }
    this.#native.abandon();
  }

  async drain(options = {}) {
    checkNames(options, ['timeoutMs', 'jitterMs'], 'drain');
    const { timeoutMs = 10_000, jitterMs = 0 } = options;
    checkDuration(timeoutMs, 'timeoutMs');
    checkDuration(jitterMs, 'jitterMs');
    return this.#finish(() => {
      this.#waiting.endBy(now() + timeoutMs);
      this.#native.drain(timeoutMs, jitterMs);
    });
  }

  stop() {
    return this.#finish(() => {
      this.#isDropping = true;
      for (const conn of this.#inbox.known()) if (conn !== undefined) internals.end(conn);
      this.#waiting.stop();
      this.#native.stop();
    });
  }

  #finish(how) {
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
    return this.#open();
  }

  *#open() {
    if (this.#inbox === undefined) return;
    for (const conn of this.#inbox.connections()) if (internals.isLive(conn)) yield conn;
  }

  to(room) {
    checkCount(arguments.length, 1, 'to takes one room');
    return members(this.#outbox, () => this.#open(), room);
  }

  toAll() {
    checkCount(arguments.length, 0, 'toAll is everybody and takes nothing; server.to(room) is a room');
    return everybody(this.#outbox, () => this.#open());
  }

  disconnectUser(user) {
    nameOf(user, 'user');
    if (this.#state === 'stopped') return;
    this.#outbox?.flush();
    try {
      const withheld = native(() => this.#native.disconnectUser(user));
      this.#inbox.reveal(withheld);
    } catch (error) {
      // The core has ended, and messages may still wait for their schema.
      if (error.code !== 'stopped') throw error;
    }
    this.#revoke(user);
  }

  /** From here on nothing is handled as this user, whatever was read before. */
  #revoke(user) {
    for (const conn of this.#inbox.known()) if (conn?.user === user) internals.end(conn);
    this.#revoked.delete(user);
    if (this.#revoked.size >= MOST_REVOKED) this.#revoked.delete(this.#revoked.keys().next().value);
    this.#revoked.set(user, this.#native.lastRevocation());
    this.#waiting.endOf(user);
  }

  /** Whether a connection that is heard of only now was let in before its user was disconnected. */
  #wasRevoked(user, granted) {
    return this.#revoked.size > 0 && granted < (this.#revoked.get(user) ?? 0);
  }

  stats() {
    return JSON.parse(native(() => this.#native.stats()));
  }

  reloadTls() {
    native(() => this.#native.reloadTls());
  }

  // --- listeners --------------------------------------------------------------------------------------------------

  onEvent(event, listener) {
    return this.on(this.#listeners.keyOf(event), listener);
  }

  offEvent(event, listener) {
    return this.off(this.#listeners.keyOf(event), listener);
  }

  /** Tells listeners of the server's own events. Nothing is sent: that is `toAll().emit`, `to(room).emit`, `conn.emit`. */
  emit(name, ...values) {
    this.#listeners.checkEmit(name);
    return super.emit(name, ...values);
  }

  addListener(name, listener) {
    this.#listeners.check(name);
    super.addListener(name, listener);
    return this.#listenersChanged();
  }

  prependListener(name, listener) {
    this.#listeners.check(name);
    super.prependListener(name, listener);
    return this.#listenersChanged();
  }

  on(name, listener) {
    this.#listeners.check(name);
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
    if (opens || closes) this.#inbox?.reveal(this.#native.reveal());
    this.#native.heed(opens, closes, isHeard('violation'));
  }

  // --- what happens -----------------------------------------------------------------------------------------------

  /** Where the inbox tells what happens. Each answers `true` when a handler returned a promise. */
  #sink() {
    const listeners = this.#listeners;
    return {
      hears: (kind) => kind !== records.KNOWN && (HEARD_BY[kind] === undefined || listeners.of(HEARD_BY[kind]).length > 0),
      makeConnection: (low, high, opened) => this.#makeConnection(low, high, opened),
      onOpen: (conn) => {
        if (internals.isLive(conn)) return this.#call(listeners.of('open'), conn);
        internals.setUntold(conn);
        return undefined;
      },
      onClose: (conn, code, reason, clean) => this.#onClose(conn, code, reason, clean),
      onRaw: (conn, data, isBinary) => {
        if (!internals.isLive(conn)) return undefined;
        const all = listeners.ofMessage;
        if (all.length === 0) this.#tellUnheard('message');
        return this.#call(all, conn, data, isBinary);
      },
      onMessage: (conn, number, data, meta) => this.#onMessage(conn, number, data, meta),
      onUpgrade: (low, high, request) => this.#onUpgrade(low, high, new UpgradeRequest(request)),
      onViolation: (violation, conn) => {
        violation.conn = conn;
        return this.#callOthers(listeners.of('violation'), violation, conn);
      },
      onDrained: (conn) => {
        if (conn === undefined || internals.isStillQueued(conn)) return undefined;
        internals.setDrained(conn);
        return internals.isLive(conn) ? this.#call(listeners.of('drained'), conn) : undefined;
      },
      onStopped: () => this.#waiting.whenEmpty(() => this.#onStopped()),
      onFault: (error, conn) => this.#fail(error, conn),
    };
  }

  #makeConnection(low, high, opened) {
    const ticket = opened[5];
    const accepted = ticket === null ? undefined : this.#accepted.get(ticket);
    const conn = new Connection(this.#outbox, this.#native, low, high, opened, accepted?.data, accepted?.expiresAtMs);
    if (ticket !== null) this.#accepted.delete(ticket);
    if (ticket !== null && accepted === undefined) internals.fail(conn);
    else if (this.#isDropping || this.#wasRevoked(opened[2], opened[6])) internals.end(conn);
    return conn;
  }

  #onClose(conn, code, reason, clean) {
    const close = () => {
      internals.setClosed(conn);
      try {
        const all = internals.isUntold(conn) ? [] : this.#listeners.of('close');
        return this.#call(all, conn, code, { reason, clean });
      } finally {
        internals.forget(conn);
      }
    };
    const isPointless = !internals.isLive(conn) || REVOKED.has(`${code} ${reason}`);
    internals.setDrained(conn);
    return this.#waiting.close(conn, isPointless, close) ? undefined : close();
  }

  #onMessage(conn, number, data, meta) {
    if (!internals.isLive(conn)) return undefined;
    const standard = this.#validators[number];
    if (standard === undefined && this.#waiting.isEmpty) return this.#dispatch(conn, number, data, meta);
    const message = { number, data, meta, judge: () => this.#judge(standard, conn, data) };
    if (this.#waiting.follow(conn, message)) return undefined;
    if (standard === undefined) return this.#dispatch(conn, number, data, meta);
    return this.#validate(conn, message);
  }

  #dispatch(conn, number, data, meta) {
    const all = this.#listeners.ofAny;
    const own = this.#listeners.ofEvent(number, this.#events);
    if (all.length === 0) {
      if (own.length === 0 && number < this.#events.length) this.#tellUnheard(this.#events[number]);
      return this.#call(own, conn, data, meta);
    }
    const pending = this.#call(all, conn, data, meta);
    return internals.isLive(conn) && this.#call(own, conn, data, meta) ? true : pending;
  }

  /** An event that nobody listens to is a mistake: said once, for a peer could fill the log so. */
  #tellUnheard(event) {
    if (this.#unheard.has(event)) return;
    this.#unheard.add(event);
    process.emitWarning(`an event \`${event}\` came, and nobody listens to it`, { type: 'WsguardWarning', code: 'WSGUARD_UNHEARD' });
  }

  /** The Standard Schema's own say, after the core has checked the JSON Schema behind it. */
  #judge(standard, conn, data) {
    return standard === undefined ? { value: data } : internals.run(conn, () => standard.validate(data));
  }

  #validate(conn, message) {
    try {
      const result = message.judge();
      const then = result?.then;
      if (typeof then !== 'function') return this.#onJudged(conn, message, result);
      this.#waiting.begin(conn, message, new Promise((resolve, fail) => then.call(result, resolve, fail)));
      return true;
    } catch (error) {
      this.#fail(error, conn);
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

  /** Calls handlers of a connection in its own context, until one of them throws. */
  #call(listeners, conn, first, second) {
    if (listeners.length === 0) return false;
    return internals.run(conn, this.#callEach, listeners, conn, first, second);
  }

  #callEach = (listeners, conn, first, second) => {
    const hadFailed = internals.hasFailed(conn);
    let pending = false;
    for (let at = 0; at < listeners.length; at += 1) {
      try {
        pending = this.#watch(listeners[at].call(this, conn, first, second), conn) || pending;
      } catch (error) {
        this.#fail(error, conn);
      }
      if (!hadFailed && internals.hasFailed(conn)) break;
    }
    return pending;
  };

  /** Calls handlers of what belongs to no connection, or to one that they do not work for. */
  #callOthers(listeners, first, conn) {
    if (listeners.length === 0) return false;
    const callEach = () => {
      let pending = false;
      for (let at = 0; at < listeners.length; at += 1) {
        try {
          pending = this.#watch(first === undefined ? listeners[at].call(this) : listeners[at].call(this, first)) || pending;
        } catch (error) {
          this.#report(error);
        }
      }
      return pending;
    };
    return conn === undefined ? new AsyncResource('WSGUARDEVENT').runInAsyncScope(callEach) : internals.run(conn, callEach);
  }

  /** Watches what a handler returned; whether it is a promise. What it rejects with is as if it had thrown. */
  #watch(result, conn) {
    const then = result?.then;
    if (typeof then !== 'function') return false;
    then.call(result, undefined, (error) => this.#fail(error, conn));
    return true;
  }

  #fail(error, conn) {
    try {
      if (conn !== undefined) internals.fail(conn);
    } catch (second) {
      print('wsguard: the end of a connection failed:', second);
    }
    this.#report(error, conn);
  }

  #report(error, conn) {
    const what = conn === undefined ? 'the application' : `a handler of connection ${conn.id}`;
    const told = (second) => print('wsguard: a listener of error failed:', second);
    for (const listener of this.rawListeners(errorMonitor)) this.#tell(listener, error, conn, told);
    const listeners = this.rawListeners('error');
    if (listeners.length === 0) return this.#printSampled(`wsguard: ${what} failed:`, error);
    for (const listener of listeners) this.#tell(listener, error, conn, told);
  }

  /** Whoever can make a handler fail must neither fill the log, nor hold this thread up where nobody reads it. */
  #printSampled(what, error) {
    const since = now();
    if (since - this.#printedSince >= PRINT_EVERY_MS) {
      if (this.#unprinted > 0) print(`wsguard: ${this.#unprinted} more failures were not printed; listen to \`error\` to hear of all`);
      [this.#printedSince, this.#printed, this.#unprinted] = [since, 0, 0];
    }
    if (this.#printed >= MOST_PRINTED) return void (this.#unprinted += 1);
    this.#printed += 1;
    print(what, error);
  }

  #tell(listener, error, conn, fail) {
    try {
      const result = listener.call(this, error, conn);
      const then = result?.then;
      if (typeof then === 'function') then.call(result, undefined, fail);
    } catch (second) {
      fail(second);
      print('wsguard: it was told:', error);
    }
  }

  #onUpgrade(low, high, request) {
    const fail = (error) => {
      const late = this.#answer(low, high, {});
      // Nobody waits for the answer any more: a peer could fill the log so.
      if (late?.code !== 'ticket_settled' || this.listenerCount('error') > 0) this.#report(error);
    };
    return ask(this.#authenticate, request, (isAccept, answer) => this.#settle(low, high, isAccept, answer), fail);
  }

  #settle(low, high, isAccept, { user, data, expiresAtMs, status }) {
    const ticket = String((BigInt(high) << 32n) | BigInt(low));
    if (isAccept) this.#remember(ticket, data, expiresAtMs);
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
      native(() => this.#native.answer(low, high, answer));
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #remember(ticket, data, expiresAtMs) {
    const since = now();
    for (const [old, { at }] of this.#accepted) {
      if (since - at < FORGET_AFTER_MS) break;
      this.#accepted.delete(old);
    }
    this.#accepted.set(ticket, { data, expiresAtMs, at: since });
  }

  #onOutcome({ queued, errors }) {
    for (const place of queued) {
      const conn = this.#inbox.connection(place);
      if (conn !== undefined) internals.setQueued(conn);
    }
    for (const { code, message, place } of errors) {
      // What is said after the end has nobody to go to, which is no error of the application's.
      if (code !== 'stopped') this.#report(failure(code, message), this.#inbox.connection(place));
    }
  }

  #onStopped() {
    this.#state = 'stopped';
    running.delete(this.#abandon);
    this.#forgetSignal?.();
    clearInterval(this.#keepAlive);
    this.#stopped.resolve();
    return this.#callOthers(this.#listeners.of('stopped'));
  }
}

function checkDuration(value, name) {
  if (typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return;
  const got = typeof value === 'number' ? value : kindOf(value);
  throw failure('invalid_argument', `${name} must be a number of milliseconds, got ${got}`);
}

module.exports = { Server, logToStderr: addon.logToStderr };
