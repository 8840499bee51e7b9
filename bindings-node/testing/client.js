'use strict';
// A client for tests. It takes nothing beside Node.

const { checkNames, failure } = require('../lib/errors.js');
const { Server } = require('../lib/server.js');
const { durationOf, jsonOf, kindOf } = require('../lib/text.js');
const { BINARY, CLOSE, FrameReader, PING, PONG, RSV1, TEXT, compressed, frame } = require('./frames.js');
const { open } = require('./handshake.js');

const WAIT_MS = 1000;
const CONNECT_MS = 5000;
/** A longer timer of Node's fires at once. */
const LONGEST_MS = 0x7fffffff;

class TestClient {
  #socket;
  #reader = new FrameReader((opcode, payload) => this.#onMessage(opcode, payload));
  /** Messages that nobody has taken. */
  #messages = [];
  /** Those who wait: each takes the first message that fits. */
  #waiting = [];
  #ended;
  #closing = { code: 1006, reason: '' };
  #isClosing = false;
  #lastId = 0;

  constructor({ socket, head, subprotocol, compressed: isCompressed, headers }) {
    this.#socket = socket;
    this.subprotocol = subprotocol;
    this.compressed = isCompressed;
    this.headers = headers;
    this.closed = new Promise((resolve) => {
      socket.on('close', () => this.#onEnd(resolve));
    });
    socket.on('error', () => {});
    socket.on('data', (chunk) => this.#reader.read(chunk));
    socket.on('end', () => socket.end());
    if (head.length > 0) this.#reader.read(head);
  }

  get isOpen() {
    return this.#ended === undefined && !this.#isClosing;
  }

  emit(event, data, more = {}) {
    checkNames(more, ['id', 'status'], 'emit');
    const { id, status } = more;
    this.#checkOpen();
    const parts = [`"event":${JSON.stringify(event)}`];
    if (data !== undefined) parts.push(`"data":${jsonOf(data)}`);
    if (status !== undefined) parts.push(`"status":${JSON.stringify(status)}`);
    if (id !== undefined) parts.push(`"id":${JSON.stringify(id)}`);
    this.#say(TEXT, Buffer.from(`{${parts.join()}}`));
  }

  send(data) {
    this.#checkOpen();
    if (typeof data === 'string') this.#say(TEXT, Buffer.from(data));
    else this.#say(BINARY, ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data));
  }

  reply(message, data, more = {}) {
    checkNames(more, ['event', 'status'], 'reply');
    const { event = message.event, status = 'ok' } = more;
    this.emit(event, data, { id: message.id, status });
  }

  async expect(event, options) {
    const timeoutMs = waitOf(options, 'expect');
    return this.#wait(`\`${event}\``, (message) => message.event === event, timeoutMs);
  }

  async message(options) {
    return this.#wait('message', () => true, waitOf(options, 'message'));
  }

  async request(event, data, options) {
    const timeoutMs = waitOf(options, 'request');
    this.#lastId += 1;
    const id = `test-${this.#lastId}`;
    this.emit(event, data, { id });
    return this.#wait(`answer to \`${event}\``, (message) => message.id === id && message.status !== undefined, timeoutMs);
  }

  async expectClose(options) {
    const timeoutMs = waitOf(options, 'expectClose');
    let late;
    const timeout = new Promise((_, reject) => {
      late = setTimeout(() => reject(this.#missing('close', timeoutMs)), timeoutMs);
    });
    try {
      return await Promise.race([this.closed, timeout]);
    } finally {
      clearTimeout(late);
    }
  }

  close(code = 1000, reason = '') {
    if (this.isOpen) this.#sayClose(code, reason);
    return this.closed;
  }

  terminate() {
    this.#socket.destroy();
    return this.closed;
  }

  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.close();
  }

  #checkOpen() {
    if (!this.isOpen) throw failure('connection_closed', `the connection is closed${this.#howItEnded()}`);
  }

  #say(opcode, payload) {
    if (this.compressed) this.#write(RSV1 | opcode, compressed(payload));
    else this.#write(opcode, payload);
  }

  #write(opcode, payload) {
    if (!this.#socket.destroyed) this.#socket.write(frame(opcode, payload));
  }

  #sayClose(code, reason) {
    this.#isClosing = true;
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#write(CLOSE, payload);
  }

  #onMessage(opcode, payload) {
    if (opcode === PING) return this.#write(PONG, payload);
    if (opcode === CLOSE) return this.#onClose(payload);
    if (opcode === PONG) return undefined;
    const message = opcode === BINARY ? payload : read(payload.toString());
    const at = this.#waiting.findIndex(({ fits }) => fits(message));
    if (at < 0) return this.#messages.push(message);
    const [{ settle }] = this.#waiting.splice(at, 1);
    return settle(message);
  }

  #onClose(payload) {
    this.#closing = payload.length < 2 ? { code: 1005, reason: '' } : { code: payload.readUInt16BE(), reason: payload.toString('utf8', 2) };
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.#write(CLOSE, payload.subarray(0, 2));
    }
    this.#socket.end();
  }

  #onEnd(resolve) {
    this.#ended = this.#closing;
    resolve(this.#closing);
    for (const { what, fail } of this.#waiting.splice(0)) {
      fail(failure('connection_closed', `no ${what} came; the connection is closed${this.#howItEnded()}${this.#whatCame()}`));
    }
  }

  #wait(what, fits, timeoutMs) {
    const at = this.#messages.findIndex(fits);
    if (at >= 0) return Promise.resolve(this.#messages.splice(at, 1)[0]);
    if (this.#ended !== undefined) {
      const error = failure('connection_closed', `no ${what} came; the connection is closed${this.#howItEnded()}${this.#whatCame()}`);
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      const waiter = { what, fits };
      const late = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(this.#missing(what, timeoutMs));
      }, timeoutMs);
      const then = (act) => (value) => {
        clearTimeout(late);
        act(value);
      };
      [waiter.settle, waiter.fail] = [then(resolve), then(reject)];
      this.#waiting.push(waiter);
    });
  }

  #missing(what, timeoutMs) {
    return failure('timeout', `no ${what} came within ${timeoutMs} ms${this.#whatCame()}`);
  }

  #howItEnded() {
    return this.#ended === undefined ? '' : ` (${this.#ended.code} ${this.#ended.reason})`.replace(' )', ')');
  }

  /** What came and was not taken: usually it says what went wrong. */
  #whatCame() {
    if (this.#messages.length === 0) return '';
    const names = this.#messages.slice(0, 5).map((message) => (message.event === undefined ? 'a message' : `\`${message.event}\``));
    return `; what came instead: ${names.join(', ')}`;
  }
}

/** The time of a wait that takes nothing else. */
function waitOf(options = {}, what) {
  checkNames(options, ['timeoutMs'], what);
  return timeOf(options.timeoutMs ?? WAIT_MS);
}

function timeOf(timeoutMs) {
  return Math.min(durationOf(timeoutMs, 'timeoutMs'), LONGEST_MS);
}

/** An envelope as an object, any other text as it is. */
function read(text) {
  try {
    const message = JSON.parse(text);
    return typeof message?.event === 'string' ? message : text;
  } catch {
    return text;
  }
}

/** Connects to a server of this process. */
async function connect(server, options = {}) {
  if (!(server instanceof Server)) throw failure('invalid_argument', `connect takes a server, and then options, got ${kindOf(server)}`);
  checkNames(options, ['user', 'token', 'headers', 'path', 'origin', 'subprotocols', 'compression', 'address', 'timeoutMs'], 'connect');
  const { compression = false } = options;
  if (typeof compression !== 'boolean') throw failure('invalid_argument', `compression is true or false, got ${kindOf(compression)}`);
  return new TestClient(await open(server, { ...options, timeoutMs: timeOf(options.timeoutMs ?? CONNECT_MS) }));
}

module.exports = { connect };
