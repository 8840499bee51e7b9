'use strict';
// One open connection, as handlers see it.

const { failure } = require('./errors.js');

/** Text of JSON, or what is wrong with it. `undefined` is null, as for an absent `data`. */
function jsonOf(data) {
  if (data === undefined) return 'null';
  const text = JSON.stringify(data);
  if (text === undefined) throw failure('invalid_argument', `data must be JSON, got a ${typeof data}`);
  return text;
}

function textOf(value, what) {
  if (typeof value !== 'string') throw failure('invalid_argument', `${what} must be a string, got ${typeof value}`);
  return value;
}

/** Bytes of any view or ArrayBuffer, without a copy. */
function bytesOf(data) {
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data);
  throw failure('invalid_argument', `a message must be a string, Buffer, typed array or ArrayBuffer, got ${typeof data}`);
}

class Connection {
  #outbox;
  #native;
  #drained;

  /** @internal */
  constructor(outbox, native, low, high, opened, data) {
    this.#outbox = outbox;
    this.#native = native;
    this.low = low;
    this.high = high;
    this.id = opened[0];
    this.ip = opened[1];
    this.user = opened[2];
    this.path = opened[3];
    this.subprotocol = opened[4];
    this.data = data;
    this.isOpen = true;
    this.isQueued = false;
    this.hasFailed = false;
  }

  send(data) {
    if (!this.isOpen) return 'dropped';
    if (typeof data === 'string') this.#outbox.text(this.low, this.high, data);
    else this.#outbox.binary(this.low, this.high, bytesOf(data));
    return this.isQueued ? 'queued' : 'sent';
  }

  emit(event, data) {
    const text = jsonOf(data);
    textOf(event, 'event');
    if (!this.isOpen) return 'dropped';
    this.#outbox.emit(this.low, this.high, event, text);
    return this.isQueued ? 'queued' : 'sent';
  }

  reply(meta, event, data) {
    const id = meta?.id;
    if (id === undefined) return this.emit(event, data);
    const text = jsonOf(data);
    textOf(event, 'event');
    if (!this.isOpen) return 'dropped';
    this.#outbox.reply(this.low, this.high, JSON.stringify(id), event, text);
    return this.isQueued ? 'queued' : 'sent';
  }

  join(room) {
    this.#now('join', textOf(room, 'room'));
  }

  leave(room) {
    this.#now('leave', textOf(room, 'room'));
  }

  close(code = 1000, reason = '') {
    if (typeof code !== 'number') throw failure('invalid_argument', `close code must be a number, got ${typeof code}`);
    if (!this.isOpen) return;
    this.#outbox.flush();
    this.#native.close(this.low, this.high, code, textOf(reason, 'close reason'));
  }

  drained() {
    if (!this.isOpen || !this.isQueued) return Promise.resolve();
    this.#drained ??= Promise.withResolvers?.() ?? withResolvers();
    return this.#drained.promise;
  }

  pause() {
    if (this.isOpen) this.#native.pause(this.low, this.high, true);
  }

  resume() {
    if (this.isOpen) this.#native.pause(this.low, this.high, false);
  }

  get [Symbol.toStringTag]() {
    return 'Connection';
  }

  /** What was said before must come before. */
  #now(call, argument) {
    if (!this.isOpen) return;
    this.#outbox.flush();
    this.#native[call](this.low, this.high, argument);
  }

  /** @internal The handler failed: 1011. */
  fail() {
    if (!this.isOpen || this.hasFailed) return;
    this.hasFailed = true;
    this.#outbox.fail(this.low, this.high);
  }

  /** @internal A message that the application's own schema refused. */
  refuse(event) {
    this.#outbox.flush();
    this.#native.refuse(this.low, this.high, event);
  }

  /** @internal The peer has read everything, or never will. */
  setDrained() {
    this.isQueued = false;
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  /** @internal */
  setClosed() {
    this.isOpen = false;
    this.setDrained();
  }
}

function withResolvers() {
  const deferred = {};
  deferred.promise = new Promise((resolve) => (deferred.resolve = resolve));
  return deferred;
}

module.exports = { Connection, bytesOf, jsonOf, textOf };
