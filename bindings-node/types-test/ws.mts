// Code that was written for `ws` and its typings.

import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import Default, { Server, WebSocket, WebSocketServer, createWebSocketStream, guard } from 'wsguard/ws';
import type { RawData, ServerOptions } from 'wsguard/ws';

const options: ServerOptions = { port: 8080, policy: { origins: ['https://app.example.com'], auth: 'none' } };
const wss = new WebSocketServer(options, () => {});
wss.on('connection', (ws, request) => {
  const one: WebSocket = ws;
  const url: string | undefined = request.url;
  ws.on('message', (data, isBinary) => {
    const raw: RawData = data;
    ws.send(data, { binary: isBinary }, (error) => error?.message);
    if (Buffer.isBuffer(raw)) ws.send(raw.toString());
  });
  ws.on('close', (code, reason) => code.toFixed() + reason.toString());
  ws.on('pong', function heartbeat(this: WebSocket) {
    this.terminate();
  });
  ws.onmessage = ({ data, target }) => target.send(data.toString());
  ws.addEventListener('close', ({ code, wasClean }) => [code, wasClean]);
  if (ws.readyState === WebSocket.OPEN) ws.close(1000, 'bye');
  const user: string | null = ws.wsguard?.user ?? null;
  createWebSocketStream(ws, { encoding: 'utf8' }).pipe(process.stdout);
  void [one, url, user];
});
for (const client of wss.clients) if (client.readyState === Default.OPEN) client.send('to all');

class Mine extends WebSocket {
  isAlive = true;
}
const mine = new Server<typeof Mine>({ noServer: true, WebSocket: Mine });
const server = createServer();
server.on('upgrade', (request: IncomingMessage, socket, head) => {
  mine.handleUpgrade(request, socket, head, (ws) => {
    ws.isAlive = false;
    mine.emit('connection', ws, request);
  });
});
const Guarded = guard({ dangerouslyAllowAnyOrigin: true, auth: 'none' });
new Guarded({ server, verifyClient: ({ origin, secure, req }, callback) => callback(secure && origin === req.url, 401, 'no', { a: 'b' }) });
// @ts-expect-error: a server needs a policy of known options
new WebSocketServer({ port: 1, policy: { origin: [] } });
