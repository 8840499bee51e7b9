// Fastify and wsguard on one port: counters of the server as a page, ticks as events. PORT=0 takes any port.

import Fastify from 'fastify';
import { Server } from 'wsguard';

const app = Fastify();
const server = new Server({
  origins: ['http://localhost:3000'],
  auth: { tokens: [{ token: 'change-me', user: 'alice' }] },
  events: { subscribe: { schema: { type: 'object', properties: { topic: { enum: ['ticks'] } }, required: ['topic'] } } },
});
server.on('subscribe', (conn, { topic }, meta) => {
  conn.join(topic);
  conn.reply(meta, 'subscribed', { topic });
});
const ticks = setInterval(() => server.to('ticks').emit('tick', { at: Date.now() }), 100);

app.get('/stats', async () => server.stats());
server.attach(app.server, { path: '/ws' });
app.addHook('onClose', async () => {
  clearInterval(ticks);
  await server.drain();
});
const address = await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' });
console.log(`listening on ${address.replace('http://', '')}`);
process.on('SIGTERM', () => app.close());
