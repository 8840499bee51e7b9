// One node of a chat that runs on several: LISTEN=127.0.0.1:8081 REDIS=redis://127.0.0.1:6379 node chat.mjs

import { Server, logToStderr } from 'wsguard';

logToStderr();
const server = new Server({
  listen: process.env.LISTEN ?? '127.0.0.1:8081',
  trustedProxies: ['127.0.0.1'],
  origins: ['https://chat.example.com'],
  auth: {
    tokens: [
      { token: 'change-me', user: 'alice' },
      { token: 'change-me-too', user: 'bob' },
    ],
  },
  tokenSources: ['subprotocol'],
  events: {
    say: {
      schema: {
        type: 'object',
        properties: { text: { type: 'string', maxLength: 500 } },
        required: ['text'],
        additionalProperties: false,
      },
    },
  },
  // Of a user, on all nodes together.
  maxConnectionsPerUser: 8,
  rateLimit: { perSecond: 10, burst: 40, queue: 20 },
  // All that makes a node of it.
  cluster: { url: process.env.REDIS ?? 'redis://127.0.0.1:6379', name: 'chat' },
});
server.on('open', (conn) => conn.join('lobby'));
server.on('say', (conn, data) => server.to('lobby').emit('said', { from: conn.user, ...data }));
console.log(`listening on ${await server.listen()}`);
process.once('SIGTERM', () => server.drain());
