'use strict';
// Takes messages to the application's handlers, past its Standard Schemas.

const { internals } = require('./connection.js');
const { failure } = require('./errors.js');
const { Waiting } = require('./waiting.js');

class Messages {
  #native;
  #listeners;
  #handlers;
  #contract;
  #events;
  /** The generation of the policy that has judged the messages that come now. */
  #generation = 1;
  /** Events of the contract that came and had no listener. */
  #unheard = new Set();
  /** Messages whose schema is asynchronous, or whose connection is still being opened. */
  waiting;

  constructor(nativeServer, listeners, handlers, contract) {
    this.#native = nativeServer;
    this.#listeners = listeners;
    this.#handlers = handlers;
    this.#contract = contract;
    this.#events = contract.events;
    this.waiting = new Waiting(nativeServer, (error, conn, event) => handlers.fail(error, conn, event));
  }

  /** Each of these returns true if a handler returned a promise. */
  onRaw(conn, data, isBinary) {
    if (!internals.isLive(conn)) return undefined;
    if (!this.waiting.isEmpty) {
      const handle = { event: 'message', bytes: Buffer.byteLength(data), judge() {}, settle: () => this.#hear(conn, kept, isBinary) };
      // A view would keep the whole batch that it came in.
      const kept = isBinary && this.waiting.has(conn) ? copyOf(data) : data;
      if (this.waiting.follow(conn, handle)) return undefined;
    }
    return this.#hear(conn, data, isBinary);
  }

  #hear(conn, data, isBinary) {
    const all = this.#listeners.ofMessage;
    if (all.length === 0) this.#tellUnheard('message');
    return this.#handlers.call(all, conn, 'message', data, isBinary);
  }

  /** The messages that follow were judged by the policy of this generation: a reload may have come since. */
  onJudgedBy(generation) {
    this.#generation = generation;
  }

  /** What JavaScript adds to the judgement of the core is of the same policy: no message is judged by halves of two. */
  #rulesFor(conn) {
    return internals.rulesIn(conn, this.#generation) ?? this.#contract.ofGeneration(this.#generation, conn.route);
  }

  onEvent(conn, number, data, meta) {
    if (!internals.isLive(conn)) return undefined;
    const rules = this.#rulesFor(conn);
    const standard = rules.validators[number];
    if (meta.status !== undefined && internals.isAnswer(conn, meta.id)) return this.#onAnswer(conn, rules, standard, data, meta);
    if (standard === undefined && this.waiting.isEmpty) return this.#dispatch(conn, number, data, meta);
    const message = {
      event: meta.event,
      bytes: meta.sizeBytes,
      judge: () => this.#judge(standard, conn, data),
      settle: (result) => this.#onJudged(conn, rules, number, meta, result),
    };
    if (this.waiting.follow(conn, message)) return undefined;
    if (standard === undefined) return this.#dispatch(conn, number, data, meta);
    return this.#validate(conn, message);
  }

  /**
   * An answer to `conn.call` waits for nothing: a handler of `open` may wait for it. The first one claims its call, and others with its
   * id are dropped before they are judged: a peer sends as many as it likes. What is judged counts towards `maxInboxBytes`.
   */
  #onAnswer(conn, rules, standard, data, meta) {
    let kept = 0;
    if (!internals.claim(conn, meta, () => kept > 0 && this.#native.release(kept))) return undefined;
    // An error says what it likes: its data is that of the JSON Schema, not yet what a handler takes.
    if (standard === undefined || meta.status === 'error') return void internals.settle(conn, meta, data);
    const fail = (error) => this.#handlers.fail(error, conn, meta.event);
    try {
      const result = this.#judge(standard, conn, data);
      const then = result?.then;
      if (typeof then !== 'function') return void this.#onJudgedAnswer(conn, rules, meta, result);
      // The schema may have ended the connection, and the call with it: nothing would give the bytes back.
      if (internals.isLive(conn)) this.#native.keep((kept = meta.sizeBytes));
      new Promise((resolve, refuse) => then.call(result, resolve, refuse)).then((judged) => this.#onJudgedAnswer(conn, rules, meta, judged)).catch(fail);
      return true;
    } catch (error) {
      fail(error);
      return undefined;
    }
  }

  #onJudgedAnswer(conn, rules, meta, result) {
    if (!internals.isLive(conn)) return;
    if (isRight(result)) return void internals.settle(conn, meta, result.value);
    internals.unclaim(conn, meta);
    this.#refuse(conn, rules, meta);
  }

  /** No message of a connection is handled before this promise is settled, which never rejects. */
  waitFor(conn, opened) {
    this.waiting.begin(conn, { event: 'open', bytes: 0, settle() {} }, opened);
  }

  #dispatch(conn, number, data, meta) {
    const all = this.#listeners.ofAny;
    const own = this.#listeners.ofEvent(number, this.#events);
    if (all.length === 0) {
      if (own.length === 0 && number < this.#events.length) this.#tellUnheard(this.#events[number]);
      return this.#handlers.call(own, conn, meta.event, data, meta);
    }
    if (this.#handlers.isWrapped) return this.#handlers.call([...all, ...own], conn, meta.event, data, meta);
    const pending = this.#handlers.call(all, conn, meta.event, data, meta);
    return internals.isLive(conn) && this.#handlers.call(own, conn, meta.event, data, meta) ? true : pending;
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
      if (typeof then !== 'function') return message.settle(result);
      this.waiting.begin(conn, message, new Promise((resolve, fail) => then.call(result, resolve, fail)));
      return true;
    } catch (error) {
      this.#handlers.fail(error, conn, message.event);
      return undefined;
    }
  }

  #onJudged(conn, rules, number, meta, result) {
    if (!internals.isLive(conn)) return undefined;
    if (isRight(result)) return this.#dispatch(conn, number, result.value, meta);
    this.#refuse(conn, rules, meta);
    return undefined;
  }

  /** The application's schema has refused data. With `onMismatch: "reply"` the core tells the peer, and the connection stays. */
  #refuse(conn, { enforces, answered }, meta) {
    internals.refuse(conn, meta, enforces && !answered.has(meta.event));
  }
}

function copyOf(data) {
  const copy = Buffer.allocUnsafeSlow(data.length);
  copy.set(data);
  return copy;
}

/** Whether data is as its schema wants it. */
function isRight(result) {
  const hasIssues = result?.issues !== undefined && result.issues !== null;
  if (result === null || typeof result !== 'object' || (!hasIssues && !('value' in result))) {
    throw failure('invalid_argument', 'a schema must answer { value } or { issues }');
  }
  return !hasIssues;
}

module.exports = { Messages };
