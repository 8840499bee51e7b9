// Written by scripts/typings.mjs from the core; do not edit.

import type { EventOptions } from "../index.js";

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
  /** Handshakes among the events that the application has not let go; those whose peer has left included. */
  upgradesInInbox: number;
  /** Handshakes that are only still there to be refused. */
  refusing: number;
  /** Rooms with at least one member, counted on each shard. */
  rooms: number;
  /** Memberships of all connections in all rooms. */
  roomMemberships: number;
  /** Verdicts by code. */
  verdicts: Record<VerdictCode, number>;
}

/** The message bucket and the byte bucket of one key. */
export interface RateLimit {
  /** Cost units that leak in a second. Default 20. */
  perSecond?: number | undefined;
  /** Cost units that pass at once. Default 40. */
  burst?: number | undefined;
  /**
   * Messages of one key that may wait, none longer than `queue / per_second`; what overflows closes the connection.
   * Default 20.
   */
  queue?: number | undefined;
  /**
   * Payload bytes in a second, charged as they come; a header that announces too many is refused. `null` disables it.
   * Default 262144.
   */
  bytesPerSecond?: number | null | undefined;
  /** Who shares a bucket. Default `user`. */
  key?: "user" | "ip" | "connection" | undefined;
}

/** Pings and pongs of one connection. */
export interface ControlRateLimit {
  /** Control frames that leak in a second. Default 10. */
  perSecond?: number | undefined;
  /** Control frames that pass at once; the next one is `control_flood`. Default 20. */
  burst?: number | undefined;
}

/** Handshakes of one address. */
export interface HandshakeRate {
  /** Handshakes that leak in a second. Default 10. */
  perSecond?: number | undefined;
  /** Handshakes that pass at once; the next one answers 429. Default 50. */
  burst?: number | undefined;
}

/** TLS: PEM texts or paths of PEM files. Paths are read again by `reloadTls`. */
export interface TlsOptions {
  /** The certificate chain, leaf first. */
  cert: string | Uint8Array;
  /** The private key. */
  key: string | Uint8Array;
  /** Authorities for client certificates; when given, a client without one is refused. */
  clientCa?: string | Uint8Array;
  /** `1.2` or `1.3`. Default `1.2`. */
  minVersion?: "1.2" | "1.3";
}

/** The option `jsonLimits`: how large a message's JSON may be in ways that its length does not bound. */
export interface JsonLimits {
  /** How many objects and arrays may be open at once, the envelope among them. Default 32, at most 128. */
  maxDepth?: number | undefined;
  /** How many keys an object inside `data` may have. Default 256, at most 65536. The envelope has four at most. */
  maxKeys?: number | undefined;
}

/** The option `auth.jwt`, as it is written. */
export interface JwtOptions {
  /**
   * The algorithms accepted: `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`,
   * `ES256`, `ES384`, `EdDSA`. Required; each must fit a key.
   */
  algorithms: string[];
  /**
   * The key: the secret for HS*, at least as long as the hash (32 bytes for HS256); a PEM text or the path of a PEM file for the others; or a JWK object. Either this
   * or `keys`. A token's `kid` is ignored.
   */
  key?: unknown;
  /**
   * Keys by the token's `kid`, which is then required: an object from `kid` to what `key` accepts, a list of
   * `{"kid", "key", optional "algorithm"}`, or a JWKS `{"keys": [JWK…]}`.
   */
  keys?: unknown;
  /** The `iss` accepted; default: any, or none. */
  issuer?: string | string[];
  /** The `aud` of which a token must name at least one; default: not looked at. */
  audience?: string | string[];
  /** How far clocks may differ, in seconds, for `exp` and `nbf`. Default 30, at most 3600. */
  leewayS?: number;
  /** The claim that names the user. Default `sub`. */
  userClaim?: string;
}

/** One entry of `auth.tokens`: a token, as text or as its digest, and its user. */
export interface TokenEntry {
  /** The token itself: visible ASCII, at most 262144 bytes. Either this or `sha256`. */
  token?: string;
  /** The SHA-256 of the token, 64 hexadecimal digits. Either this or `token`. */
  sha256?: string;
  /** Whom the token stands for: 1 to 256 bytes, no control characters. Two tokens may name the same user. */
  user: string;
}

/** The policy as stated. `origins` and `auth` have no default: a server does not start without them. */
export interface PolicyOptions {
  /**
   * Where to listen: `host:port` (port 0: any free one; a name binds every address it resolves to), `unix:PATH`, or
   * `fd:N`, an inherited listening socket. Default `127.0.0.1:8080`.
   */
  listen?: string | undefined;
  /** Permission bits of the socket file of `unix:PATH`, as text: `0660`. Default: what the umask leaves. */
  unixMode?: string | undefined;
  /** Several processes may listen on the port, and the kernel spreads connections over them (Linux). Default false. */
  reusePort?: boolean | undefined;
  /** I/O shards, one thread each; 0 means one per core. Default 0, at most 255. */
  threads?: number | undefined;
  /** The exact request paths that upgrade; others answer 404. Default: every path. */
  paths?: string[] | undefined;
  /** **Required.** Origins that may connect: `scheme://host[:port]`, `https://*.example.com`, `null`. */
  origins?: string[] | undefined;
  /** Any page on the web may connect with the visitor's cookies. Default false. */
  dangerouslyAllowAnyOrigin?: boolean | undefined;
  /** A handshake without an `Origin` header, as non-browser clients send it. Default `deny`. */
  missingOrigin?: "deny" | "allow" | undefined;
  /** Allow-list for the `Host` header, against DNS rebinding. Default: any. */
  hosts?: string[] | undefined;
  /** **Required.** Who is asked before the 101. */
  auth: "callback" | "none" | { tokens: TokenEntry[] } | { jwt: JwtOptions };
  /** Where a token is looked for, in this order. Default `bearer`, `header:x-auth-token`. */
  tokenSources?: string[] | undefined;
  /** How long the application may take to answer; then 503. Default 5000. */
  authTimeoutMs?: number | undefined;
  /**
   * Handshakes that may wait for the application at once, and requests that it has not let go; beyond it 503, for
   * whoever holds most of them. Default 1024.
   */
  maxPendingAuth?: number | undefined;
  /** Subprotocols the server speaks, best first. Default: none. */
  subprotocols?: string[] | undefined;
  /** What a message is. Default `json`. */
  protocol?: "json" | "raw" | undefined;
  /** The events of the `json` protocol; an event that is not listed is a violation. */
  events?: Record<string, EventOptions> | undefined;
  /** Bounds on the JSON of a message. */
  jsonLimits?: JsonLimits | undefined;
  /** The leaky bucket of messages and bytes; `null` disables it. */
  rateLimit?: RateLimit | null | undefined;
  /** Pings and pongs of the peer; `null` disables it. */
  controlRateLimit?: ControlRateLimit | null | undefined;
  /** Handshakes per address, IPv6 per /64, and per /56 and /48 with 4 and 16 times as much; `null` disables it. */
  handshakesPerIp?: HandshakeRate | null | undefined;
  /** Connections of the server; then 503. Default 100000. */
  maxConnections?: number | undefined;
  /** Connections of one address (IPv6: one /64); then 429. Default 256. */
  maxConnectionsPerIp?: number | undefined;
  /** Connections of one user; then 429. Default 64. */
  maxConnectionsPerUser?: number | undefined;
  /** A message's payload; refused from the frame header that crosses it. Default 65536. */
  maxMessageBytes?: number | undefined;
  /** Frames of one message, empty ones counted. Default 1024. */
  maxFragments?: number | undefined;
  /** A started message must end within this. Default 30000. */
  messageTimeoutMs?: number | undefined;
  /** Request line and headers. Default 16384; accepted 1024 to 262144. */
  maxHeadBytes?: number | undefined;
  /** From TCP accept to the 101: TLS, head and authentication together. Default 5000. */
  handshakeTimeoutMs?: number | undefined;
  /** How often the server pings; 0 turns it off. Default 20000. */
  pingIntervalMs?: number | undefined;
  /** Nothing received for this long: the peer is dead; 0 turns it off. Default 45000. */
  idleTimeoutMs?: number | undefined;
  /** The closing handshake; then the socket is dropped. Default 2000. */
  closeTimeoutMs?: number | undefined;
  /**
   * The close code of connections that a drain closes: 1012, or 1001 for old clients that read 1012 as an error.
   * Default 1012.
   */
  drainCloseCode?: number | undefined;
  /** Unsent bytes of one connection; beyond it `slow_consumer`. Default 1048576. */
  maxOutboxBytes?: number | undefined;
  /** Events the application has not taken yet; beyond it shards stop reading. Default 67108864. */
  maxInboxBytes?: number | undefined;
  /** TLS by rustls. Default: none. */
  tls?: TlsOptions | undefined;
  /** Listen in plaintext on a public address without a proxy. Default false. */
  dangerouslyAllowPlaintext?: boolean | undefined;
  /** Addresses and CIDRs whose `Forwarded` and `X-Forwarded-For` are believed. Default: none. */
  trustedProxies?: string[] | undefined;
  /** PROXY protocol v1 or v2 is required on every connection, from `trustedProxies` only. Default false. */
  proxyProtocol?: boolean | undefined;
  /** `report` tries message rules on live traffic without acting on them. Default `enforce`. */
  onViolation?: "enforce" | "report" | undefined;
  /** A `Server` header. Default: none. */
  serverHeader?: string | undefined;
}
