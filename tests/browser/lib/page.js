// Pages on loopback ports, and what a script in them can do with a WebSocket.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';

/** Serves an empty page; the port is free again after the test. */
export async function serve(t, { headers = {}, tls } = {}) {
  const answer = (_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html', ...headers });
    response.end('<!doctype html><title>test</title>');
  };
  const server = tls ? createSecureServer(tls, answer) : createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address();
  const origin = (name = '127.0.0.1') => `${tls ? 'https' : 'http'}://${name}:${port}`;
  return { port, origin };
}

/**
 * Opens a WebSocket, sends messages, waits for as many answers as `answers` says, and then closes it as `close` says; without
 * `close` the server is expected to. What the page saw of it. It runs in the page: it knows nothing but its argument.
 */
export function talk({ url, protocols, send, answers, quietMs, close }) {
  return new Promise((resolve) => {
    const seen = { opened: false, protocol: null, extensions: null, messages: [], error: false };
    const socket = new WebSocket(url, protocols);
    const leave = () => close && socket.close(...close);
    socket.onopen = async () => {
      seen.opened = true;
      seen.protocol = socket.protocol;
      seen.extensions = socket.extensions;
      await new Promise((wake) => setTimeout(wake, quietMs));
      for (const message of send) {
        socket.send(message.bytes ? new Uint8Array(message.bytes) : JSON.stringify(message));
      }
      if (answers === 0) leave();
    };
    socket.onmessage = (event) => {
      seen.messages.push(JSON.parse(event.data));
      if (seen.messages.length === answers) leave();
    };
    socket.onerror = () => (seen.error = true);
    socket.onclose = ({ code, reason, wasClean }) => resolve({ ...seen, code, reason, wasClean });
  });
}

/** What `talk` is told. */
export function task(url, { protocols = [], send = [], answers = 0, quietMs = 0, close } = {}) {
  return { url, protocols, send, answers, quietMs, close };
}

/** `talk` in a page (or a frame) of Chromium. */
export function connect(page, url, options) {
  return page.evaluate(talk, task(url, options));
}

/** A message for the `echo` event. */
export const echo = (data) => ({ event: 'echo', data });

/** What `connect` does for a polite visit. */
export const VISIT = { send: [echo('hello')], answers: 1, close: [1000, 'bye'] };
