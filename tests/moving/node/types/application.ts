// Code typed against @types/ws, with the import changed. It is compiled twice: `wsguard/ws` is ws first.

import { createServer, type IncomingMessage, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { initTRPC } from '@trpc/server';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import { GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { Server as SocketIO } from 'socket.io';
import DefaultWebSocket, { WebSocket, WebSocketServer, createWebSocketStream, guard, type RawData, type ServerOptions } from 'wsguard/ws';

const policy = { origins: ['https://app.example.com'], auth: 'none' as const, maxMessageBytes: 4096 };

interface Member extends WebSocket {
  room?: string | undefined;
  isAlive: boolean;
}

const options: ServerOptions = { noServer: true, maxPayload: 1024, clientTracking: true, path: '/chat', perMessageDeflate: false, autoPong: true };
const wss = new WebSocketServer({ ...options, policy });
const native: WebSocketServer = new WebSocketServer({ port: 0, host: '127.0.0.1', policy }, () => {
  const { port }: { port: number } = native.address() as AddressInfo;
  console.log(port);
});

wss.on('connection', function (this: unknown, ws: WebSocket, request: IncomingMessage) {
  const member = ws as Member;
  member.room = request.url;
  member.binaryType = 'nodebuffer';
  ws.on('message', (data: RawData, isBinary: boolean) => {
    for (const client of wss.clients) if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
  });
  ws.on('message', (data) => (Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? Buffer.from(data) : data).toString());
  ws.on('close', (code: number, reason: Buffer) => console.log(code, reason.toString()));
  ws.on('error', (error: Error) => console.error(error.message));
  ws.on('ping', (data: Buffer) => ws.pong(data));
  ws.onmessage = ({ data, target }) => console.log(String(data), target.readyState);
  ws.addEventListener('close', ({ wasClean, code }) => console.log(wasClean, code), { once: true });
  ws.send('text', (error?: Error) => console.log(error));
  ws.send(new Uint8Array(1), { binary: true, compress: false, fin: true }, () => ws.terminate());
  ws.ping('payload', false);
  ws.pause();
  ws.resume();
  ws.close(1000, 'bye');
  const stream: Duplex = createWebSocketStream(ws, { encoding: 'utf8' });
  stream.pipe(process.stdout);
  const states: (0 | 1 | 2 | 3)[] = [ws.readyState, DefaultWebSocket.CONNECTING, ws.CLOSED];
  console.log(states, ws.bufferedAmount, ws.protocol, ws.extensions, ws.url, ws.isPaused);
});
wss.on('headers', (headers: string[], request: IncomingMessage) => headers.push(`X-Path: ${request.url}`));
wss.on('wsClientError', (error: Error, socket: Duplex) => socket.destroy(error));

const server: HttpServer = createServer();
server.on('upgrade', (request, socket, head) => {
  if (wss.shouldHandle(request)) wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
});

new WebSocketServer({
  server,
  policy,
  verifyClient: ({ origin, secure, req }, answer) => answer(secure || origin === req.headers.host, 401, 'no', { 'X-Why': 'no' }),
  handleProtocols: (protocols: Set<string>, request: IncomingMessage) => (request.url === '/' ? [...protocols][0]! : false),
});
new WebSocketServer({ server, policy, verifyClient: ({ req }: { req: IncomingMessage }) => req.url === '/' });

class Mine extends WebSocket {
  user = 'nobody';
}
const mine = new WebSocketServer<typeof Mine>({ noServer: true, WebSocket: Mine, policy });
mine.on('connection', (ws) => console.log(ws.user));

const schema = new GraphQLSchema({ query: new GraphQLObjectType({ name: 'Query', fields: { who: { type: GraphQLString } } }) });
useServer({ schema, context: (context) => ({ url: context.extra.request.url }) }, wss);

const t = initTRPC.create();
applyWSSHandler({ wss, router: t.router({ who: t.procedure.query(() => 'me') }), createContext: ({ req }) => ({ url: req.url }) });

new SocketIO(server, { wsEngine: guard(policy) });
const Guarded = guard(policy);
new Guarded({ noServer: true }).close((error?: Error) => console.log(error));
