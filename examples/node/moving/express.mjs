// Express with a session and ws, by the "client authentication" of ws's README: the application looks at the upgrade
// request first, then gives it to the WebSocketServer. PORT=0 takes any port.

import http from 'node:http';
import express from 'express';
import session from 'express-session';
import { WebSocketServer } from 'wsguard/ws';

const app = express();
const sessions = session({ secret: 'change me', resave: false, saveUninitialized: false });
app.use(sessions, express.urlencoded());
app.post('/login', (request, response) => {
  request.session.user = String(request.body.name).slice(0, 32);
  response.send('welcome');
});

const server = http.createServer(app);
// The session says who it is, so `auth: "none"` is the honest statement: wsguard lets in whom the application lets in.
const wss = new WebSocketServer({ noServer: true, policy: { origins: ['http://localhost:3000'], auth: 'none', paths: ['/chat'] } });

server.on('upgrade', (request, socket, head) => {
  const refuse = () => socket.destroy();
  socket.on('error', refuse);
  sessions(request, {}, () => {
    if (!request.session.user) return socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    socket.off('error', refuse);
    wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
  });
});

wss.on('connection', (ws, request) => {
  const { user } = request.session;
  ws.on('error', console.error);
  ws.on('message', (text) => {
    for (const client of wss.clients) client.send(`${user}: ${text}`);
  });
});

server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on('SIGTERM', () => {
  server.close();
  wss.close();
  for (const ws of wss.clients) ws.close(1012);
});
