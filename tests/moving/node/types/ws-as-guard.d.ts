// `wsguard/ws` as it would be, were it ws.

import { WebSocketServer } from 'ws';

declare module 'ws' {
  namespace WebSocket {
    interface ServerOptions {
      policy?: object;
    }
  }
}
export * from 'ws';
export { default } from 'ws';
export declare function guard(policy: object): typeof WebSocketServer;
