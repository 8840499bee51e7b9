// @fastify/websocket asks for "ws" itself: run it with `node --import ./alias.mjs fastify-websocket.mjs`. PORT=0 takes any port.

import websocket from '@fastify/websocket';
import Fastify from 'fastify';

const app = Fastify();
await app.register(websocket, { options: { maxPayload: 32_768, policy: { origins: ['http://localhost:3000'], auth: 'none' } } });

app.addHook('preValidation', async (request, reply) => {
  if (request.ws && request.query.ticket !== 'change-me') await reply.code(401).send('a ticket, please');
});
app.get('/chat', { websocket: true }, (socket, request) => {
  socket.on('message', (data, isBinary) => {
    for (const client of app.websocketServer.clients) client.send(isBinary ? data : `${request.id}: ${data}`);
  });
});
app.get('/fails', { websocket: true }, async () => {
  throw new Error('a handler that fails');
});

const address = await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' });
console.log(`listening on ${address.replace('http://', '')}`);
process.on('SIGTERM', () => app.close());
