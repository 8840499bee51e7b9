/// <reference types="node" />
import { EventEmitter } from 'node:events';
import type { IncomingMessage, Server as HttpServer } from 'node:http';
import type { Duplex } from 'node:stream';
import type { PolicyOptions, ProcessOption, Stats, VerdictCode } from './types/generated.js';

export type {
  Compression, ControlRateLimit, HandshakeRate, JsonLimits, JwtOptions, PolicyOptions, ProcessOption, RateLimit, Stats, TlsOptions, TokenEntry,
  VerdictCode,
} from './types/generated.js';

type Awaitable<T> = T | PromiseLike<T>;
type Name<T> = keyof T & string;
/** `data` of an event that you send: known events have a type, others may be any JSON. */
type DataOf<Events, K> = K extends keyof Events ? Events[K] : unknown;
/** `data` of a received event, by its schema. TypeScript cannot read a plain JSON Schema: there it is `any`, unless you state the type. */
type HeardOf<Events, K> = K extends keyof Events ? (unknown extends Events[K] ? any : Events[K]) : any;

/** A schema of any library that implements Standard Schema (zod, Valibot, ArkType …). */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown, ...rest: any[]) => Awaitable<
      { readonly value: Output; readonly issues?: undefined } | { readonly issues: ReadonlyArray<unknown> }
    >;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

/** A JSON Schema, draft 2020-12. */
export type JsonSchema = { readonly [keyword: string]: unknown } | boolean;

/** The contract of one event. */
export interface EventOptions<Data = any> {
  /**
   * The schema of `data`; left out: any data (`undefined` is an error). A JSON Schema is enforced natively. For a Standard Schema, its
   * JSON Schema is enforced natively; then its own `validate` runs, and may transform the data that the handler gets.
   */
  schema?: StandardSchema<Data> | JsonSchema;
  /** The number of messages that this one counts for in `rateLimit`: 0 to 1000000, fractions allowed. Default 1. */
  cost?: number | undefined;
  /** The roles of which a connection needs one to send this event; others are `event_denied`. Left out: every user. */
  roles?: readonly string[] | null | undefined;
  /** `reply` answers data that does not fit the schema with an error instead of closing. Default `close`. */
  onMismatch?: 'close' | 'reply' | undefined;
}

/** The policy and the application's authentication. */
export type ServerOptions<Events = any, Data = any> = Policy<Events> & Authentication<Data>;

interface Policy<Events> extends Omit<PolicyOptions, 'events' | 'auth' | 'routes'> {
  /** The events of the `json` protocol; an event that is not listed is a violation. */
  events?: { [K in keyof Events]: EventOptions<Events[K]> } | undefined;
  /**
   * Options that differ on some paths, by the path (`/admin`, `/room/{name}`): everything that concerns a handshake or a message. What
   * a route does not state it has from the top. A path that is neither a route nor in `paths` answers 404. With `auth: "callback"` the
   * `authenticate` of the top is asked. Default: none.
   */
  routes?: RoutesOption | undefined;
}

/** The options of one route: those of a handshake or a message. Those of the process stand at the top. */
export interface RouteOptions extends Omit<Partial<PolicyOptions>, ProcessOption | 'events'>, TopOnly {
  /** The events of this route, in place of those of the top. */
  events?: { readonly [event: string]: EventOptions } | undefined;
}

/** That these are left out would not refuse them where a route is inferred. */
type TopOnly = { [Option in ProcessOption | 'authenticate']?: undefined };

type RoutesOption = { readonly [path: string]: RouteOptions };

/** The events of the top and of the routes; an event that several have comes with the data of any. */
type WithRoutes<Events, Routes> = [keyof Routes] extends [never]
  ? Events
  : { [K in keyof Events | RouteEvents<Routes>]: (K extends keyof Events ? Events[K] : never) | RouteData<Routes, K> };
type RouteEvents<Routes> = { [P in keyof Routes]: Routes[P] extends { readonly events: infer E } ? keyof E & string : never }[keyof Routes];
type RouteData<Routes, K> = {
  [P in keyof Routes]: Routes[P] extends { readonly events: infer E } ? (K extends keyof E ? SchemaData<E[K]> : never) : never;
}[keyof Routes];
type SchemaData<Event> = Event extends { readonly schema: StandardSchema<infer Data> } ? Data : unknown;

/**
 * The application's authentication. It is called before the 101, once for each handshake that passed the other checks. If it throws
 * or rejects, the handshake is refused with 503, and the error is emitted as `error`. Without an answer within `authTimeoutMs`, the
 * handshake is refused with 503 as well.
 */
type Authenticate<Data> = (request: UpgradeRequest) => Awaitable<Accept<Data> | Reject>;

type Authentication<Data> =
  | {
      /** The way of authentication before the 101. **Required**, unless `authenticate` is given. */
      auth: PolicyOptions['auth'];
      /** The authentication for `auth: "callback"`. */
      authenticate?: Authenticate<Data> | undefined;
    }
  | {
      /** The way of authentication; left out: `"callback"`, because `authenticate` is given. */
      auth?: undefined;
      authenticate: Authenticate<Data>;
    };

/** An opening handshake that waits for the application. It holds credentials: do not log its fields. */
export interface UpgradeRequest {
  /** Always `GET`. */
  readonly method: string;
  /** The path, as sent. */
  readonly path: string;
  /** The query without `?`; null if the target has no `?`. */
  readonly query: string | null;
  /** Path and query. */
  readonly url: string;
  /** The client's address; null on a Unix socket without a proxy. */
  readonly ip: string | null;
  /** The token that `tokenSources` found; it is not checked yet. */
  readonly token: string | null;
  /** The headers, by name in lower case; several of one name are joined. */
  readonly headers: Readonly<Record<string, string>>;
  /** The names and values of the headers, alternating, in the order received. */
  readonly rawHeaders: readonly string[];
  /** The cookies by name; of several with one name the first. */
  readonly cookies: Readonly<Record<string, string>>;
  /** The client's own certificate (DER), if `tls.clientCa` asks for one. */
  readonly peerCertificate: Buffer | null;
  /** The id of the handshake: `hs=` in the log, and `conn.handshakeId` of its connection. */
  readonly id: string;
  /** The route that the path is of, as `routes` writes it; null: none. */
  readonly route: string | null;
  /** The parameters of the path, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** True if its `Origin` or `Host` would be refused, were `reportHandshakes` off: no cookie or header of it says who it is. */
  readonly reported: boolean;
  /**
   * Aborts when the handshake is over without an answer: the peer has left, or its time is over. Give it to what looks the credential
   * up. Its reason is an error with the code `handshake_gone`.
   */
  readonly signal: AbortSignal;
  /** The first header of this name, in any case. */
  get(name: string): string | undefined;
}

/** What `accept` returns. */
export interface Accept<Data = unknown> {
  readonly user: string | undefined;
  readonly data: Data;
  readonly expiresAtMs: number | undefined;
  readonly roles?: readonly string[];
  readonly subprotocol?: string;
  readonly headers?: readonly (readonly [string, string])[];
}

/** What `reject` returns. */
export interface Reject {
  readonly status: number;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: Buffer;
}

/** Headers of a response: values by name (a list makes several), pairs, or Fetch's `Headers`. */
type ResponseHeaders = { readonly [name: string]: string | number | readonly string[] } | Iterable<readonly [string, string]>;

/**
 * Accepts a handshake as `user` (1 to 256 bytes, no control characters). Connections of one user share limits, and
 * `disconnectUser` finds them by this name. `data` becomes `conn.data`. The session ends at `expiresAtMs` (milliseconds since the
 * Unix epoch; default: never). `roles` are those that `events` may ask for: at most 64, each 1 to 64 bytes without spaces or control
 * characters; default: none. `subprotocol` is one that the client offers; default: the first of the option `subprotocols` that it does.
 * `headers` are added to the 101, such as `Set-Cookie`: at most 64, of 16 KiB together, and not those of the handshake itself; one that
 * may not be is an `error` that names it, and the peer gets 503. Without a user, or with an undefined one, it throws: see `acceptAnonymous`.
 */
export function accept<Data = undefined>(session: { user: string } & Session<Data>): Accept<Data>;

/** Accepts a handshake without a user: limits are those of its address, and `disconnectUser` does not find it. */
export function acceptAnonymous<Data = undefined>(session?: Session<Data>): Accept<Data>;

interface Session<Data> {
  data?: Data;
  expiresAtMs?: number | null | undefined;
  roles?: readonly string[] | null | undefined;
  subprotocol?: string | null | undefined;
  headers?: ResponseHeaders | null | undefined;
}

/**
 * Refuses a handshake with an HTTP status, 300 to 599 (default 401), with `headers` such as `Location` or `WWW-Authenticate` as those of
 * `accept`, and with a `body` of at most 64 KiB. Default: no headers, and the name of the verdict.
 */
export function reject(
  status?: number,
  more?: { headers?: ResponseHeaders | null | undefined; body?: string | NodeJS.ArrayBufferView | ArrayBufferLike | null | undefined },
): Reject;

/**
 * Writes the core's log to standard error: verdicts, who came and went, and at start the policy in force. `format: "json"` makes each
 * line an object: see `LogRecord`. Default `plain`. Once per process; a second call does nothing.
 */
export function logToStderr(options?: { format?: 'plain' | 'json' | undefined }): void;

/** How grave a record of the log is, gravest first. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

/** A record of the core's log. */
export interface LogRecord {
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly level: LogLevel;
  /** `wsguard::verdict` for verdicts, `wsguard::audit` for who came and went, `wsguard` for the rest. */
  readonly target: string;
  readonly message?: string;
  /** Its fields: for a verdict `code`, `ip`, `peer`, `user`, `event`, `conn`, `hs`, `suppressed`, `detail`. Null: there is none. */
  readonly [field: string]: unknown;
}

/**
 * Gives each record of the core's log up to `level` (default `info`) to a function, such as one of pino or winston. It is called on
 * this thread, in order; where the thread is busy for long, records are dropped, and one with the field `lost` follows. It does not keep
 * the process alive. Throws `already_logging` where the log goes elsewhere: once per process, also with worker threads.
 */
export function logTo(listener: (record: LogRecord) => unknown, options?: { level?: LogLevel | undefined }): void;

/**
 * The result of a send: `queued` if the peer has not read earlier messages yet (see `drained`), `closed` if the connection
 * is closed and the message was discarded. Neither throws.
 */
export type Sent = 'sent' | 'queued' | 'closed';

/** The parts of a message besides its data. */
export interface Meta {
  /** The event. */
  readonly event: string;
  /** The id to reply to. */
  readonly id: string | number | undefined;
  /** The peer's status. */
  readonly status: 'ok' | 'error' | undefined;
  /** The length of the message's payload in bytes. */
  readonly sizeBytes: number;
}

type Binary = NodeJS.ArrayBufferView | ArrayBufferLike;

/** How a message is sent. */
export interface SendOptions {
  /**
   * `false`: it goes plain although `compression` is on: what is compressed already (images), and what holds a secret beside text that
   * somebody else has chosen, whose length would tell of it. Default `true`: by the rules of `compression`.
   */
  compress?: boolean | undefined;
}

/**
 * One connection. Every method may be called after it has closed; it does nothing then, but the promises of `call` and `ping`
 * reject. `JSON.stringify` and `console.log` show it without `data`.
 */
export interface Connection<Events = any, Data = any> {
  /** The id, unique in the process. */
  readonly id: string;
  /** The client's address; null on a Unix socket without a proxy. */
  readonly ip: string | null;
  /** The user, if authentication named one. */
  readonly user: string | null;
  /** The request path. */
  readonly path: string;
  /** The subprotocol of the 101. */
  readonly subprotocol: string | null;
  /** Its roles: of its token, of the JWT's `rolesClaim`, or of `accept`. A reload may give it others, which the core goes by. */
  readonly roles: readonly string[];
  /** The route that its path was of when it opened, as `routes` writes it (`/room/{name}`); null: none. */
  readonly route: string | null;
  /** The parameters of its path, percent-decoded: `params.name` of `/room/{name}`. */
  readonly params: Readonly<Record<string, string>>;
  /** The query without `?`; null if the target had none. */
  readonly queryString: string | null;
  /** The query, parsed. */
  readonly query: URLSearchParams;
  /** The headers that `keepHeaders` names, by name in lower case; several of one name are joined. */
  readonly headers: Readonly<Record<string, string>>;
  /** The cookies that `keepCookies` names. */
  readonly cookies: Readonly<Record<string, string>>;
  /** The `Origin` of the handshake; null: none. */
  readonly origin: string | null;
  /** The claims of its JSON Web Token, with `auth.jwt` and up to 8 KiB; else null. They are its issuer's words, which were verified. */
  readonly claims: Readonly<Record<string, any>> | null;
  /** The port of the peer: the client, or a proxy. Null on a Unix socket. */
  readonly port: number | null;
  /** What TLS agreed on; null without `tls`. */
  readonly tls: Readonly<{
    /** `TLSv1.3` or `TLSv1.2`. */
    version: string;
    /** By its name at IANA: `TLS_AES_128_GCM_SHA256`. */
    cipher: string;
    /** The name that the client asked for. */
    serverName: string | null;
    /** Of the client's own certificate (DER), in lower-case hexadecimal digits. */
    clientCertificateSha256: string | null;
  }> | null;
  /** When it opened, in milliseconds since the Unix epoch. */
  readonly openedAtMs: number;
  /** The id of its handshake: `hs=` in the log. */
  readonly handshakeId: string;
  /**
   * True if its `Origin`, `Host` or credential would have been refused, were `reportHandshakes` off. It has no user then, and `data`
   * that `authenticate` gave it is no proof of who it is.
   */
  readonly reported: boolean;
  /** True if the peer has agreed to `compression`: messages may be compressed in both directions. */
  readonly compressed: boolean;
  /** An object of the application. It starts as the `data` of `accept`. */
  data: Data;
  /**
   * True while it is open, as far as events have been handled. It becomes false with `close`, a failed handler, `disconnectUser` or
   * the end of its session (`exp` of its JWT, `expiresAtMs`).
   */
  readonly isOpen: boolean;
  /**
   * Resolves when it has ended, before `close` is told. It never rejects. Messages that came before and wait, for `open` or for an
   * asynchronous schema, are handled behind it.
   */
  readonly closed: Promise<Ended>;
  /**
   * Aborts when it has ended: give it to what works for this connection (`fetch`, `setTimeout` of `node:timers/promises`). Its reason is
   * an error with the code `connection_closed`, and with `closeCode`, `reason`, `clean` and `verdict`. What a listener of `abort` throws is
   * an uncaught exception, as with any AbortSignal.
   */
  readonly signal: AbortSignal;
  /** True while the peer has not read earlier messages. */
  readonly isQueued: boolean;
  /** The bytes that were sent and that the socket has not taken; 0 if it is closed. */
  readonly bufferedAmount: number;
  /** The rooms it is in. */
  readonly rooms: readonly string[];
  /**
   * `raw`: sends a message, a string as text and bytes as binary. You may reuse the bytes when it returns. For anything else, and for
   * a message larger than `maxOutboxBytes`, it throws and sends nothing.
   */
  send(data: string | Binary, options?: SendOptions): Sent;
  /** `json`: emits an event: `{ event, data, status: "ok" }`. If `data` is not JSON, it throws and sends nothing. */
  emit<K extends string>(event: K, data?: DataOf<Events, K>, options?: SendOptions): Sent;
  /** `json`: emits an event in reply to a message: with its `id`, if it had one. */
  reply<K extends string>(meta: Pick<Meta, 'id'> | undefined, event: K, data?: DataOf<Events, K>, options?: SendOptions): Sent;
  /** `json`: as `reply` with the status `error`: what the message asked for could not be done. The connection stays open. */
  replyError<K extends string>(meta: Pick<Meta, 'id'> | undefined, event: K, data?: unknown, options?: SendOptions): Sent;
  /**
   * `json`: asks the peer, and resolves to the data of its answer: a message with the `id` of the call and a status, whose event is one of
   * `events` (`handle` of @wsguard/client answers with the same event). The first answer counts, and is handled by nobody else. It rejects
   * with an error whose code is `call_timeout` (no answer within `timeoutMs`, default 10000), `call_refused` (the answer has the status
   * `error`; `data` is its data), `connection_closed`, or `too_many_calls` (1024 of the connection are under way); and for wrong arguments.
   */
  call<K extends string>(event: K, data?: DataOf<Events, K>, options?: SendOptions & { timeoutMs?: number | undefined }): Promise<any>;
  /**
   * Sends a ping, and resolves to the time until its answer, in milliseconds. It rejects if the connection closes before
   * (`connection_closed`), where 16 pings have no answer, and for arguments.
   */
  ping(): Promise<number>;
  /** Drops the socket at once, without a close frame: what it has no room for of what was sent is lost. `close` says 1006. */
  terminate(): void;
  /**
   * Joins a room (1 to 256 bytes). A connection leaves its rooms when it closes. It throws beyond 1024 rooms; a room that you leave
   * still counts for a moment.
   */
  join(room: string): void;
  /** Leaves a room. */
  leave(room: string): void;
  /**
   * Starts the closing handshake. From here on no message is handled, and `send` returns `closed`. The default code is 1000. It
   * throws for a code that an endpoint may not send (RFC 6455 section 7.4).
   */
  close(code?: number, reason?: string): void;
  /** Stops reading: the peer feels back-pressure. Messages that were read before may still arrive. */
  pause(): void;
  /** Reads again after `pause`. */
  resume(): void;
  /** Resolves when the peer has read everything that was sent so far, or the connection has closed. */
  drained(): Promise<void>;
  /** The fields that may be logged. */
  toJSON(): { id: string; ip: string | null; user: string | null; path: string; subprotocol: string | null; isOpen: boolean };
}

/** The connections that a broadcast goes to, each once. A message is encoded once, and compressed once, whatever their number. */
export interface Audience<Events = any, Data = any> {
  /** `json`: emits an event to each of them. */
  emit<K extends string>(event: K, data?: DataOf<Events, K>, options?: SendOptions): void;
  /** `raw`: sends a message to each of them. */
  send(data: string | Binary, options?: SendOptions): void;
  /** The same audience without these connections, besides those that are left out already. */
  except(...conns: [Connection<any, any>, ...Connection<any, any>[]]): Audience<Events, Data>;
  /** Its open connections at this moment, each once. It looks at each of them, which takes some 10 ms for 100 000. */
  members(): Connection<Events, Data>[];
  /** Their number; counted anew each time, as `members` does. */
  readonly size: number;
  /**
   * How many there are on all nodes of the `cluster`. Without one, and where no other node has any, nobody is asked: it is the number
   * of this node. It rejects with `stopped` when the server ends meanwhile.
   */
  everywhere(options?: EverywhereOptions): Promise<Everywhere>;
  /** Takes everybody out of the rooms, on all nodes of a `cluster`. It throws for another audience. */
  clear(): void;
  /** Closes each of them, on all nodes of a `cluster`: see `Connection.close`. It throws for a wrong code or reason also where there is nobody. */
  close(code?: number, reason?: string): void;
}

/** For `Audience.everywhere`. */
export interface EverywhereOptions {
  /** How long the other nodes have to answer: a minute at most. Default: 1000. */
  timeoutMs?: number;
}

/** How many connections an audience has on all nodes of a cluster, as far as these have answered. */
export interface Everywhere {
  /** The connections of all nodes, those of this one among them: each once. */
  readonly connections: number;
  /** How many nodes did not answer in time: what they have is not counted. */
  readonly missing: number;
}

/** A verdict against a peer. A flood of them is sampled; `stats()` counts every one. */
export interface Violation<Events = any, Data = any> {
  readonly code: VerdictCode;
  /** The close code of the verdict; null if it only refuses handshakes. */
  readonly closeCode: number | null;
  /** The usual HTTP status of the verdict; null if it only closes open connections. */
  readonly httpStatus: number | null;
  /** The client's address; null on a Unix socket without a proxy. */
  readonly ip: string | null;
  /** The user; null before authentication. */
  readonly user: string | null;
  /** The id of the connection; null before the 101. */
  readonly connId: string | null;
  /** The event of the message, escaped and cut to 64 characters. */
  readonly event: string | null;
  /** The cause, in the words of the log record: at most 256 characters, none of them a control character. */
  readonly detail: string;
  /** The connection, if it is open. */
  readonly conn: Connection<Events, Data> | undefined;
}

/** How a connection ended. */
export interface Closing {
  /** The reason of the close frame. */
  readonly reason: string;
  /** Whether both sides sent a close frame. */
  readonly clean: boolean;
  /** The verdict that closed it; null: the peer or the application did, or it broke. */
  readonly verdict: VerdictCode | null;
}

/** How a connection ended, with its close code: that of `close`. */
export interface Ended extends Closing {
  readonly code: number;
}

/** A call of handlers, as a middleware gets it. */
export interface HandlerCall {
  /** The event: of the contract, or `open`, `close`, `message`, `drained`. */
  readonly event: string;
  /** The first value that the handlers get beside the connection: `data`, or the code of a `close`. A middleware may set another one. */
  data: unknown;
  /** The second one: `Meta` of an event of the contract, `isBinary` of `message`, `Closing` of `close`. */
  meta: unknown;
}

/**
 * A function around handlers: see `Server.use`. `next()` calls the middleware behind it, and then the handlers; its promise resolves
 * when theirs have, and rejects with the error of the first that failed. Who does not call it skips the handlers.
 */
export type Middleware<Events = any, Data = any> = (
  conn: Connection<Events, Data>,
  call: HandlerCall,
  next: () => Promise<void>,
) => unknown;

/** Whom a ban is of: an address (IPv6: its /64) or a network (`10.0.0.0/8`), or a user. */
export type Banned = { ip: string; user?: undefined } | { user: string; ip?: undefined };

/** A ban that is in force. */
export interface Ban {
  /** The address or network; null for a ban of a user. */
  readonly ip: string | null;
  /** The user; null for a ban of an address. */
  readonly user: string | null;
  /** When it ends, in milliseconds since the Unix epoch; null: not by itself. */
  readonly endsAtMs: number | null;
  readonly reason: string;
  /** True for a ban of `autoBan`. */
  readonly isAutomatic: boolean;
}

/** An error with a stable name. */
export interface WsguardError extends Error {
  /**
   * `unknown_option`, `missing_option`, `invalid_option`, `contradiction` (see `option`), `listen_failed`, `start_failed`,
   * `not_reloadable`, `already_started`, `not_started`, `not_supported`, `ticket_settled`, `invalid_argument`, `stopped`,
   * `addon_missing`, `already_logging`; of `conn.call`, `conn.ping` and signals `call_timeout`, `call_refused`,
   * `too_many_calls`, `connection_closed`, `handshake_gone`.
   */
  code: string;
  /** The option at fault: `rateLimit.perSecond`, `origins[2]`. */
  option?: string;
  /** The system's error (`listen_failed`: its `code` is `EADDRINUSE` or another), or the error that was thrown inside. */
  cause?: unknown;
}

/**
 * The listeners of a server, by name. A promise that they return is not awaited, but for `open`; if it rejects, the handler has
 * failed.
 */
export interface Lifecycle<Events = any, Data = any> {
  /** A connection was authenticated and upgraded. Its messages wait until the promises of these listeners are settled. */
  open: (conn: Connection<Events, Data>) => unknown;
  /** A connection ended. The code is the server's if it closed first, else the peer's; 1005 for none, 1006 for a broken connection. */
  close: (conn: Connection<Events, Data>, code: number, closing: Closing) => unknown;
  /** `raw`: a message. */
  message: (conn: Connection<Events, Data>, data: string | Buffer, isBinary: boolean) => unknown;
  /** `json`: any event, before its own listeners. */
  event: (conn: Connection<Events, Data>, data: unknown, meta: Meta) => unknown;
  /** A rule was broken. */
  violation: (violation: Violation<Events, Data>) => unknown;
  /** The peer of a `queued` message has read everything. */
  drained: (conn: Connection<Events, Data>) => unknown;
  /**
   * A handler or a middleware threw or rejected (its connection is closed with 1011), or `authenticate` did. `event` is what was handled:
   * an event of the contract, `open`, `close`, `message`, `drained`, `violation`, `authenticate`. Without a listener: standard error.
   * It is no failure that the end of its own connection interrupts a handler (`conn.signal`, `conn.call`, `conn.ping`).
   */
  error: (error: any, conn?: Connection<Events, Data>, event?: string) => unknown;
  /** The server has stopped; no event follows. */
  stopped: () => unknown;
}

type Listener<Events, Data, K> = K extends keyof Lifecycle
  ? Lifecycle<Events, Data>[K]
  : (conn: Connection<Events, Data>, data: HeardOf<Events, K>, meta: Meta) => unknown;

interface ServerConstructor {
  /** Checks the options; throws an error with `code` and `option`. */
  new <Events = any, Data = any, const Routes extends RoutesOption = {}>(
    options: ServerOptions<Events, Data> & { routes?: Routes | undefined },
  ): Server<WithRoutes<Events, Routes>, Data>;
  readonly prototype: Server;
}

export const Server: ServerConstructor;

/**
 * A WebSocket server. `Events` are the types of the events' `data` (inferred from Standard Schemas in `events` and in the events of
 * `routes`, or stated), `Data` is the type of `conn.data` (inferred from `authenticate`).
 */
export interface Server<Events = any, Data = any> extends EventEmitter {
  /**
   * Binds and starts; resolves to the address with the real port. An aborted `signal` drains. With `auth.jwt.jwksUrl` the keys are fetched
   * first, and this thread waits for them: 5 s at most for each URL, then it rejects.
   */
  listen(options?: { signal?: AbortSignal | undefined }): Promise<string>;

  /**
   * Takes the upgrades of a plain HTTP server (`http`, Express; for Fastify `app.server`), with the verdicts of any other handshake.
   * `listen`, `tls` and `proxyProtocol` do not apply; the limits on the head are Node's. With `path`, upgrades of other paths go to
   * other listeners. To listen on a port of its own as well, call `listen` first.
   *
   * Until `drain` or `stop` is over, newcomers get 503, or are taken by another server that was attached for their path meanwhile.
   * From then on they are the HTTP server's own matter: without a listener Node takes them for ordinary requests.
   */
  attach(httpServer: HttpServer, options?: { path?: string | readonly string[] | undefined }): this;

  /** Takes one upgrade, for an `upgrade` listener of your own. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;

  /**
   * Shuts down gently: new handshakes get 503, open connections are closed with 1012, spread over `jitterMs` (default 0).
   * Connections that are left after `timeoutMs` (default 10000) are dropped. Resolves when the server has stopped.
   */
  drain(options?: { timeoutMs?: number | undefined; jitterMs?: number | undefined }): Promise<void>;

  /** Drops every connection; from here on no message is handled. Resolves when the server has stopped. */
  stop(): Promise<void>;

  /** Drains. */
  [Symbol.asyncDispose](): Promise<void>;

  /** Keeps the process alive, which is the default of a listening server. */
  ref(): this;

  /** Lets the process end while the server is idle. */
  unref(): this;

  /** The address with the real port, once the server listens; empty for a server that is only attached. */
  readonly address: string | undefined;

  /** The address of `adminListen` with the real port, once the server has started; undefined without that option. */
  readonly adminAddress: string | undefined;

  /** True from the start of the server to its end. */
  readonly isRunning: boolean;

  /** The open connections. */
  readonly connections: IterableIterator<Connection<Events, Data>>;

  /** The members of a room, or of several. */
  to(...rooms: [string, ...string[]]): Audience<Events, Data>;

  /** The connections of a user. */
  toUser(user: string): Audience<Events, Data>;

  /** Every connection. */
  toAll(): Audience<Events, Data>;

  /** The open connection with this id; undefined: there is none. */
  get(id: string): Connection<Events, Data> | undefined;

  /** The open connections of a user. */
  connectionsOf(user: string): Connection<Events, Data>[];

  /** Closes every connection of a user: `session_revoked`. From here on none of their messages is handled, not even received ones. */
  disconnectUser(user: string): void;

  /**
   * Runs by other options from now on: a whole set as for the constructor, all or nothing. Returns the generation of the policy, which is
   * 1 at the start. New handshakes and open connections are judged by it; connections whose token, JWT key or path is gone are closed
   * with `session_revoked`. The listeners stay; `authenticate` is the new one. It throws as the constructor does, and `not_reloadable` for
   * an option that cannot change while the server runs (`listen`, `threads`, `protocol` …); then nothing has changed. What was received
   * before is judged by the policy of then, its Standard Schemas among it. This thread waits while the keys of a `jwksUrl` that was not there before are fetched: 5 s
   * at most for each, then it throws.
   */
  reload(options: ServerOptions<any, Data>): number;

  /**
   * Keeps an address, a network or a user out for `forMs` milliseconds (default: until `unban`): handshakes get 403, and open
   * connections are closed with 1008 `banned`. From here on no message of that user, or of connections of exactly that address, is
   * handled. `reason` (at most 256 bytes, default none) is told in the log and in `bans`. It throws where 65536 bans are in force.
   */
  ban(whom: Banned & { forMs?: number | null | undefined; reason?: string | undefined }): void;

  /** Lifts a ban of exactly this address, network or user. Returns false if there was none. */
  unban(whom: Banned): boolean;

  /** The bans in force, in the order of their ends. */
  bans(): Ban[];

  /**
   * Calls every handler of a connection through this function, inside of those that were given before. A message is passed once, whatever
   * the number of its listeners. `violation`, `error` and `stopped` are not passed.
   */
  use(middleware: Middleware<Events, Data>): this;

  /** The counters at this moment. */
  stats(): Stats;

  /** The numbers of the server as OpenMetrics text, as `/metrics` of `adminListen` serves it. */
  metrics(): string;

  /** Reads certificate and key again; with a bad pair it throws and keeps the old one. */
  reloadTls(): void;

  /** Listens for an event of the contract, even if it has the name of an event of the server (`close`). */
  onEvent<K extends Name<Events>>(
    event: K,
    listener: (conn: Connection<Events, Data>, data: HeardOf<Events, K>, meta: Meta) => unknown,
  ): this;

  /** Removes such a listener. */
  offEvent<K extends Name<Events>>(event: K, listener: (...args: any[]) => unknown): this;

  /** Adds a listener. Throws for a name that is neither an event of the server nor in `events`. */
  on<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  addListener<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  once<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  prependListener<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  prependOnceListener<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  off<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;
  removeListener<K extends Name<Lifecycle> | Name<Events>>(event: K, listener: Listener<Events, Data, K>): this;

  /** Calls listeners of the server's own events. It sends nothing: use `toAll().emit` or `to(room).emit`. */
  emit<K extends Name<Lifecycle>>(event: K, ...values: Parameters<Lifecycle<Events, Data>[K]>): boolean;
}
