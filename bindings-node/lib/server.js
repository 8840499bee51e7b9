'use strict';
// The server: start, end, and the application's calls. It decides nothing that a peer could notice.

const { setImmediate, clearInterval, setInterval } = require('node:timers');
const { performance } = require('node:perf_hooks');
const addon = require('./native.js').load();
const { advise, readOptions } = require('./policy.js');
const { Outbox } = require('./outbox.js');
const { Inbox } = require('./inbox.js');
const { internals } = require('./connection.js');
const { everybody, members, ofUser } = require('./audience.js');
const { LatestBans, isOf, timeOf, whomOf } = require('./bans.js');
const { Contract } = require('./contract.js');
const { Counts } = require('./counts.js');
const { Emitter, listenersOf } = require('./emitter.js');
const { Failures } = require('./failures.js');
const { Handlers } = require('./handlers.js');
const { Handshakes } = require('./handshakes.js');
const { Happenings } = require('./happenings.js');
const { Messages } = require('./messages.js');
const { attach, checkUpgrade, handOver, refuse } = require('./attach.js');
const { endWithProcess, forget } = require('./exit.js');
const { checkNames, failure, native } = require('./errors.js');
const { checkCount, durationOf, nameOf, kindOf, textOf } = require('./text.js');
const { onDisconnect } = require('./worker.js');

/** The longest timer: it fires every 24 days and does nothing but keep the process alive. */
const LONGEST_MS = 0x7fffffff;

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');
const now = performance.now.bind(performance);

/** For `wsguard/testing`: the options as they were given, and the route of a path. */
let optionsOf;
let routeOf;

class Server extends Emitter {
  #native;
  #options;
  #contract;
  #failures;
  #handlers;
  #handshakes;
  // From the start on.
  #home;
  #outbox;
  #inbox;
  #messages;
  #happenings;
  /** The codes of errors of `handleUpgrade` that were reported: each is reported once. */
  #reported = new Set();
  #keepAlive;
  #isReferenced = true;
  #state = 'new';
  /** Somebody waits for the end of a connection: closes are told at once. */
  #watchesEnds = false;
  /** `drain` or `stop` was called. */
  #isEnding = false;
  #address;
  #detach = [];
  #stopped = {};
  #abandon;
  #forgetSignal;
  #forgetWorker;

  constructor(options) {
    const read = readOptions(options);
    const nativeServer = checked(read, () => new addon.NativeServer(read.json));
    const contract = new Contract(read.top, read.routes, nativeServer.events());
    super(contract, () => this.#heed());
    this.#native = nativeServer;
    this.#options = options;
    this.#contract = contract;
    this.#failures = new Failures(this);
    this.#handlers = new Handlers(this, this.#failures);
    this.#handshakes = new Handshakes(nativeServer, read.authenticate, this.#failures);
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
    this.#checkNotEnding();
    const detach = attach(this, () => this.#isEnding, httpServer, options);
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
      // The peer has left, or the server is stopping. A wrong set-up is reported once, not for each peer.
      if (error.code === 'connection_closed' || error.code === 'stopped' || this.#reported.has(error.code)) return;
      this.#reported.add(error.code);
      this.#failures.report(error);
    }
  }

  #checkNotEnding() {
    if (this.#isEnding) throw failure('stopped', 'the server has ended; a server has one life: make another');
  }

  #start(listens) {
    if (this.#state !== 'new') {
      if (this.#address === undefined) this.#checkNotEnding();
      const why = this.#address === '' ? 'was attached already; listen() first, then attach()' : 'was started already';
      throw failure('already_started', `the server ${why}; a server has one life: make another`);
    }
    const wake = () => {
      this.#home.counts.settle();
      this.#inbox.wake();
    };
    const address = native(() => this.#native.start(listens, wake));
    // No event is handled before this turn of the event loop is over.
    this.#address = address;
    this.#connectParts();
    this.#state = 'running';
    this.#heed();
    this.#abandon = () => this.#endNow();
    endWithProcess(this.#abandon);
    // A server beside an HTTP server lives as long as that one does.
    if (listens) {
      this.#keepAlive = setInterval(() => {}, LONGEST_MS);
      this.#forgetWorker = onDisconnect(() => void this.drain());
    }
    if (!this.#isReferenced) this.#keepAlive?.unref();
    // Arms the notifier; events that came already are handled in a turn of their own.
    setImmediate(wake);
  }

  #connectParts() {
    const [core, handlers, listeners] = [this.#native, this.#handlers, listenersOf(this)];
    this.#outbox = new Outbox(core, this.#contract, core.maxOutboxBytes(), (outcome) => this.#onOutcome(outcome));
    this.#outbox.isNode = core.isNode();
    this.#messages = new Messages(core, listeners, handlers, this.#contract);
    const onEnd = () => this.#inbox.inContext(() => this.#onStopped());
    this.#home = { native: core, outbox: this.#outbox, inbox: undefined, counts: new Counts(core), watchEnds: () => this.#watchEnds(), hasBanned: false, latestBans: new LatestBans(), wasReloaded: false };
    this.#happenings = new Happenings(this.#home, this.#contract, listeners, handlers, this.#handshakes, this.#messages, onEnd);
    this.#inbox = new Inbox(core, this.#outbox, this.#contract.events, this.#happenings);
    this.#home.inbox = this.#inbox;
  }

  /** The process ends: delivers what was sent and ends the threads. */
  #endNow() {
    try {
      this.#outbox.flush();
    } catch {
      // The other servers must end, too.
    }
    this.#native.abandon();
  }

  async drain(options = {}) {
    checkNames(options, ['timeoutMs', 'jitterMs'], 'drain');
    const { timeoutMs = 10_000, jitterMs = 0 } = options;
    durationOf(timeoutMs, 'timeoutMs');
    durationOf(jitterMs, 'jitterMs');
    return this.#finish(() => {
      this.#messages.waiting.endBy(now() + timeoutMs);
      this.#native.drain(timeoutMs, jitterMs);
    });
  }

  stop() {
    return this.#finish(() => {
      this.#happenings.isDropping = true;
      for (const conn of this.#inbox.known()) if (conn !== undefined) internals.end(conn);
      this.#messages.waiting.stop();
      this.#native.stop();
    });
  }

  #finish(how) {
    this.#isEnding = true;
    if (this.#state === 'new') {
      this.#state = 'stopped';
      this.#stopped.resolve();
    }
    if (this.#state === 'running') {
      this.#outbox.flush();
      how();
      // The process waits for the end of the server, even after unref().
      this.#keepAlive ??= setInterval(() => {}, LONGEST_MS);
      this.#keepAlive.ref();
    }
    return this.#stopped.promise;
  }

  #onStopped() {
    this.#state = 'stopped';
    // Not before: until here, newcomers of an HTTP server are answered 503. Behind a fault they go on to be.
    if (this.#isEnding) for (const detach of this.#detach.splice(0)) detach();
    this.#home.counts.end();
    forget(this.#abandon);
    clearInterval(this.#keepAlive);
    this.#stopped.resolve();
    this.#forgetSignal?.();
    this.#forgetWorker?.();
    return this.#handlers.callOthers(listenersOf(this).of('stopped'), 'stopped');
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

  // --- calls of the application ------------------------------------------------------------------------------------

  get address() {
    return this.#address;
  }

  get adminAddress() {
    return this.#native.adminAddress() ?? undefined;
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

  get(id) {
    textOf(id, 'id');
    const conn = this.#inbox?.ofId(id);
    return conn !== undefined && internals.isLive(conn) ? conn : undefined;
  }

  connectionsOf(user) {
    nameOf(user, 'user');
    return this.#inbox === undefined ? [] : ofUser(this.#home, user).members();
  }

  to(...rooms) {
    return members(this.#home, rooms);
  }

  toUser(user) {
    checkCount(arguments.length, 1, 'toUser takes one user');
    return ofUser(this.#home, user);
  }

  toAll() {
    checkCount(arguments.length, 0, 'toAll is everybody and takes nothing; server.to(room) is a room');
    return everybody(this.#home);
  }

  disconnectUser(user) {
    nameOf(user, 'user');
    if (this.#state === 'stopped') return;
    this.#outbox?.flush();
    this.#disconnect(user);
  }

  #disconnect(user) {
    const announced = native(() => this.#native.disconnectUser(user));
    this.#inbox.announce(announced);
    // From here on no message of this user is handled, even one that was received before.
    this.#inbox.disconnect(user);
    this.#messages.waiting.endOf((conn) => conn.user === user);
  }

  ban(given) {
    const { isUser, whom } = whomOf(given, ['forMs', 'reason'], 'ban');
    const [forMs, reason] = [timeOf(given.forMs), textOf(given.reason ?? '', 'reason')];
    this.#outbox?.flush();
    this.#call(() => this.#native.ban(isUser, whom, forMs, reason));
    // From here on no message of theirs is handled. The core closes the connections, those of a whole network among them.
    this.#home.hasBanned = true;
    // A user is disconnected, too: whoever was let in before and is heard of later stays out even if the ban is over by then.
    if (isUser) return this.#disconnect(whom);
    const isMeant = isOf(whom, (ip) => this.#native.isBanned(ip));
    this.#home.latestBans.add(isMeant);
    this.#inbox.announce(this.#native.announce());
    this.#inbox.end(isMeant);
    this.#messages.waiting.endOf(isMeant);
  }

  unban(given) {
    const { isUser, whom } = whomOf(given, [], 'unban');
    return this.#call(() => this.#native.unban(isUser, whom));
  }

  bans() {
    return JSON.parse(this.#call(() => this.#native.bans()));
  }

  use(middleware) {
    if (typeof middleware !== 'function') throw failure('invalid_argument', `use takes a function, got ${kindOf(middleware)}`);
    this.#handlers.use(middleware);
    return this;
  }

  reload(options) {
    const read = readOptions(options);
    // What was said before is said by the rules before.
    this.#outbox?.flush();
    const generation = this.#call(() => checked(read, () => this.#native.reload(read.json)));
    this.#options = options;
    this.#home.wasReloaded = true;
    this.#contract.replace(read.top, read.routes, this.#native.events(), generation);
    listenersOf(this).learn();
    this.#handshakes.setAuthenticate(read.authenticate);
    this.#outbox.setMost(this.#native.maxOutboxBytes());
    this.#messages.waiting.readLimit();
    const routeOf = (path) => this.#native.routeOf(path);
    for (const conn of this.#inbox.known()) {
      if (conn !== undefined) internals.setRules(conn, this.#contract.ofPath(conn.path, routeOf));
    }
    return generation;
  }

  stats() {
    const { counters, verdicts } = JSON.parse(this.#call(() => this.#native.stats()));
    return { ...counters, verdicts };
  }

  metrics() {
    return this.#call(() => this.#native.metrics());
  }

  reloadTls() {
    this.#call(() => this.#native.reloadTls());
  }

  /** A call of the core's server. One that has ended before it was started never will be. */
  #call(call) {
    try {
      return native(call);
    } catch (error) {
      if (error.code === 'not_started') this.#checkNotEnding();
      throw error;
    }
  }

  static {
    optionsOf = (server) => server.#options;
    routeOf = (server, path) => server.#native.routeOf(path);
  }

  /** Tells the core which events have listeners: others do not wake this thread, and opens may be deferred. */
  #heed() {
    const isHeard = (name) => this.listenerCount(name) > 0;
    const [opens, closes] = [isHeard('open'), isHeard('close')];
    if (opens || closes) this.#inbox?.announce(this.#native.announce());
    this.#native.deferOpens(!opens && !closes);
    this.#native.heed(opens, closes || this.#watchesEnds, isHeard('violation'));
  }

  #watchEnds() {
    if (this.#watchesEnds) return;
    this.#watchesEnds = true;
    this.#heed();
    // The close may have come already, as one that nobody waits for.
    setImmediate(() => this.#inbox.wake());
  }

  /** Handles the results of a flush. The application is called in a later turn: it may be in the middle of a call now. */
  #onOutcome({ queued, errors }) {
    for (const place of queued) {
      const conn = this.#inbox.connection(place);
      if (conn !== undefined) internals.setQueued(conn);
    }
    for (const { code, message, place } of errors) {
      // A broadcast after the end is not an error of the application.
      if (code === 'stopped') continue;
      const [error, conn] = [failure(code, message), this.#inbox.connection(place)];
      this.#inbox.inContext(() => setImmediate(() => this.#failures.report(error, conn)));
    }
  }
}

/** A call of the core that takes the options; an error says what can be done. */
function checked(read, call) {
  try {
    return native(call);
  } catch (error) {
    throw advise(error, read);
  }
}

module.exports = { Server, optionsOf, routeOf };
