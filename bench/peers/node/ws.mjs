// The `ws` package: an echo, and a room by the loop over its clients that ws's README shows. Compression is off, and
// bufferutil is installed, as that README advises for speed; or it is on, with the threshold and the level of wsguard.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import { WebSocket, WebSocketServer } from 'ws';

import { listen, start } from './start.mjs';

function echo(_wss, ws, data, binary) {
  ws.send(data, { binary });
}

function room(wss, ws, text) {
  const { event, data } = JSON.parse(text);
  if (event === 'join') {
    ws.room = data.room;
    ws.send(JSON.stringify({ event: 'joined', data }));
    return;
  }
  const message = JSON.stringify({ event: 'said', data, status: 'ok' });
  for (const client of wss.clients) {
    if (client.room === data.room && client.readyState === WebSocket.OPEN) client.send(message);
  }
}

const deflate = { threshold: 1024, zlibDeflateOptions: { level: 3 } };

start(({ tls, room: asRoom, compressed }) => {
  const server = tls
    ? https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) })
    : http.createServer();
  const wss = new WebSocketServer({ server, perMessageDeflate: compressed && deflate });
  const onMessage = asRoom ? room : echo;
  wss.on('connection', (ws) => {
    ws.on('error', () => {}); // a peer that goes away is the ordinary end here
    ws.on('message', (data, binary) => onMessage(wss, ws, data, binary));
  });
  return listen(server);
});
