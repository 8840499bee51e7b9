'use strict';
// The socket of a connection that Node does not know: its addresses, and the calls that end it. Its bytes are the core's.

const { EventEmitter } = require('node:events');
const { failure } = require('../lib/errors.js');
const { internals } = require('./websocket.js');

class PeerSocket extends EventEmitter {
  /** The connection; undefined until the handshake is over. */
  #ws;
  #remote;
  #local;
  #certificate;
  encrypted;
  authorized;
  destroyed = false;
  readable = true;
  writable = true;

  /** `remote`, `local`: `{ address, port, family }`. `certificate`: the peer's, in DER, or undefined. */
  constructor(remote, local, encrypted, certificate) {
    super();
    this.#remote = remote;
    this.#local = local;
    this.#certificate = certificate;
    this.encrypted = encrypted;
    this.authorized = certificate !== undefined;
  }

  get remoteAddress() {
    return this.#remote?.address;
  }

  get remotePort() {
    return this.#remote?.port;
  }

  get remoteFamily() {
    return this.#remote?.family;
  }

  get localAddress() {
    return this.#local?.address;
  }

  get localPort() {
    return this.#local?.port;
  }

  get localFamily() {
    return this.#local?.family;
  }

  get readyState() {
    return this.destroyed ? 'closed' : 'open';
  }

  /** Bytes that are not written yet. */
  get writableLength() {
    return this.destroyed || this.#ws === undefined ? 0 : this.#ws.bufferedAmount;
  }

  /** Node's own name for what is above, which code for `ws` reads. */
  get _writableState() {
    return { length: this.writableLength };
  }

  address() {
    return this.#local === undefined ? {} : { ...this.#local };
  }

  getPeerCertificate() {
    return this.#certificate === undefined ? {} : { raw: this.#certificate };
  }

  isPaused() {
    return this.#ws?.isPaused ?? false;
  }

  pause() {
    this.#ws?.pause();
    return this;
  }

  resume() {
    this.#ws?.resume();
    return this;
  }

  destroy() {
    if (this.destroyed) return this;
    // Before there is a connection, `close` ends the handshake.
    if (this.#ws === undefined) this._ended();
    else this.#ws.terminate();
    return this;
  }

  destroySoon() {
    this.end();
  }

  /** What the peer sees is an end without a close frame, not a reset. */
  resetAndDestroy() {
    return this.destroy();
  }

  /** Ends it behind what was sent, without a close frame. */
  end(...given) {
    const callback = given.find((one) => typeof one === 'function');
    if (given.length > 0 && given[0] !== callback && given[0] !== undefined && given[0] !== null) {
      throw failure('not_supported', 'socket.end takes no bytes: those of the connection are the core\'s; use ws.send');
    }
    if (callback !== undefined) this.once('finish', callback);
    if (!this.writable) return this;
    this.writable = false;
    // Before there is a connection, `close` ends the handshake.
    if (this.#ws === undefined) this._ended();
    else internals.hangUp(this.#ws);
    return this;
  }

  /** What one tick sends goes out together in any case. */
  cork() {}

  uncork() {}

  setTimeout() {
    return this;
  }

  setNoDelay() {
    return this;
  }

  setKeepAlive() {
    return this;
  }

  ref() {
    return this;
  }

  unref() {
    return this;
  }

  /** @internal The handshake is over: from here on it is this connection's. */
  _connect(ws) {
    this.#ws = ws;
  }

  /** @internal The connection has ended. `isClean`: our side was ended, behind the closing handshake. */
  _ended(isClean = false) {
    if (this.destroyed) return;
    const isFinished = isClean || !this.writable;
    [this.destroyed, this.readable, this.writable] = [true, false, false];
    if (isFinished) this.emit('finish');
    this.emit('close', false);
  }
}

/** An address as the core writes it, `127.0.0.1:80` or `[::1]:80`, in its parts. */
function addressOf(text) {
  const found = /^\[?([^\]]*?)\]?:(\d+)$/.exec(text ?? '');
  if (found === null) return undefined;
  const [, address, port] = found;
  return { address, family: address.includes(':') ? 'IPv6' : 'IPv4', port: Number(port) };
}

module.exports = { PeerSocket, addressOf };
