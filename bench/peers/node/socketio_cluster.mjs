// A room as Socket.IO's documentation writes it, on several nodes by its Redis adapter, over WebSocket alone.

import http from 'node:http';

import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

import { listen, start } from './start.mjs';

start(async ({ redis }) => {
  const publisher = createClient({ url: redis });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer();
  // The generator answers no heartbeat: none is due within a run.
  const io = new Server(server, {
    transports: ['websocket'],
    pingInterval: 3_600_000,
    adapter: createAdapter(publisher, subscriber),
  });
  io.on('connection', (socket) => {
    socket.on('join', (data) => {
      socket.join(data.room);
      socket.emit('joined', data);
    });
    socket.on('say', (data) => io.to(data.room).emit('said', data));
  });
  return listen(server);
});
