// node --import ./on-ws.mjs: `wsguard/ws` is ws itself, so that an example runs as it was before it moved.

import Module, { register } from 'node:module';
import { fileURLToPath } from 'node:url';

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  if (request === 'wsguard/ws') return fileURLToPath(new URL('ws-as-guard.cjs', import.meta.url));
  return resolve.call(this, request, ...rest);
};

register(`data:text/javascript,${encodeURIComponent(`
  export const resolve = (request, context, next) =>
    next(request === 'wsguard/ws' ? ${JSON.stringify(new URL('ws-as-guard.mjs', import.meta.url).href)} : request, context);
`)}`);
