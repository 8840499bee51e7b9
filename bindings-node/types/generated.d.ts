// Written by scripts/typings.mjs from the core; do not edit.

import type { EventOptions, RouteOptions } from "../index.js";

/** The stable verdict codes: why a handshake was refused, or a connection closed. */
export type VerdictCode =
  /** The request head breaks HTTP/1.1 or RFC 6455. */
  | "handshake_malformed"
  /** The method is not GET. */
  | "method_not_allowed"
  /** The HTTP version is not 1.1. */
  | "http_version"
  /** No or a wrong `Upgrade`, or `Sec-WebSocket-Version` is not 13. */
  | "upgrade_required"
  /** The head is over `maxHeadBytes` or 100 headers: 431; the target over 8192 bytes: 414. */
  | "head_too_large"
  /** The opening handshake took longer than `handshakeTimeoutMs`. */
  | "handshake_timeout"
  /** The path is not in `paths`. */
  | "path_not_found"
  /** `Host` is not in `hosts` (DNS rebinding). */
  | "host_denied"
  /** `Origin` is missing or not in `origins`. */
  | "origin_denied"
  /** The address opens handshakes faster than `handshakesPerIp`. */
  | "ip_rate_limited"
  /** The address holds `maxConnectionsPerIp` connections. */
  | "ip_full"
  /** The user holds `maxConnectionsPerUser` connections. */
  | "user_full"
  /** The server holds `maxConnections` connections. */
  | "server_full"
  /** The application did not answer, or too many handshakes wait for it. */
  | "auth_unavailable"
  /** No credential, or a wrong one; or the application rejected it. */
  | "auth_failed"
  /** The TLS handshake failed. */
  | "tls_failed"
  /** A PROXY header is missing, malformed, or from an untrusted peer. */
  | "proxy_header_invalid"
  /** A frame breaks RFC 6455 section 5. */
  | "bad_frame"
  /** A text message or close reason is not UTF-8. */
  | "bad_utf8"
  /** A message is over `maxMessageBytes`. */
  | "message_too_big"
  /** A message has more than `maxFragments` fragments. */
  | "too_many_fragments"
  /** A started message did not end within `messageTimeoutMs`. */
  | "message_timeout"
  /** Messages or bytes beyond `rateLimit` and its queue. */
  | "rate_limited"
  /** Pings and pongs beyond `controlRateLimit`. */
  | "control_flood"
  /** A binary message where `protocol` is `json`. */
  | "unexpected_binary"
  /** Not a valid message envelope. */
  | "bad_envelope"
  /** The event is not in `events`. */
  | "unknown_event"
  /** `data` does not match the event's schema. */
  | "schema_mismatch"
  /** More than `maxOutboxBytes` wait for a peer that does not read. */
  | "slow_consumer"
  /** The session's `expiresAtMs` has come. */
  | "session_expired"
  /** `disconnectUser` was called. */
  | "session_revoked"
  /** Nothing was received for `idleTimeoutMs`. */
  | "idle_timeout"
  /** The server is shutting down. */
  | "draining"
  /** The application's handler failed, or an error of our own. */
  | "internal"
  /** A peer outside `trustedProxies`, where they are what allows plain text on an address that is not loopback. */
  | "proxy_required"
  /** The address or the user is banned: by `denyIps`, by `autoBan`, or by the application. */
  | "banned"
  /** The event is for other roles than the connection has. */
  | "event_denied"
  /** A compressed message cannot be inflated. */
  | "bad_compression"
  /** The nodes of the cluster cannot be asked, and `cluster.on_outage` is `closed`. */
  | "cluster_unavailable"
;

/** A server's counters at one moment. */
export interface Stats {
  /** Connections that hold a place, handshakes included. */
  connections: number;
  /** Connections that are open. */
  open: number;
  /** Connections ever opened. */
  openedTotal: number;
  /** Valid messages received. */
  messagesIn: number;
  /** Bytes received after handshakes, framing included. */
  bytesIn: number;
  /** Bytes written after handshakes, framing included. */
  bytesOut: number;
  /** Bytes of events that the application has not taken yet. */
  inboxBytes: number;
  /** Bytes that peers have not read yet. */
  outboxBytes: number;
  /** Messages that wait for their rate limit. */
  delayed: number;
  /** Handshakes that wait for the application. */
  pendingAuth: number;
  /** Handshakes among the events that the application has not released, also those whose peer has left. */
  upgradesInInbox: number;
  /** Handshakes that are only still there to be refused. */
  refusing: number;
  /** Rooms with at least one member. */
  rooms: number;
  /** Memberships of all connections in all rooms. */
  roomMemberships: number;
  /** Messages received that were compressed, and that could be decompressed. */
  messagesCompressedIn: number;
  /** Bytes that they were decompressed to, also of what was refused. */
  bytesInflated: number;
  /** Messages sent compressed; a broadcast counts once for each connection. */
  messagesCompressedOut: number;
  /**
   * Messages that went plain although they were long enough: over 1 MiB, or behind the mebibyte that a thread of the server
   * compresses in one go.
   */
  messagesLeftPlain: number;
  /** Bytes that compression has saved of what was sent. */
  compressionSavedBytes: number;
  /** Bytes in adopted pipes that the server has not read, or the application has not taken. */
  pipeBytes: number;
  /** 1 while the cluster can be reached; 0 without a cluster. */
  clusterUp: number;
  /**
   * Messages for other nodes that were dropped: the cluster could not be reached, or was too slow; and what came from Redis and
   * is no message.
   */
  clusterDropped: number;
  /** Verdicts by code. */
  verdicts: Record<VerdictCode, number>;
}

// The options.

/** One of `auth.tokens`: a token, as text or as its digest, and its user. */
export interface TokenEntry {
  /** The token itself: visible ASCII, at most 262144 bytes. Either this or `sha256`. Default: none. */
  token?: string;
  /** The SHA-256 of the token in hexadecimal. Either this or `token`. Default: none. */
  sha256?: string;
  /** The user that the token stands for, without control characters. Two tokens may name the same user. Required. */
  user: string;
  /** The roles that the token gives, for events that ask for one. Default: none. */
  roles?: string[];
}

/** The JSON Web Tokens that are accepted. They must have an `exp`. */
export interface JwtOptions {
  /**
   * The algorithms that are accepted: `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`,
   * `PS512`, `ES256`, `ES384`, `EdDSA`. Each must fit a key. Required.
   */
  algorithms: string[];
  /**
   * The key: the secret for HS*, at least as long as the hash (32 bytes for HS256); a PEM text or the path of a PEM
   * file for the others; or a JWK object. Either this or `keys`. A token's `kid` is ignored. Default: none.
   */
  key?: unknown;
  /**
   * The keys by the token's `kid`, which is then required: an object from `kid` to what `key` accepts, a list of
   * `{"kid", "key", optional "algorithm"}`, or a JWKS `{"keys": [JWK…]}`. Default: none.
   */
  keys?: unknown;
  /**
   * The URL of a JWK Set to take the keys from, by the token's `kid`, instead of `key` or `keys`: `https`, or
   * `http` on this machine. Public keys only; the set is fetched at start, in turn, and when a token names an
   * unknown `kid`. Default: none.
   */
  jwksUrl?: string;
  /**
   * The longest time between two fetches of `jwksUrl`, in seconds. A `max-age` of the response shortens it; it is
   * 60 at least. From 1 to 31536000. Default: `600`.
   */
  jwksMaxAgeS?: number;
  /**
   * The time that the last set serves while `jwksUrl` cannot be fetched, in seconds from the first failure; then
   * 503. From 0 to 31536000. Default: `86400`.
   */
  jwksStaleS?: number;
  /** The only authorities that `jwksUrl` is believed by. Default: the system's. */
  jwksCa?: string | null;
  /** The values of `iss` that are accepted. Default: any, or none. */
  issuer?: string | string[];
  /** The values of `aud` of which a token must have at least one. Default: not looked at. */
  audience?: string | string[];
  /** The difference between clocks that `exp` and `nbf` allow for, in seconds. From 0 to 3600. Default: `30`. */
  leewayS?: number;
  /** The claim that names the user. Default: `"sub"`. */
  userClaim?: string;
  /**
   * The claim that has the roles: a list of strings, or one string with spaces between them. A token without it has
   * no role; one in which it is anything else is refused. Default: none.
   */
  rolesClaim?: string | null;
}

/** The bounds on a message's JSON that its length does not give. */
export interface JsonLimits {
  /**
   * The number of objects and arrays that may be open at once, the envelope among them. From 1 to 128. Default:
   * `32`.
   */
  maxDepth?: number | undefined;
  /** The number of keys of an object inside `data`. The envelope has four at most. From 1 to 65536. Default: `256`. */
  maxKeys?: number | undefined;
}

/** The message bucket and the byte bucket of one key. */
export interface RateLimit {
  /** The cost units that leak in a second. From 0.000001 to 1000000000000. Default: `20`. */
  perSecond?: number | undefined;
  /** The cost units that pass at once. From 1 to 1000000000000. Default: `40`. */
  burst?: number | undefined;
  /**
   * The messages of one key that may wait, none longer than `queue` / `perSecond` seconds; what overflows closes
   * the connection. From 0 to 4294967295. Default: `20`.
   */
  queue?: number | undefined;
  /**
   * The payload bytes in a second, charged as they come; a frame header that announces too many is refused. `null`
   * disables it. From 1 to 1000000000000. Default: `262144`.
   */
  bytesPerSecond?: number | null | undefined;
  /**
   * The connections that share a bucket: those of a `user` (of an address where there is no user), those of an
   * `ip`, or each `connection` alone. Default: `"user"`.
   */
  key?: "user" | "ip" | "connection" | undefined;
}

/** The rate of pings and pongs of one connection. */
export interface ControlRateLimit {
  /** The control frames that leak in a second. From 0.000001 to 1000000000000. Default: `10`. */
  perSecond?: number | undefined;
  /** The control frames that pass at once; the next one is `control_flood`. From 1 to 1000000000000. Default: `20`. */
  burst?: number | undefined;
}

/** The rate of handshakes from one address. */
export interface HandshakeRate {
  /** The handshakes that leak in a second. From 0.000001 to 1000000000000. Default: `10`. */
  perSecond?: number | undefined;
  /** The handshakes that pass at once; the next one answers 429. From 1 to 1000000000000. Default: `50`. */
  burst?: number | undefined;
}

/** When and how much messages to clients are compressed. */
export interface Compression {
  /**
   * The smallest payload that is compressed, in bytes; a message of a smaller one goes as it is. From 0 to
   * 16777216. Default: `1024`.
   */
  thresholdBytes?: number | undefined;
  /** The effort: 1 is the fastest, 9 the smallest. From 1 to 9. Default: `3`. */
  level?: number | undefined;
}

/** The certificate and key of the server: PEM texts or paths of PEM files. Paths are read again by `reloadTls`. */
export interface TlsOptions {
  /** The certificate chain, leaf first. Required. */
  cert: string | Uint8Array;
  /** The private key. Required. */
  key: string | Uint8Array;
  /** The authorities for client certificates; when given, a client without one is refused. Default: none. */
  clientCa?: string | Uint8Array | null;
  /** The lowest TLS version that is accepted. Default: `"1.2"`. */
  minVersion?: "1.2" | "1.3";
}

/** When an address is banned for what it does; an IPv6 /64 counts as one. */
export interface AutoBan {
  /**
   * The number of violations within `windowMs` that ban an address. What a foreign page can make the browser of its
   * visitor do does not count, such as `origin_denied`. From 1 to 1000000. Default: `10`.
   */
  violations?: number | undefined;
  /** The time in which violations are counted, in milliseconds. From 1 to 86400000. Default: `60000`. */
  windowMs?: number | undefined;
  /** The time for which the address is banned, in milliseconds. From 1 to 315360000000. Default: `600000`. */
  banMs?: number | undefined;
}

/** Several nodes as one server, over Redis or Valkey. */
export interface ClusterOptions {
  /**
   * The URL of Redis or Valkey: `redis://`, with TLS `rediss://`; `redis+sentinel://host:port,…/service` and
   * `redis+cluster://host:port,…` likewise. Required.
   */
  url: string;
  /** The name that the nodes of one server have in common: letters, digits, `.`, `_` and `-`. Default: `"default"`. */
  name?: string | undefined;
  /**
   * The way to go on while Redis cannot be reached: `local` serves, each node with the whole limits for itself;
   * `closed` refuses new connections besides: `cluster_unavailable`. Default: `"local"`.
   */
  onOutage?: "local" | "closed" | undefined;
  /**
   * The time after which nothing is left of a node that has died, in milliseconds. From 2000 to 600000. Default:
   * `10000`.
   */
  leaseMs?: number | undefined;
  /** Whether `maxConnectionsPerUser`, and `rateLimit` by user, count over all nodes. Default: `true`. */
  userLimits?: boolean | undefined;
}

/** The policy as stated. `origins` and `auth` have no default: a server does not start without them. */
export interface PolicyOptions {
  /**
   * The address to listen on: `host:port` (port 0: any free one; a name binds every address it resolves to),
   * `unix:PATH`, or `fd:N`, an inherited listening socket. Default: `"127.0.0.1:8080"`.
   */
  listen?: string | undefined;
  /**
   * The permission bits of the socket files of `unix:PATH` in `listen` and `adminListen`, as text: `0660`. Default:
   * what the umask leaves.
   */
  unixMode?: string | undefined;
  /**
   * Whether several processes may listen on the port, so that the kernel spreads connections over them (Linux
   * only). Default: `false`.
   */
  reusePort?: boolean | undefined;
  /** The number of I/O threads; 0: one per core. From 0 to 255. Default: `0`. */
  threads?: number | undefined;
  /**
   * The request paths that upgrade; others answer 404. `{name}` stands for any one segment: `/room/{name}`.
   * Default: every path.
   */
  paths?: string[] | null | undefined;
  /**
   * The paths for which other options count, and which: what a route does not state it has from the top. A path
   * that is neither a route nor in `paths` answers 404. Default: none.
   */
  routes?: Record<string, RouteOptions> | undefined;
  /**
   * The origins that may connect: `https://app.example.com`, `https://*.example.com`, `http://localhost:*`,
   * `"null"`. Required.
   */
  origins?: string[] | undefined;
  /**
   * Permission for any page on the web to connect with the visitor's cookies, in place of `origins`. Default:
   * `false`.
   */
  dangerouslyAllowAnyOrigin?: boolean | undefined;
  /**
   * The answer to a handshake without an `Origin` header, as non-browser clients send it: `deny` is 403. Default:
   * `"deny"`.
   */
  missingOrigin?: "deny" | "allow" | undefined;
  /**
   * The values of the `Host` header that are served, against DNS rebinding: `name` (any port) or `name:port`.
   * Default: any.
   */
  hosts?: string[] | null | undefined;
  /**
   * The way of authentication before the 101: `callback` asks the application, `none` accepts every peer, `tokens`
   * and `jwt` are checked by the server. Required.
   */
  auth: "callback" | "none" | { tokens: TokenEntry[] } | { jwt: JwtOptions };
  /**
   * The places where a token is looked for, in this order: `bearer`, `header:NAME`, `cookie:NAME`, `subprotocol`,
   * `query:NAME`. Default: `["bearer", "header:x-auth-token"]`.
   */
  tokenSources?: string[] | undefined;
  /**
   * The time the application has to answer a handshake, in milliseconds; then 503. From 1 to 315360000000. Default:
   * `5000`.
   */
  authTimeoutMs?: number | undefined;
  /**
   * The number of handshakes that may wait for the application, and of requests that it has not let go; beyond it
   * 503, for whoever holds most of them. From 1 to 16777216. Default: `1024`.
   */
  maxPendingAuth?: number | undefined;
  /** The subprotocols that the server speaks, best first. Default: none. */
  subprotocols?: string[] | undefined;
  /**
   * The request headers that the application has with an open connection, at most 32; none that may carry a
   * credential. Default: none.
   */
  keepHeaders?: string[] | undefined;
  /**
   * The cookies that the application has with an open connection, at most 32; none of `tokenSources`. Default:
   * none.
   */
  keepCookies?: string[] | undefined;
  /**
   * The form of a message: `json` has an envelope that is checked against `events`; `raw` is text and binary as
   * they come. Default: `"json"`.
   */
  protocol?: "json" | "raw" | undefined;
  /** The events of the `json` protocol by name; a message of any other event is a violation. Default: `{}`. */
  events?: Record<string, EventOptions> | undefined;
  /** The bounds on the JSON of a message. */
  jsonLimits?: JsonLimits | undefined;
  /** The rate of messages and bytes, a leaky bucket for each user; `null` disables it. */
  rateLimit?: RateLimit | null | undefined;
  /** The rate of a connection's pings and pongs; `null` disables it. */
  controlRateLimit?: ControlRateLimit | null | undefined;
  /**
   * The rate of handshakes from one address: an IPv6 /64 counts as one, a /56 and a /48 have 4 and 16 times as
   * much; `null` disables it.
   */
  handshakesPerIp?: HandshakeRate | null | undefined;
  /** The number of connections of the server; beyond it 503. From 1 to 16777216. Default: `100000`. */
  maxConnections?: number | undefined;
  /** The number of connections of one address, IPv6 of one /64; beyond it 429. From 1 to 16777216. Default: `256`. */
  maxConnectionsPerIp?: number | undefined;
  /** The number of connections of one user; beyond it 429. From 1 to 16777216. Default: `64`. */
  maxConnectionsPerUser?: number | undefined;
  /**
   * The largest payload of a message in bytes, fragments added up; refused from the frame header that crosses it.
   * From 1 to 1073741824. Default: `65536`.
   */
  maxMessageBytes?: number | undefined;
  /** The largest number of frames of a message, empty ones counted. From 1 to 16777216. Default: `1024`. */
  maxFragments?: number | undefined;
  /** The time from a message's first frame to its last, in milliseconds. From 1 to 315360000000. Default: `30000`. */
  messageTimeoutMs?: number | undefined;
  /**
   * The compression of messages, by permessage-deflate (RFC 7692) without context takeover, for clients that offer
   * it. Limits of size and rate count inflated bytes. Default: none.
   */
  compression?: Compression | null | undefined;
  /**
   * The longest life of a connection in milliseconds, whatever its token says; 0: no limit. From 0 to 315360000000.
   * Default: `0`.
   */
  maxSessionMs?: number | undefined;
  /**
   * The largest request line and headers together, in bytes; at most 100 headers. From 1024 to 262144. Default:
   * `16384`.
   */
  maxHeadBytes?: number | undefined;
  /**
   * The time from the TCP connection to the 101 in milliseconds: TLS, head and authentication together. From 1 to
   * 315360000000. Default: `5000`.
   */
  handshakeTimeoutMs?: number | undefined;
  /** The time between the server's pings, in milliseconds; 0: off. From 0 to 315360000000. Default: `20000`. */
  pingIntervalMs?: number | undefined;
  /**
   * The time without anything received after which a peer is dead, in milliseconds; 0: off. At least a second more
   * than `pingIntervalMs`. From 0 to 315360000000. Default: `45000`.
   */
  idleTimeoutMs?: number | undefined;
  /**
   * The time for the closing handshake in milliseconds; then the socket is dropped. From 1 to 315360000000.
   * Default: `2000`.
   */
  closeTimeoutMs?: number | undefined;
  /**
   * The close code of connections that a drain closes: 1001 is for old clients that read 1012 as an error. Default:
   * `1012`.
   */
  drainCloseCode?: 1012 | 1001 | undefined;
  /**
   * The bytes that one connection may leave unread; beyond it `slow_consumer`. From 1 to 2147483648. Default:
   * `1048576`.
   */
  maxOutboxBytes?: number | undefined;
  /**
   * The bytes of events that the application has not taken yet; beyond it the server stops reading. From 1 to
   * 2147483648. Default: `67108864`.
   */
  maxInboxBytes?: number | undefined;
  /** The certificate and key of the server. Default: none. */
  tls?: TlsOptions | null | undefined;
  /** Permission to listen in plaintext on a public address without a proxy. Default: `false`. */
  dangerouslyAllowPlaintext?: boolean | undefined;
  /**
   * The addresses and CIDRs whose `Forwarded` and `X-Forwarded-For` headers are believed; `unix`: peers of a Unix
   * socket. Default: none.
   */
  trustedProxies?: string[] | undefined;
  /**
   * Whether every connection must begin with a PROXY header, v1 or v2, from one of `trustedProxies`. Default:
   * `false`.
   */
  proxyProtocol?: boolean | undefined;
  /** The effect of message rules: `report` tries them on live traffic without acting on them. Default: `"enforce"`. */
  onViolation?: "enforce" | "report" | undefined;
  /**
   * Whether the rules for `Origin`, `Host` and credentials only report, too: for trying a policy on live traffic,
   * with `on_violation: "report"`. Whom they would refuse is let in without a user. Default: `false`.
   */
  reportHandshakes?: boolean | undefined;
  /**
   * The address of `/metrics` (OpenMetrics), `/healthz` and `/readyz`: `host:port` of this machine, or `unix:PATH`.
   * Default: none.
   */
  adminListen?: string | null | undefined;
  /**
   * Permission for `adminListen` to be an address that other machines can reach, and to be asked by any `Host`.
   * Default: `false`.
   */
  dangerouslyPublicAdmin?: boolean | undefined;
  /** The addresses and CIDRs that are refused: `banned`. An IPv6 address stands for its /64. Default: none. */
  denyIps?: string[] | undefined;
  /** The ban of an address that breaks rules again and again. Default: none. */
  autoBan?: AutoBan | null | undefined;
  /**
   * The nodes of a cluster, which are one server: rooms, users, bans and the limits of users are common to those
   * with the same `name` on the same Redis or Valkey (6.2 or later). Default: none.
   */
  cluster?: ClusterOptions | null | undefined;
  /** The `Server` header of responses. Default: none. */
  serverHeader?: string | null | undefined;
}

/** The options of the process: they stand at the top only, and no route may state them. */
export type ProcessOption = "listen" | "unixMode" | "reusePort" | "threads" | "paths" | "routes" | "maxConnections" | "drainCloseCode" | "maxInboxBytes" | "tls" | "dangerouslyAllowPlaintext" | "trustedProxies" | "proxyProtocol" | "adminListen" | "dangerouslyPublicAdmin" | "denyIps" | "autoBan" | "cluster";
