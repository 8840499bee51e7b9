// An echo as Socket.IO's documentation writes it, over WebSocket alone. With a policy its engine is `wsguard/ws`; else it is `ws`,
// as Socket.IO comes.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import { Server } from 'socket.io';

import { DROP_IN, camel } from './drop_in.mjs';
import { listen, start } from './start.mjs';

start(async ({ tls, policy }) => {
  const server = tls
    ? https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) })
    : http.createServer();
  const engine = policy ? { wsEngine: (await import(DROP_IN)).guard(camel(policy)) } : {};
  // The generator answers no heartbeat: none is due within a run.
  const io = new Server(server, { transports: ['websocket'], pingInterval: 3_600_000, ...engine });
  io.on('connection', (socket) => {
    socket.on('echo', (data) => socket.emit('echo', data));
  });
  return listen(server);
});
