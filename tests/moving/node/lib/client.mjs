// A client of ws that keeps what it receives.

import { once } from 'node:events';
import { WebSocket } from 'ws';
import { ORIGIN } from './engines.mjs';

export async function connect(t, url, { protocols = [], ...options } = {}) {
  const ws = new WebSocket(url, protocols, { origin: ORIGIN, ...options });
  t.after(() => ws.terminate());
  ws.on('error', () => {}); // A test that failed before the connection was open terminates it, too.
  const waiting = [];
  const received = [];
  ws.on('message', (data, isBinary) => {
    const message = isBinary ? data : String(data);
    if (waiting.length > 0) waiting.shift()(message);
    else received.push(message);
  });
  /** The next message, a string or a Buffer. */
  ws.next = () => (received.length > 0 ? Promise.resolve(received.shift()) : new Promise((resolve) => waiting.push(resolve)));
  ws.ended = once(ws, 'close').then(([code, reason]) => ({ code, reason: String(reason) }));
  ws.ended.catch(() => {});
  await once(ws, 'open');
  return ws;
}

/** The status of a handshake that is refused. */
export async function refused(url, { protocols = [], ...options } = {}) {
  const ws = new WebSocket(url, protocols, { origin: ORIGIN, ...options });
  ws.on('error', () => {});
  const status = await Promise.race([
    once(ws, 'unexpected-response').then(([, response]) => response.statusCode),
    once(ws, 'open').then(() => 101),
  ]);
  ws.terminate();
  return status;
}
