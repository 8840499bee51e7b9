'use strict';
// The socket of a connection that Node does not know: its addresses, and the calls that end it. Its bytes are the core's.

const { EventEmitter } = require('node:events');

class PeerSocket extends EventEmitter {
  #end = () => this._ended();
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

  address() {
    return this.#local === undefined ? {} : { ...this.#local };
  }

  getPeerCertificate() {
    return this.#certificate === undefined ? {} : { raw: this.#certificate };
  }

  destroy() {
    if (!this.destroyed) this.#end();
    return this;
  }

  end() {
    return this.destroy();
  }

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

  /** @internal `end` ends the connection; before there is one, `close` ends the handshake. */
  _connect(end) {
    this.#end = end;
  }

  /** @internal The connection has ended. */
  _ended() {
    if (this.destroyed) return;
    [this.destroyed, this.readable, this.writable] = [true, false, false];
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
