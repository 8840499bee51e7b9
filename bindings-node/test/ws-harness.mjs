// What the tests of `wsguard/ws` share: a server with an open policy, and clients of the package ws.

import http from 'node:http';
import { once } from 'node:events';
import WebSocketClient from 'ws';
import { WebSocketServer } from '../ws/index.mjs';

export { WebSocketClient };

/** Who connects and how often is not what most tests are about. */
export const POLICY = {
  dangerouslyAllowAnyOrigin: true,
  missingOrigin: 'allow',
  auth: 'none',
  rateLimit: null,
  controlRateLimit: null,
  handshakesPerIp: null,
};

/** A server on a port of its own, which the end of the test ends. */
export async function serve(t, options = {}, policy = {}) {
  const wss = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options, policy: { ...POLICY, ...policy } });
  t.after(() => ended(wss));
  await once(wss, 'listening');
  return wss;
}

/** An HTTP server whose upgrades a server takes. */
export async function share(t, options = {}, { makeServer = () => http.createServer(), listen = [0, '127.0.0.1'], policy = {} } = {}) {
  const server = makeServer();
  const wss = new WebSocketServer({ server, ...options, policy: { ...POLICY, ...policy } });
  t.after(() => {
    ended(wss);
    server.close();
  });
  server.listen(...listen);
  await once(server, 'listening');
  return { wss, server };
}

export function ended(wss) {
  for (const ws of wss.clients ?? []) ws.terminate();
  return new Promise((resolve) => wss.close(resolve));
}

export function urlOf(wss, path = '/') {
  return `ws://127.0.0.1:${wss.address().port}${path}`;
}

/** A client, and the connection that the server has of it. */
export async function pair(t, wss, { path, protocols, ...options } = {}) {
  const client = new WebSocketClient(urlOf(wss, path), protocols, options);
  t.after(() => client.terminate());
  const opened = once(client, 'open');
  const [ws, request] = await once(wss, 'connection');
  await opened;
  return { client, ws, request };
}

/** A handshake by hand. Returns its response with its body. */
export async function knock(port, headers = {}, { method = 'GET', path = '/' } = {}) {
  const given = { Connection: 'Upgrade', Upgrade: 'websocket', ...headers };
  const request = http.request({ port, host: '127.0.0.1', path, method, headers: given });
  request.end();
  const [response] = await once(request, 'response');
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() };
}

export const KEY = { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version': 13 };
