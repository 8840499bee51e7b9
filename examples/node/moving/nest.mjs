// NestJS' WsAdapter asks for "ws" itself: run it with `node --import ./alias.mjs nest.mjs`. PORT=0 takes any port.
// In TypeScript these are decorators: @WebSocketGateway({ path: "/chat", policy: { … } }), @SubscribeMessage("say"), …

import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';
import { from, map } from 'rxjs';

class Chat {
  handleConnection(client) {
    client.send(JSON.stringify({ event: 'welcome', data: this.server.clients.size }));
  }
  say(client, text) {
    for (const each of this.server.clients) each.send(JSON.stringify({ event: 'said', data: text }));
    return { event: 'sent', data: text.length };
  }
  count(client, to) {
    return from(Array.from({ length: to }, (_, n) => n + 1)).pipe(map((data) => ({ event: 'counted', data })));
  }
}
for (const event of ['say', 'count']) SubscribeMessage(event)(Chat.prototype, event, Object.getOwnPropertyDescriptor(Chat.prototype, event));
WebSocketServer()(Chat.prototype, 'server');
WebSocketGateway({ path: '/chat', policy: { origins: ['http://localhost:3000'], auth: 'none' } })(Chat);

class Application {}
Module({ providers: [Chat] })(Application);

const app = await NestFactory.create(Application, { logger: ['error'] });
app.useWebSocketAdapter(new WsAdapter(app));
app.enableShutdownHooks();
await app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1');
console.log(`listening on 127.0.0.1:${app.getHttpServer().address().port}`);
