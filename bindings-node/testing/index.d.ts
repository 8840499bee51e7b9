/// <reference types="node" />
import type { IncomingHttpHeaders } from 'node:http';
import type { Closing, Connection, Meta, Server, UpgradeRequest } from '../index.js';

/** Whom a client connects as, and how. */
export interface ConnectOptions {
  /** A user of `auth: { tokens }`: their token is sent. With any other `auth` it throws: give `token` or `headers`. */
  user?: string | undefined;
  /** A token; it is sent where `tokenSources` looks first. */
  token?: string | undefined;
  /** Headers of the request, such as `Cookie`. */
  headers?: Record<string, string> | undefined;
  /** The path, with a query if you like. Default `/`. */
  path?: string | undefined;
  /** The `Origin`; null: none. Default: the first that the server allows. */
  origin?: string | null | undefined;
  /** The subprotocols that are offered. Default: none. */
  subprotocols?: readonly string[] | undefined;
  /** Whether permessage-deflate is offered, as browsers do. Default: false. */
  compression?: boolean | undefined;
  /** Where to connect. Default: `server.address`; needed for a server that is only attached. */
  address?: string | undefined;
  /** The time for the handshake in milliseconds. Default 5000. */
  timeoutMs?: number | undefined;
}

/** A message of the server; in `json`, any text that is no envelope is a string. */
export interface TestMessage {
  readonly event: string;
  readonly data: any;
  readonly id?: string | number;
  readonly status?: 'ok' | 'error';
}

interface Wait {
  /** The time to wait in milliseconds. Default 1000. */
  timeoutMs?: number | undefined;
}

/**
 * A client. Messages are kept until they are taken. What waits rejects with an error that says what came instead, with the code
 * `timeout` or `connection_closed`.
 */
export interface TestClient {
  /** The subprotocol of the 101. */
  readonly subprotocol: string | null;
  /** Whether compression was agreed on: then all that it sends goes compressed. */
  readonly compressed: boolean;
  /** The headers of the 101. */
  readonly headers: IncomingHttpHeaders;
  readonly isOpen: boolean;
  /** Resolves when the connection has ended: the close code and reason that came, 1005 for none, 1006 for no close frame. */
  readonly closed: Promise<{ code: number; reason: string }>;
  /** `json`: sends an event. Throws `connection_closed` on a closed connection, as do `send` and `reply`. */
  emit(event: string, data?: unknown, more?: { id?: string | number | undefined; status?: 'ok' | 'error' | undefined }): void;
  /** `raw`: sends a message, a string as text. It may be anything, for tests of what the server refuses. */
  send(data: string | NodeJS.ArrayBufferView | ArrayBuffer): void;
  /** `json`: answers a message of `conn.call`, with its id; by default with its event and the status `ok`. */
  reply(message: TestMessage, data?: unknown, more?: { event?: string | undefined; status?: 'ok' | 'error' | undefined }): void;
  /** `json`: takes the first message of this event, which came or is to come. Others stay for who takes them. */
  expect(event: string, options?: Wait): Promise<TestMessage>;
  /** Takes the next message: in `raw` a string or a Buffer. */
  message(options?: Wait): Promise<any>;
  /** `json`: sends an event with an id, and takes the answer that carries it. */
  request(event: string, data?: unknown, options?: Wait): Promise<TestMessage>;
  /** As `closed`, with a time. */
  expectClose(options?: Wait): Promise<{ code: number; reason: string }>;
  /** Closes, and resolves as `closed` does. The default code is 1000. */
  close(code?: number, reason?: string): Promise<{ code: number; reason: string }>;
  /** Drops the connection without a close frame. */
  terminate(): Promise<{ code: number; reason: string }>;
  /** Closes. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Connects to a server of this process that listens. A refused handshake rejects with an error whose code is `handshake_refused`,
 * with `status`, `headers` and `body`. The server's certificate is not checked.
 */
export function connect(server: Server<any, any>, options?: ConnectOptions): Promise<TestClient>;

/** A request for a test of `authenticate`. Cookies are those of the header. Defaults: path `/`, no query, 127.0.0.1, no token. */
export function makeRequest(request?: {
  path?: string;
  query?: string | null;
  headers?: Record<string, string>;
  ip?: string | null;
  token?: string | null;
  peerCertificate?: Uint8Array | null;
  route?: string | null;
  params?: Record<string, string>;
  id?: string;
  reported?: boolean;
}): UpgradeRequest;

/** The meta of a message for a test of its handler. */
export function makeMeta(meta?: Partial<Meta>): Meta;

/** How a connection ended, for a test of a handler of `close`. Defaults: no reason, clean. */
export function makeClosing(closing?: Partial<Closing>): Closing;

/**
 * A connection without a peer for a test of a handler. `sent` gets what is sent to it: a string or Buffer of `send`, `{ event, data }` of
 * `emit`, with `id` and `status` of a reply, with `id` of a call, `{ close, reason }` of `close`. Nobody answers calls. It checks arguments as any connection does.
 */
export function makeConnection<Data = any>(facts?: {
  id?: string;
  ip?: string | null;
  user?: string | null;
  path?: string;
  subprotocol?: string | null;
  roles?: readonly string[];
  route?: string | null;
  params?: Record<string, string>;
  /** The query without `?`. */
  query?: string | null;
  headers?: Record<string, string>;
  cookies?: Record<string, string>;
  origin?: string | null;
  claims?: Record<string, unknown> | null;
  port?: number | null;
  tls?: Connection['tls'];
  openedAtMs?: number;
  handshakeId?: string;
  reported?: boolean;
  compressed?: boolean;
  data?: Data;
  protocol?: 'json' | 'raw';
}): { conn: Connection<any, Data>; sent: any[] };
