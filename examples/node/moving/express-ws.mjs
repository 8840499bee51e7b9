// express-ws asks for "ws" itself: run it with `node --import ./alias.mjs express-ws.mjs`. PORT=0 takes any port.

import express from 'express';
import expressWs from 'express-ws';

const { app, getWss } = expressWs(express(), null, { wsOptions: { policy: { origins: ['http://localhost:3000'], auth: 'none' } } });
app.use((request, response, next) => {
  request.greeting = 'hello';
  next();
});
app.get('/', (request, response) => response.send(`${getWss().clients.size} connected`));
app.ws('/echo/:name', (ws, request) => {
  ws.on('message', (text) => ws.send(`${request.greeting} ${request.params.name}: ${text}`));
});

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
