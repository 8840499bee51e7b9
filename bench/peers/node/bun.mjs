// Bun.serve, which embeds uWebSockets: an echo, and a room by publish. Written as Bun's documentation writes them.
// Compression is off, which is Bun's default, or shared, which it has for few bytes per connection; the backlog and limits are
// Bun's own.

import { start } from './start.mjs';

const echo = {
  idleTimeout: 120,
  message(ws, message) {
    ws.send(message, compressing);
  },
};

const room = {
  idleTimeout: 120,
  message(ws, message) {
    const { event, data } = JSON.parse(message);
    if (event === 'join') {
      ws.subscribe(data.room);
      ws.send(JSON.stringify({ event: 'joined', data }));
    } else {
      server.publish(data.room, JSON.stringify({ event: 'said', data, status: 'ok' }), compressing);
    }
  },
};

let server;
let compressing = false;

start(({ tls, room: asRoom, compressed }) => {
  const shared = { compress: 'shared', decompress: 'shared' };
  compressing = compressed;
  server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    tls: tls ? { cert: Bun.file(tls.cert), key: Bun.file(tls.key) } : undefined,
    fetch(request, server) {
      return server.upgrade(request) ? undefined : new Response('upgrade required', { status: 426 });
    },
    websocket: { ...(asRoom ? room : echo), perMessageDeflate: compressed ? shared : false },
  });
  return server.port;
});
