// A chat written for ws, moved: the import and the policy are new, the rest is as it was.
// ws://127.0.0.1:8080/lobby is the room "lobby". PORT=0 takes any port.

import { WebSocket, WebSocketServer } from 'wsguard/ws';

const wss = new WebSocketServer({
  port: Number(process.env.PORT ?? 8080),
  host: '127.0.0.1',
  policy: {
    origins: ['http://localhost:3000'],
    auth: { tokens: [{ token: 'change-me', user: 'alice' }, { token: 'change-me-too', user: 'bob' }] },
    tokenSources: ['subprotocol'],
  },
});

wss.on('connection', (ws, request) => {
  ws.room = request.url;
  ws.on('error', console.error);
  ws.on('pong', () => (ws.isAlive = true));
  ws.isAlive = true;
  ws.on('message', (data, isBinary) => {
    for (const client of wss.clients) {
      if (client !== ws && client.room === ws.room && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
  ws.send(`welcome to ${ws.room}`);
});

// ws's documented heartbeat. It may stay; the policy's own (pingIntervalMs) does the same without JavaScript.
const heartbeat = setInterval(() => {
  for (const ws of wss.clients) {
    if (!ws.isAlive) ws.terminate();
    ws.isAlive = false;
    ws.ping();
  }
}, 30_000);
wss.on('close', () => clearInterval(heartbeat));

wss.on('listening', () => console.log(`listening on 127.0.0.1:${wss.address().port}`));
process.on('SIGTERM', () => {
  wss.close();
  for (const ws of wss.clients) ws.close(1012, 'restart');
});
