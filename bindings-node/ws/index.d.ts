/// <reference types="node" />
import type { EventEmitter } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders, Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Duplex, DuplexOptions } from 'node:stream';
import { EventEmitter as Emitter } from 'node:events';
import type { ServerOptions as Policy } from '../index.js';

/** What `send` takes. A string is sent as text, anything else as bytes. */
type Sendable =
  | string | number | Buffer | ArrayBufferView | ArrayBuffer | SharedArrayBuffer | Blob | readonly any[]
  | { valueOf(): ArrayBuffer | SharedArrayBuffer | Uint8Array | readonly number[] | string }
  | { [Symbol.toPrimitive](hint: string): string };
type Listener<K extends keyof WebSocket.WebSocketEventMap> =
  | ((event: WebSocket.WebSocketEventMap[K]) => void)
  | { handleEvent(event: WebSocket.WebSocketEventMap[K]): void };
type Sent = (error?: Error) => void;

/** The events of a connection with what their listeners are given. */
interface ConnectionEvents {
  open: [];
  message: [data: WebSocket.RawData, isBinary: boolean];
  /** The code and reason of the peer's close frame; 1005: it had none, 1006: there was none. Otherwise the core's. */
  close: [code: number, reason: Buffer];
  /** A frame broke a rule; `code` is `WS_ERR_…` as in `ws`. Without a listener nothing is thrown. */
  error: [error: Error];
  ping: [data: Buffer];
  pong: [data: Buffer];
}

/** The events of a server with what their listeners are given. */
interface ServerEvents<Connection, Request> {
  connection: [websocket: Connection, request: Request];
  listening: [];
  close: [];
  error: [error: Error];
  headers: [headers: string[], request: Request];
  wsClientError: [error: Error, socket: Duplex, request: Request];
}

/** A connection, as `ws` has it on a server. To be a client, use `globalThis.WebSocket` or the package `ws`. */
declare class WebSocket extends Emitter {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** @internal A server makes them. */
  constructor(address: null, protocols?: undefined, options?: any);
  /** @deprecated It throws: here is the server side. Use `globalThis.WebSocket`, or the package `ws`. */
  constructor(address: string | URL, protocols?: any, options?: any);

  /** What binary messages are given as; texts are always Buffers. Also `blob`. */
  binaryType: 'nodebuffer' | 'arraybuffer' | 'fragments';
  readonly bufferedAmount: number;
  /** `permessage-deflate`, or empty. */
  readonly extensions: string;
  readonly isPaused: boolean;
  readonly protocol: string;
  readonly readyState: 0 | 1 | 2 | 3;
  readonly url: string;
  /** Who this is by the policy. */
  readonly wsguard?: WebSocket.Session;

  onopen: ((event: WebSocket.Event) => void) | null;
  onerror: ((event: WebSocket.ErrorEvent) => void) | null;
  onclose: ((event: WebSocket.CloseEvent) => void) | null;
  onmessage: ((event: WebSocket.MessageEvent) => void) | null;

  send(data: Sendable, callback?: Sent): void;
  send(data: Sendable, options: WebSocket.SendOptions, callback?: Sent): void;
  ping(data?: any, mask?: boolean, callback?: (error: Error) => void): void;
  pong(data?: any, mask?: boolean, callback?: (error: Error) => void): void;
  close(code?: number, data?: string | Buffer): void;
  terminate(): void;
  pause(): void;
  resume(): void;

  addEventListener<K extends keyof WebSocket.WebSocketEventMap>(type: K, listener: Listener<K>, options?: WebSocket.EventListenerOptions): void;
  removeEventListener<K extends keyof WebSocket.WebSocketEventMap>(type: K, listener: Listener<K>): void;

  on<K extends keyof ConnectionEvents>(event: K, listener: (this: WebSocket, ...given: ConnectionEvents[K]) => void): this;
  on(event: string | symbol, listener: (this: WebSocket, ...given: any[]) => void): this;
  once<K extends keyof ConnectionEvents>(event: K, listener: (this: WebSocket, ...given: ConnectionEvents[K]) => void): this;
  once(event: string | symbol, listener: (this: WebSocket, ...given: any[]) => void): this;
  off<K extends keyof ConnectionEvents>(event: K, listener: (this: WebSocket, ...given: ConnectionEvents[K]) => void): this;
  off(event: string | symbol, listener: (this: WebSocket, ...given: any[]) => void): this;
  addListener<K extends keyof ConnectionEvents>(event: K, listener: (...given: ConnectionEvents[K]) => void): this;
  addListener(event: string | symbol, listener: (...given: any[]) => void): this;
  removeListener<K extends keyof ConnectionEvents>(event: K, listener: (...given: ConnectionEvents[K]) => void): this;
  removeListener(event: string | symbol, listener: (...given: any[]) => void): this;
}

declare const Connection: typeof WebSocket;
interface Connection extends WebSocket {}

declare namespace WebSocket {
  /** A message. */
  type RawData = Buffer | ArrayBuffer | Buffer[];
  type Data = string | Buffer | ArrayBuffer | Buffer[];

  interface SendOptions {
    /** Text or bytes. Default: a string is text. */
    binary?: boolean | undefined;
    /** `false`: the message goes on with the next `send`. Default `true`. */
    fin?: boolean | undefined;
    /** `false`: it goes plain although the connection is compressed. Default `true`. */
    compress?: boolean | undefined;
    mask?: boolean | undefined;
  }

  /** Who a connection is by the policy. */
  interface Session {
    readonly id: string;
    readonly ip: string | null;
    readonly user: string | null;
    readonly roles: readonly string[];
    readonly path: string;
    readonly route: string | null;
    readonly params: { readonly [name: string]: string };
    readonly expiresAtMs: number | null;
    /** Its origin or credential would have been refused, were `reportHandshakes` off. */
    readonly reported: boolean;
    readonly claims: { readonly [name: string]: any } | null;
  }

  type VerifyClientCallbackSync<Request extends IncomingMessage = IncomingMessage> = (info: {
    origin: string;
    secure: boolean;
    req: Request;
  }) => boolean;
  type VerifyClientCallbackAsync<Request extends IncomingMessage = IncomingMessage> = (
    info: { origin: string; secure: boolean; req: Request },
    callback: (res: boolean, code?: number, message?: string, headers?: OutgoingHttpHeaders) => void,
  ) => void;

  interface PerMessageDeflateOptions {
    /** The smallest message that is compressed, in bytes. */
    threshold?: number | undefined;
    zlibDeflateOptions?: { level?: number | undefined; [option: string]: any } | undefined;
    /** Nothing else counts: context is never taken over, and a window is what the client asks for. */
    [option: string]: any;
  }

  interface Event {
    type: string;
    target: WebSocket;
  }
  interface ErrorEvent extends Event {
    error: any;
    message: string;
  }
  interface CloseEvent extends Event {
    wasClean: boolean;
    code: number;
    reason: string;
  }
  interface MessageEvent extends Event {
    data: Data;
  }
  interface WebSocketEventMap {
    open: Event;
    error: ErrorEvent;
    close: CloseEvent;
    message: MessageEvent;
  }
  interface EventListenerOptions {
    once?: boolean | undefined;
  }

  interface ServerOptions<
    U extends typeof WebSocket.WebSocket = typeof WebSocket.WebSocket,
    V extends typeof IncomingMessage = typeof IncomingMessage,
  > {
    /**
     * The policy: the options of wsguard in camelCase; `protocol` is `"raw"` unless said. Without it the file counts that the
     * environment variable WSGUARD_POLICY names.
     */
    policy?: Policy | undefined;
    host?: string | undefined;
    port?: number | undefined;
    backlog?: number | undefined;
    server?: HttpServer<V> | HttpsServer<V> | undefined;
    verifyClient?: VerifyClientCallbackAsync<InstanceType<V>> | VerifyClientCallbackSync<InstanceType<V>> | undefined;
    handleProtocols?: (protocols: Set<string>, request: InstanceType<V>) => string | false;
    path?: string | undefined;
    noServer?: boolean | undefined;
    allowSynchronousEvents?: boolean | undefined;
    autoPong?: boolean | undefined;
    clientTracking?: boolean | undefined;
    /**
     * `false` switches the policy's `compression` off; an object makes it less: `threshold` where it is larger, `zlibDeflateOptions.level`
     * where it is lower. `true`, or left out: what the policy says, which compresses nothing unless it has `compression`.
     */
    perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined;
    /** Counts where it is less than the policy's `maxMessageBytes`. */
    maxPayload?: number | undefined;
    /** Counts where it is less than the policy's. */
    maxFragments?: number | undefined;
    /** Counts where it is less than the policy's `closeTimeoutMs`. */
    closeTimeout?: number | undefined;
    /** The core bounds what waits: `maxInboxBytes`. */
    maxBufferedChunks?: number | undefined;
    maxPendingAutoPongs?: number | undefined;
    /** Texts are always checked. */
    skipUTF8Validation?: boolean | undefined;
    WebSocket?: U | undefined;
  }

  interface AddressInfo {
    address: string;
    family: string;
    port: number;
  }

  class Server<
    T extends typeof WebSocket.WebSocket = typeof WebSocket.WebSocket,
    U extends typeof IncomingMessage = typeof IncomingMessage,
  > extends EventEmitter {
    options: ServerOptions<T, U>;
    path: string;
    clients: Set<InstanceType<T>>;

    constructor(options?: ServerOptions<T, U>, callback?: () => void);

    address(): AddressInfo | string | null;
    close(callback?: (error?: Error) => void): void;
    handleUpgrade(
      request: InstanceType<U>,
      socket: Duplex,
      upgradeHead: Buffer,
      callback: (client: InstanceType<T>, request: InstanceType<U>) => void,
    ): void;
    shouldHandle(request: InstanceType<U>): boolean | Promise<boolean>;

    on<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<T>, ...given: ServerEvents<InstanceType<T>, InstanceType<U>>[K]) => void,
    ): this;
    on(event: string | symbol, listener: (this: Server<T>, ...given: any[]) => void): this;
    once<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<T>, ...given: ServerEvents<InstanceType<T>, InstanceType<U>>[K]) => void,
    ): this;
    once(event: string | symbol, listener: (this: Server<T>, ...given: any[]) => void): this;
    off<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<T>, ...given: ServerEvents<InstanceType<T>, InstanceType<U>>[K]) => void,
    ): this;
    off(event: string | symbol, listener: (this: Server<T>, ...given: any[]) => void): this;
    addListener<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (...given: ServerEvents<InstanceType<T>, InstanceType<U>>[K]) => void,
    ): this;
    addListener(event: string | symbol, listener: (...given: any[]) => void): this;
    removeListener<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (...given: ServerEvents<InstanceType<T>, InstanceType<U>>[K]) => void,
    ): this;
    removeListener(event: string | symbol, listener: (...given: any[]) => void): this;
  }

  const WebSocketServer: typeof Server;
  interface WebSocketServer extends Server {}
  const WebSocket: typeof Connection;
  interface WebSocket extends Connection {}

  /** A connection as a Duplex stream. */
  function createWebSocketStream(websocket: WebSocket, options?: DuplexOptions): Duplex;

  /** The server with a policy built in, for libraries that make the server themselves: `new SocketIO(http, { wsEngine: guard(…) })`. */
  function guard(policy: Policy): typeof Server;
}

export = WebSocket;
