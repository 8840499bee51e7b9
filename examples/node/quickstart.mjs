// README's start: a chat room with a token, one event and a schema.

import { Server, logToStderr } from 'wsguard';

logToStderr();
const server = new Server({
  listen: process.env.LISTEN ?? '127.0.0.1:8080',
  origins: ['http://localhost:3000'],
  auth: { tokens: [{ token: 'change-me', user: 'alice' }] },
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
});
server.on('open', (conn) => conn.join('lobby'));
server.on('say', (conn, data) => server.to('lobby').emit('said', { from: conn.user, ...data }));
console.log(`listening on ${await server.listen()}`);
process.once('SIGTERM', () => server.drain());
