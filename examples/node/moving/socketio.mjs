// Socket.IO 4: rooms, acknowledgements, binary. Its server is as it was; `wsEngine` hands every WebSocket to wsguard.
// Long polling is plain HTTP and stays with Node: `allowRequest` and `cors` are for that. PORT=0 takes any port.

import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { guard } from 'wsguard/ws';

const ORIGINS = ['http://localhost:3000'];
const httpServer = createServer();
const io = new Server(httpServer, {
  wsEngine: guard({ origins: ORIGINS, auth: 'none' }),
  cors: { origin: ORIGINS },
  // A page that polls its own origin sends no Origin. A foreign one always does where it could read the answer.
  allowRequest: ({ headers: { origin } }, answer) => answer(null, origin === undefined || ORIGINS.includes(origin)),
});

io.use((socket, next) => {
  const { name } = socket.handshake.auth;
  if (typeof name !== 'string' || !/^\w{1,32}$/.test(name)) return next(new Error('a name, please'));
  socket.data.name = name;
  next();
});

io.on('connection', (socket) => {
  const { name } = socket.data;
  socket.on('join', async (room, answer) => {
    await socket.join(room);
    answer({ members: io.sockets.adapter.rooms.get(room).size });
  });
  socket.on('say', (room, text, answer) => {
    socket.to(room).emit('said', { name, text });
    answer('sent');
  });
  socket.on('draw', (room, bytes) => socket.to(room).emit('drawn', name, bytes));
});

httpServer.listen(Number(process.env.PORT ?? 3001), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${httpServer.address().port}`));
process.on('SIGTERM', () => io.close());
