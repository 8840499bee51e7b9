// One contract for server and compiler: schemas give the types of what handlers get and what may be emitted.
// `npm run check` compiles it; tsx or Node 22.18 and later run it as it is.

import { Server, accept, reject } from 'wsguard';
import { z } from 'zod';

const events = {
  move: { schema: z.object({ x: z.number().min(0).max(99), y: z.number().min(0).max(99) }) },
  rename: { schema: z.object({ name: z.string().trim().min(1).max(20) }), cost: 5 },
};

interface Player {
  name: string;
  moves: number;
}

const server = new Server({
  listen: process.env.LISTEN ?? '127.0.0.1:8080',
  origins: ['http://localhost:3000'],
  auth: 'callback',
  authenticate: (request) =>
    request.token === 'change-me' ? accept({ user: 'alice', data: { name: 'alice', moves: 0 } as Player }) : reject(),
  events,
});

server.on('open', (conn) => conn.join('board'));
server.on('move', (conn, { x, y }) => {
  conn.data.moves += 1;
  server.to('board').emit('move', { x, y });
});
server.on('rename', (conn, { name }, meta) => {
  conn.data.name = name;
  conn.reply(meta, 'rename', { name });
});

console.log(`listening on ${await server.listen()}`);
process.once('SIGTERM', () => server.drain());
