// tRPC: queries, mutations and subscriptions. PORT=0 takes any port.

import { EventEmitter, on } from 'node:events';
import { initTRPC } from '@trpc/server';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import { WebSocketServer } from 'wsguard/ws';
import { z } from 'zod';

const said = new EventEmitter();
const t = initTRPC.context().create();
const router = t.router({
  who: t.procedure.query(({ ctx }) => ctx.user),
  say: t.procedure.input(z.object({ text: z.string().max(500) })).mutation(({ input, ctx }) => {
    said.emit('said', { user: ctx.user, text: input.text });
    return true;
  }),
  said: t.procedure.subscription(async function* ({ signal }) {
    for await (const [message] of on(said, 'said', { signal })) yield message;
  }),
});

const wss = new WebSocketServer({
  port: Number(process.env.PORT ?? 3001),
  host: '127.0.0.1',
  policy: { origins: ['http://localhost:3000'], auth: 'none' },
});
const handler = applyWSSHandler({
  wss,
  router,
  createContext: ({ req, info }) => ({ user: info.connectionParams?.user ?? 'nobody', ip: req.socket.remoteAddress }),
  keepAlive: { enabled: true, pingMs: 30_000, pongWaitMs: 5_000 },
});

wss.on('listening', () => console.log(`listening on 127.0.0.1:${wss.address().port}`));
process.on('SIGTERM', () => {
  handler.broadcastReconnectNotification();
  wss.close();
  for (const ws of wss.clients) ws.close(1012);
});
