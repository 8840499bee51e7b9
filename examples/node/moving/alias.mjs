// node --import ./alias.mjs app.mjs
// For libraries that ask for "ws" themselves: those listed here get wsguard/ws. Whoever else asks for ws (a client, say) gets ws.

import Module, { createRequire, register } from 'node:module';

const LIBRARIES = ['@fastify/websocket', '@nestjs/platform-ws', '@y/websocket-server', 'express-ws'];

const inside = new RegExp(`node_modules[\\\\/](${LIBRARIES.join('|')})[\\\\/](?!.*node_modules)`);
const here = createRequire(import.meta.url);
const resolve = Module._resolveFilename;

// For require("ws").
Module._resolveFilename = function (request, parent, ...rest) {
  if (request === 'ws' && inside.test(parent?.filename)) return here.resolve('wsguard/ws');
  return resolve.call(this, request, parent, ...rest);
};

// For import "ws".
register(`data:text/javascript,${encodeURIComponent(`
  export const resolve = (request, context, next) =>
    request === 'ws' && ${inside}.test(context.parentURL)
      ? next('wsguard/ws', { ...context, parentURL: ${JSON.stringify(import.meta.url)} })
      : next(request, context);
`)}`);
