// What a careful team builds around `ws` today: an Origin check and a token before the upgrade, a rate limit per user
// (rate-limiter-flexible), a contract for messages (Joi), a size limit. Same limits, same JSON echo as wsguard's host.
// It writes no log of what it refuses; wsguard does.

import { createHash, timingSafeEqual } from 'node:crypto';
import http from 'node:http';

import Joi from 'joi';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { WebSocketServer } from 'ws';

import { listen, start } from './start.mjs';

const schema = Joi.object({
  event: Joi.string().valid('echo').required(),
  data: Joi.object({
    text: Joi.string().max(1000).allow('').required(),
    seq: Joi.number().integer().min(0).required(),
  }).required(),
  status: Joi.string().valid('ok', 'error'),
  id: Joi.alternatives(Joi.string(), Joi.number().integer()),
});

const digest = (token) => createHash('sha256').update(token).digest();

function refuse(socket, status) {
  socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
  socket.destroy();
}

start(({ origin, token }) => {
  const origins = new Set([origin]);
  const secret = digest(token);
  const limiter = new RateLimiterMemory({ points: 1_000_000_000, duration: 1 });
  const server = http.createServer();
  const wss = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 1 << 20 });

  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => {});
    if (!origins.has(request.headers.origin)) return refuse(socket, '403 Forbidden');
    const given = request.headers['x-auth-token'];
    if (!given || !timingSafeEqual(digest(given), secret)) return refuse(socket, '401 Unauthorized');
    wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, 'bench'));
  });

  wss.on('connection', (ws, user) => {
    ws.on('error', () => {});
    ws.on('message', async (payload, binary) => {
      try {
        await limiter.consume(user);
      } catch {
        return ws.close(1008, 'rate limit');
      }
      if (binary) return ws.close(1003, 'binary not accepted');
      let message;
      try {
        message = JSON.parse(payload);
      } catch {
        return ws.close(1008, 'bad message');
      }
      const { error, value } = schema.validate(message);
      if (error) return ws.close(1008, 'bad message');
      const { event, data, id } = value;
      ws.send(JSON.stringify({ event, data, status: 'ok', id }));
    });
  });
  return listen(server);
});
