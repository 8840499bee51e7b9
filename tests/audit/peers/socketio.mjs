// The server of Socket.IO's documentation, with nothing stated but the port.

import { createServer } from 'node:http';

import { Server } from 'socket.io';

const server = createServer();
const io = new Server(server);

io.on('connection', (socket) => {
  socket.onAny((event, data) => socket.emit(event, data));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

process.stdin.resume().on('end', () => process.exit(0));
