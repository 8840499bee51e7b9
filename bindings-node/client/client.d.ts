/** An event and its data, for the server: `{ say: { text: string } }`. */
type Name<Events> = keyof Events & string;
/** `data` may be left out where null will do. */
type Data<T> = null extends T ? [data?: T] : undefined extends T ? [data?: T] : unknown extends T ? [data?: T] : [data: T];
/** The answer to a request has the same event, as `conn.reply(meta, event, data)` sends it; else state its type. */
type Answer<ServerToClient, Event> = Event extends keyof ServerToClient ? ServerToClient[Event] : unknown;
type Awaitable<T> = T | PromiseLike<T>;

/**
 * A credential: its text, or with the end of its life (Unix epoch, milliseconds), which is read from a JWT where it is not
 * stated. null or undefined: none is sent.
 */
export type Token = string | { token: string; expiresAtMs?: number | undefined } | null | undefined;

/** How a connection ended, or an attempt at one. */
export interface Ended {
  /** The close code; 1006 where none came, and for every handshake that failed. */
  readonly code: number;
  /** The reason with it: of wsguard `rate limit`, `session expired` and so on. */
  readonly reason: string;
  /** The HTTP status of a refusal: only with the class of the package `ws`. */
  readonly status?: number | undefined;
  /** How many attempts failed in a row, this one included; a connection that held for ten seconds ends the row. */
  readonly failures?: number;
}

/** How the client ended, for good. */
export interface Closed extends Ended {
  /** Messages in the offline queue that were not sent; their requests have failed. */
  readonly unsent: number;
  /** Why no attempt was possible at all: `bad_argument`. */
  readonly error?: ClientError;
}

export type State = 'connecting' | 'open' | 'reconnecting' | 'closed';

/**
 * `sent`; or `queued` until there is a connection; or `refused`: the client is closed, or the message is larger than the
 * queue.
 */
export type Sent = 'sent' | 'queued' | 'refused';

/** What comes with a message beside its data. */
export interface Meta {
  readonly event: string;
  /** Of a request of the server. */
  readonly id?: string | number | undefined;
}

/** What `Options.probe` finds: a `Response` of `fetch` is one. */
export interface Probed {
  readonly headers: { get(name: string): string | null };
}

export interface Options {
  /**
   * The credential, or who gives it: called before each attempt, again before it expires, and with `isStale` true where the
   * last one was refused, or may have been (a browser does not say), or is about to expire: then a new one is wanted, not
   * the one of a cache. An error counts as a failed attempt.
   */
  token?: Token | ((isStale: boolean) => Awaitable<Token>) | undefined;
  /**
   * Where it goes. `subprotocol` (default): `Sec-WebSocket-Protocol: bearer, <token>`, all that a browser can do beside a
   * cookie; letters, digits and ``!#$%&'*+-.^_`|~`` only. `header`: `Authorization: Bearer <token>`, not in a browser.
   * `query:NAME`, `query` for `query:token`: it is then in the logs of every proxy. The server's `tokenSources` must list it.
   */
  tokenAs?: 'subprotocol' | 'header' | 'query' | `query:${string}` | undefined;
  /** Subprotocols to offer, `bearer` and the token aside. */
  protocols?: readonly string[] | undefined;
  /** Header fields of the opening handshake; not in a browser. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** The class to use in place of the global one, such as that of the package `ws` where Node has none (before 22). */
  WebSocket?: (new (url: string, protocols?: any, options?: any) => unknown) | undefined;
  /** Closes the client. */
  signal?: AbortSignal | undefined;
  /** Decides whether to try again; undefined: as usual (see README). It may take its time. */
  retry?: ((ended: Ended) => Awaitable<boolean | undefined | void>) | undefined;
  /**
   * Asked after a handshake that failed without a status, with the address as http or https and without the token: its
   * `Retry-After` is kept. Outside browsers, `fetch` will do.
   */
  probe?: ((url: string) => Awaitable<Probed>) | undefined;
  /**
   * What nobody awaits: a listener or handler that failed, a message refused by the offline queue (`queue_full`), a message
   * that is none, or over `maxMessageLength` (`bad_message`), an error that answers an emit (`rejected`), `token` failing (`token_failed`). Default: the console.
   */
  onError?: ((error: any) => void) | undefined;
  /** How long a request waits for its answer, the offline queue included. Default 10 000. */
  requestTimeoutMs?: number | undefined;
  /** How long an attempt may take, `token` and `probe` included. Default 20 000. */
  openTimeoutMs?: number | undefined;
  /** The wait before attempt n is random, at most this times 2 to the n. Default 1000. */
  minDelayMs?: number | undefined;
  /** And at most this: default 30 000. After 8 failures in a row it is 5 minutes. */
  maxDelayMs?: number | undefined;
  /** How long before its token expires a connection changes to a new token. Default 30 000; half the life of a token if that is less. */
  refreshBeforeMs?: number | undefined;
  /** Bound of the offline queue: what came first is refused. Default 32, which the server's default `rateLimit` lets pass at once. */
  maxQueuedMessages?: number | undefined;
  /** The same in bytes. Default 65536. */
  maxQueuedBytes?: number | undefined;
  /** A longer message (in UTF-16 units) is not parsed: `bad_message`. Default 1048576, the server's `maxOutboxBytes`. */
  maxMessageLength?: number | undefined;
}

/**
 * - `closed`: the client is closed, or was before the request was sent
 * - `connection_lost`: the connection ended; whether the server saw the request is not known
 * - `timeout`: no answer came
 * - `queue_full`: refused by the offline queue
 * - `rejected`: the server answered `status: "error"`; see `data`
 * - `bad_message`, `token_failed`: to `onError` alone
 * - `bad_argument`: WebSocket refuses the url, a protocol, a header or the token; in `Closed` alone
 */
export type ErrorCode =
  | 'closed' | 'connection_lost' | 'timeout' | 'queue_full' | 'rejected' | 'bad_message' | 'token_failed' | 'bad_argument';

/** An error with a stable name. Thrown by a handler, its `data` is what the server is answered. */
export class ClientError extends Error {
  constructor(code: string, more?: { event?: string; data?: unknown; cause?: unknown });
  readonly code: ErrorCode;
  /** The event that was sent. */
  readonly event?: string;
  /** `rejected`: what the server answered; of wsguard itself `{ code, path }`. */
  readonly data?: any;
  readonly cause?: unknown;
}

/**
 * A client. `ServerToClient` are the events that come, `ClientToServer` those that go: the map of the server's `events`.
 * Its functions need no `this`.
 */
export interface Client<ServerToClient = any, ClientToServer = any> {
  readonly state: State;
  /** When it is closed for good. It never rejects. */
  readonly closed: Promise<Closed>;

  /** Sends an event. Throws where `data` is no JSON. What was sent when the connection breaks may be lost. */
  emit<Event extends Name<ClientToServer>>(event: Event, ...data: Data<ClientToServer[Event]>): Sent;

  /**
   * Sends an event and waits for the answer; rejects with a `ClientError`, or with the `reason` of the signal. It is sent
   * once at most.
   */
  request<Event extends Name<ClientToServer>>(
    event: Event,
    data?: ClientToServer[Event],
    options?: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined },
  ): Promise<Answer<ServerToClient, Event>>;

  /** Listens; the result ends that. A listener is called once per event, however often it was added. */
  on<Event extends Name<ServerToClient>>(event: Event, listener: (data: ServerToClient[Event], meta: Meta) => unknown): () => void;
  /** The same, for one message. */
  once<Event extends Name<ServerToClient>>(event: Event, listener: (data: ServerToClient[Event], meta: Meta) => unknown): () => void;
  off<Event extends Name<ServerToClient>>(event: Event, listener: (data: ServerToClient[Event], meta: Meta) => unknown): void;

  /** Answers requests of the server: with what the handler returns, or with an error if it fails. null: no longer. */
  handle<Event extends Name<ServerToClient>>(
    event: Event,
    handler: ((data: ServerToClient[Event], meta: Meta) => unknown) | null,
  ): void;

  /**
   * Listens for changes of the state; `open` comes on every new connection, before what is queued is sent, so that rooms
   * can be joined again. `delayMs` is how long it waits before the next attempt.
   */
  onState(listener: (state: State, info: Partial<Closed> & { readonly delayMs?: number }) => unknown): () => void;

  /** Leaves the connection, if there is one, for a new one: another token, another network. */
  reconnect(): void;

  /** Closes for good. Throws for a code other than 1000 and 3000 to 4999, or a reason over 123 bytes, while there is a connection. */
  close(code?: number, reason?: string): void;
}

/** Connects, and goes on doing so. Throws for an option that cannot be meant; nothing of the network throws. */
export function connect<ServerToClient = any, ClientToServer = any>(
  url: string | URL,
  options?: Options,
): Client<ServerToClient, ClientToServer>;
