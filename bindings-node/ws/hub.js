'use strict';
// One native server and its connections: takes the records of the inbox to the `WebSocket`s, and their commands to the core.

const { performance } = require('node:perf_hooks');
const timers = require('node:timers');
const addon = require('../lib/native.js').load();
const { endWithProcess, forget } = require('../lib/exit.js');
const { failure, native } = require('../lib/errors.js');
const { Inbox } = require('../lib/inbox.js');
const { Outbox } = require('../lib/outbox.js');
const { contain, containRejection } = require('./contained.js');
const { messageOf } = require('./data.js');
const { faultError } = require('./closing.js');
const { Handshakes } = require('./handshakes.js');
const { internals } = require('./websocket.js');

// Captured: a test's fake timers must not stop a server.
const { setImmediate, setInterval, clearInterval } = timers;
/** How long a start that has failed is not tried again. */
const RETRY_MS = 30_000;
/** The longest timer: it does nothing but keep the process alive. */
const LONGEST_MS = 0x7fffffff;

/** Messages of the contract come as texts, and none is sent: nothing is looked up by its event. */
const NO_EVENTS = [];
const NO_CONTRACT = {};

class Hub {
  native;
  outbox;
  #server;
  #options;
  #inbox;
  #handshakes;
  #isStarted = false;
  /** Why it could not start, and since when: it is not tried for every peer, but again later, as descriptors or threads may have run out. */
  #fault;
  #faultAt = 0;
  #isOver = false;
  #yields;
  /** What the handshake had for the connection that is being opened. */
  #opening;
  #keepAlive;
  #count = 0;
  /** The streams whose bytes are fed through, by the pipe's id. */
  #feeds = new Map();
  /** What is below the connections that were handed over. */
  #transports = new WeakMap();
  /** The connections whose callbacks wait for the next flush; one may be there several times. */
  #unwritten = [];
  #lastUnwritten;
  #abandon = () => this.#endNow();

  /** `policy`: see `readPolicy`. */
  constructor(server, policy, options) {
    this.#server = server;
    this.#options = options;
    this.#yields = options.allowSynchronousEvents === false;
    this.native = native(() => new addon.NativeServer(policy.json, true));
    // Here, and not at the start: the context of the first request is not that of the server.
    this.outbox = new Outbox(this.native, NO_CONTRACT, this.native.maxOutboxBytes(), (outcome) => this.#onOutcome(outcome));
    this.#inbox = new Inbox(this.native, this.outbox, NO_EVENTS, this, internals);
    this.native.textsAsBytes();
    this.#handshakes = new Handshakes(this, server, policy);
  }

  get handshakes() {
    return this.#handshakes;
  }

  get count() {
    return this.#count;
  }

  /** Whether there are connections, or some about to open. */
  get isBusy() {
    return this.#count > 0 || (!this.#isOver && this.#handshakes.areOpening);
  }

  /** Starts the core, if it has not started. Returns the address where it listens. */
  start(listens) {
    if (this.#isStarted) return '';
    if (this.#fault !== undefined && performance.now() - this.#faultAt < RETRY_MS) throw this.#fault;
    const wake = () => this.#inbox.wake();
    let address;
    try {
      address = native(() => this.native.start(listens, wake, true, this.#options.autoPong === false));
    } catch (error) {
      [this.#fault, this.#faultAt] = [error, performance.now()];
      throw error;
    }
    this.#isStarted = true;
    this.native.heed(true, true, false);
    endWithProcess(this.#abandon);
    if (listens) this.#hold();
    setImmediate(wake);
    return address;
  }

  /** Nothing is listened on any more, and no handshake begins. */
  stopListening() {
    this.native.stopListening();
    if (this.#isStarted && this.#count === 0) this.#release();
  }

  /** No connection is left and none will come. */
  stop() {
    if (!this.#isStarted || this.#isOver) return;
    this.#isOver = true;
    this.outbox.flush();
    this.native.stop();
  }

  /** The process ends: delivers what was sent, `process.exit()` in the same turn, too, and ends the threads. */
  #endNow() {
    const feeds = [...this.#feeds.values()].map((feed) => () => feed.endNow());
    for (const step of [() => this.outbox.flush(), () => this.native.abandon(), ...feeds]) {
      try {
        step();
      } catch {
        // The others, and other servers, must end, too.
      }
    }
  }

  // --- calls of connections -----------------------------------------------------------------------------------------

  close(low, high, code, reason) {
    if (code === 1005) native(() => this.native.closeWithoutCode(low, high));
    else native(() => this.native.close(low, high, code, reason));
  }

  /** The callbacks of a connection wait until what it has said is written. */
  awaitWritten(ws) {
    if (this.#lastUnwritten === ws) return;
    this.#lastUnwritten = ws;
    this.#unwritten.push(ws);
    // While events are handled the inbox flushes at their end.
    if (!this.outbox.held && this.#unwritten.length === 1) setImmediate(this.#checkWritten);
  }

  #checkWritten = () => {
    if (this.outbox.held) return;
    this.outbox.flush();
    this.onFlushed();
  };

  /** Behind a flush: whoever's peer reads has everything written; the others wait for `drained`. */
  onFlushed() {
    if (this.#unwritten.length === 0) return;
    const unwritten = this.#unwritten;
    [this.#unwritten, this.#lastUnwritten] = [[], undefined];
    for (const ws of unwritten) if (!internals.isQueued(ws)) this.#guarded(ws, () => internals.written(ws));
    // A callback has said more, which is flushed behind this.
    if (this.#unwritten.length > 0) setImmediate(this.#checkWritten);
  }

  // --- calls of those who hand over ----------------------------------------------------------------------------------

  adoptSocket(fd, told, received) {
    native(() => this.native.adoptSocket(fd, told, received));
    this.#hold();
  }

  adoptPipe(feed, told, received) {
    const [low, high] = native(() => this.native.adoptPipe(told, received));
    this.#feeds.set(keyOf(low, high), feed);
    this.#hold();
    return [low, high];
  }

  dropPipe(low, high) {
    this.#feeds.delete(keyOf(low, high));
    this.native.dropPipe(low, high);
    this.#releaseIdle();
  }

  // --- the inbox's sink ----------------------------------------------------------------------------------------------

  hears() {
    return true;
  }

  onUpgrade(low, high, told) {
    return this.#handshakes.ask(low, high, told);
  }

  onUpgradeGone(low, high) {
    this.#handshakes.onGone(low, high);
    this.#onNone();
  }

  makeConnection(low, high, opened) {
    const accepted = this.#handshakes.take(opened[6]);
    let ws;
    try {
      if (accepted === undefined) throw failure('internal', 'a connection opened whose handshake was forgotten');
      ws = accepted.context.runInAsyncScope(() => new this.#options.WebSocket(null, undefined, this.#options));
      // The core may have chosen it: `subprotocols` of the policy, or the one that brings a token.
      const protocol = opened[4] ?? '';
      const isCompressed = opened[21];
      internals.open(ws, this, low, high, { socket: accepted.socket, protocol, isCompressed, session: sessionOf(opened) });
    } catch (error) {
      native(() => this.native.terminate(low, high));
      accepted?.transport?.end();
      throw error;
    }
    if (accepted.transport === undefined) {
      accepted.socket._connect(ws);
    } else {
      this.#transports.set(ws, accepted.transport);
      accepted.transport.onClosed(() => ws.terminate(), () => internals.left(ws));
      accepted.transport.onEnded(() => internals.hangUp(ws));
      accepted.transport.isReadBy(ws);
    }
    this.#count += 1;
    this.#hold();
    this.#opening = accepted;
    return ws;
  }

  onOpen(ws) {
    const { request, done, context } = this.#opening;
    internals.run(ws, () => {
      context.runInAsyncScope(() => {
        ws.emit('open');
        this.#server._opened(ws, request, done);
      });
    });
    // Whoever waits for the connection by a promise listens before its first message comes.
    return true;
  }

  onRaw(ws, data, isBinary) {
    // The application's class had thrown, and there is no connection for what the peer had said by then.
    if (ws === undefined || internals.isDeaf(ws)) return false;
    if (internals.isKeeping(ws)) return internals.keep(ws, () => this.#tellMessage(ws, data, isBinary));
    return this.#tellMessage(ws, data, isBinary);
  }

  #tellMessage(ws, data, isBinary) {
    const binaryType = internals.binaryType(ws);
    ws.emit('message', isBinary && binaryType !== 'nodebuffer' ? messageOf(data, binaryType) : data, isBinary);
    return this.#yields;
  }

  onDrained(ws) {
    if (ws === undefined) return;
    const [low, high] = internals.words(ws);
    if (this.native.isQueued(low, high)) return;
    internals.setQueued(ws, false);
    internals.run(ws, internals.written, ws);
  }

  /** Nothing of the peer follows but the end. A fault is told at once, as by `ws`, though the peer may still be there for long. */
  onClosing(ws, [fault, value]) {
    if (ws === undefined) return;
    internals.closing(ws);
    const error = faultError(fault, value);
    if (error === undefined || internals.isDeaf(ws)) return;
    const tell = () => internals.fault(ws, error);
    if (internals.isKeeping(ws)) internals.keep(ws, tell);
    else internals.run(ws, tell);
  }

  onPong() {}

  onControl(ws, payload, isPing) {
    if (internals.isDeaf(ws)) return false;
    const tell = () => {
      ws.emit(isPing ? 'ping' : 'pong', payload);
      return this.#yields;
    };
    return internals.isKeeping(ws) ? internals.keep(ws, tell) : tell();
  }

  onPipeReady(low, high) {
    this.#feeds.get(keyOf(low, high))?.onReady();
  }

  onPipeRoom(low, high) {
    this.#feeds.get(keyOf(low, high))?.onRoom();
  }

  onAdoptionEnded(tag, status) {
    this.#handshakes.onEnded(tag, status);
    this.#releaseIdle();
  }

  onViolation() {}

  /** `peer`: which rule of framing the peer broke, what its own close frame said, and the number that broke the rule. */
  onClose(ws, code, { reason, clean, verdict }, [fault, peerCode, peerReason, value]) {
    // The application's class had thrown.
    if (ws === undefined) return this.#onNone();
    this.#count -= 1;
    const error = faultError(fault, value);
    const isFault = error !== undefined;
    const [told, why] = isFault ? [1006, ''] : verdict !== null ? [code, reason] : [peerCode ?? 1006, peerReason];
    const isClean = clean && !isFault;
    internals.run(ws, () => {
      try {
        internals.tellKept(ws);
        if (isFault) internals.fault(ws, error);
      } finally {
        this.#server._closing(ws);
        try {
          // Before `close` is told, which finds the socket destroyed. A listener of the socket may throw.
          this.#endOf(ws, isClean);
        } finally {
          try {
            internals.close(ws, told, Buffer.from(why), isClean, isClean && verdict === null);
          } finally {
            this.#server._closed();
            this.#releaseIdle();
          }
        }
      }
    });
  }

  onStopped() {
    this.#isOver = true;
    forget(this.#abandon);
    this.#server._closed();
    this.#release();
  }

  /** The application's code threw: that costs this connection. */
  onFault(error, ws) {
    this.#end(ws);
    contain(error);
  }

  /** A listener's promise was rejected. */
  onRejected(error, ws) {
    this.#end(ws);
    containRejection(error);
  }

  // -------------------------------------------------------------------------------------------------------------------

  #end(ws) {
    if (ws !== undefined && !internals.isOver(ws)) internals.fail(ws);
  }

  /** Lets go of what is below a connection that is over. */
  #endOf(ws, isClean) {
    const transport = this.#transports.get(ws);
    this.#transports.delete(ws);
    if (transport === undefined) ws._socket._ended(isClean);
    else transport.end();
  }

  /** There will be no connection: the end of the server may have waited for it. */
  #onNone() {
    this.#server._closed();
    this.#releaseIdle();
  }

  #releaseIdle() {
    if (this.#count + this.#feeds.size === 0 && !this.#handshakes.isWaiting && !this.#server._isListening) this.#release();
  }

  #guarded(ws, call) {
    try {
      internals.run(ws, call);
    } catch (error) {
      this.onFault(error, ws);
    }
  }

  /** The process lives as long as there are connections, or may come some. */
  #hold() {
    this.#keepAlive ??= setInterval(() => {}, LONGEST_MS);
  }

  #release() {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }

  #onOutcome({ queued, errors }) {
    for (const place of queued) {
      const ws = this.#inbox.connection(place);
      if (ws !== undefined) internals.setQueued(ws, true);
    }
    for (const { code, message } of errors) {
      if (code !== 'stopped') setImmediate(() => contain(failure(code, message)));
    }
  }
}

function keyOf(low, high) {
  return high * 2 ** 32 + low;
}

/** Who a connection is by the policy. */
function sessionOf(opened) {
  const [id, ip, user, path, , expiresAtMs, , , roles, route, params] = opened;
  const [claims, reported] = [opened[15], opened[20]];
  return Object.freeze({ id, ip, user, roles, path, route, params: Object.fromEntries(params), expiresAtMs, reported, claims: claims === null ? null : JSON.parse(claims) });
}

module.exports = { Hub };
