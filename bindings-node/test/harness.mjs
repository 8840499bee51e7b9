// A server of one test, and clients for it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { Server } from '../index.mjs';

export const ORIGIN = 'https://app.example.com';

/** A policy for tests: one thread, any port, no limits that a test could meet by accident. */
export function policy(more = {}) {
  return { listen: '127.0.0.1:0', threads: 1, origins: [ORIGIN], auth: 'none', rateLimit: null, handshakesPerIp: null, ...more };
}

/** Starts a server that ends with the test. */
export async function start(t, more = {}) {
  const server = new Server(policy(more));
  t.after(() => server.stop());
  await server.listen();
  return server;
}

/** A client: messages are taken one by one, and never missed. */
export class Client {
  #messages = [];
  #waiting = [];

  static async connect(address, options = {}) {
    const client = new Client(address, options);
    await once(client.socket, 'open');
    return client;
  }

  constructor(address, { path = '/', protocols = [], ...options } = {}) {
    this.socket = new WebSocket(`ws://${address}${path}`, protocols, { origin: ORIGIN, perMessageDeflate: false, ...options });
    this.socket.on('message', (data, isBinary) => {
      const message = isBinary ? data : data.toString();
      const waiting = this.#waiting.shift();
      if (waiting) waiting(message);
      else this.#messages.push(message);
    });
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on('error', () => {});
  }

  /** The HTTP status of a handshake that is refused. */
  static async refused(address, options) {
    const client = new Client(address, options);
    const [, response] = await once(client.socket, 'unexpected-response');
    response.resume();
    return response.statusCode;
  }

  send(message) {
    this.socket.send(message);
  }

  emit(event, data, more = {}) {
    this.socket.send(JSON.stringify({ event, data, ...more }));
  }

  message() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async event() {
    return JSON.parse(await this.message());
  }

  close(code, reason) {
    this.socket.close(code, reason);
    return this.closed;
  }
}

/** Resolves when something is so that only a look can tell: looks once a turn. */
export async function until(isSo) {
  while (!isSo()) await new Promise(setImmediate);
}

/** Lets the event loop do what it has to do, for what must not happen. */
export async function turns(count) {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
}

/** The opening handshake of a peer that is a plain socket. */
export function handshake(headers = '', path = '/') {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nOrigin: ${ORIGIN}\r\n${headers}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;
}

export const fixture = (name) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/** Runs a program of `fixtures` to its end. */
export async function run(name, { node = [], args = [] } = {}) {
  const child = spawn(process.execPath, [...node, fixture(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { out: '', err: '' };
  child.stdout.on('data', (text) => (output.out += text));
  child.stderr.on('data', (text) => (output.err += text));
  const [code, signal] = await once(child, 'close');
  return { code, signal, ...output };
}
