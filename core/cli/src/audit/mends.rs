//! How to mend a finding, in each library. One text for all checks of a kind.

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Origin,
    Host,
    Credential,
    Head,
    Framing,
    Lengths,
    Fragments,
    Size,
    Compression,
    Rate,
    Connections,
    Waiting,
    Banner,
    Tls,
    Alive,
}

/// The libraries that are spoken of.
pub(crate) const LIBRARIES: [&str; 6] = ["ws", "uWebSockets", "python-websockets", "uvicorn", "Socket.IO", "wsguard"];

/// An update, where there is no option: the rule is the library's own.
const FRAMING: [&str; 6] = [
    "update: it refuses these by itself; do not set `skipUTF8Validation`",
    "update; see what it documents: not every form is refused",
    "update: it refuses these by itself",
    "`--ws websockets-sansio`, `websockets` or `wsproto`, updated: each refuses these by itself",
    "update engine.io and its ws: they refuse these by themselves",
    "nothing to state: it refuses these always",
];

const NO_OPTION: &str = "it has no option for this: ask its authors";

const PROXY: &str =
    "in the proxy in front (nginx: `limit_req`, `limit_conn`, `client_header_timeout`), or in code of your own";

impl Topic {
    /// One text per library, in the order of [`LIBRARIES`].
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(crate) fn mends(self) -> [&'static str; 6] {
        match self {
            Self::Origin => [
                "`noServer: true`, and compare `request.headers.origin` with a list in the `upgrade` event, before `handleUpgrade`",
                "compare `req.getHeader('origin')` with a list in the `upgrade` handler, and answer 403 otherwise",
                "`serve(…, origins=[\"https://app.example\"])`; leave `None` out of the list",
                "compare `scope[\"headers\"]`' `origin` in a middleware, and send `websocket.close` before `websocket.accept`",
                "`allowRequest: (req, done) => done(null, ORIGINS.has(req.headers.origin))`: `cors` does not apply to WebSocket",
                "`origins: [\"https://app.example\"]`, and `missing_origin: \"deny\"` (the default)",
            ],
            Self::Host => [
                "compare `request.headers.host` with a list in the `upgrade` event",
                "compare `req.getHeader('host')` with a list in the `upgrade` handler",
                "compare `request.headers[\"Host\"]` in `process_request`, and return a 421",
                "Starlette's `TrustedHostMiddleware(allowed_hosts=[…])`",
                "compare `req.headers.host` in `allowRequest`",
                "`hosts: [\"app.example\"]`",
            ],
            Self::Credential => [
                "verify the credential in the `upgrade` event, and answer 401 before `handleUpgrade`",
                "verify the credential in the `upgrade` handler, and answer 401 instead of `res.upgrade`",
                "verify the credential in `process_request`, and return `connection.respond(HTTPStatus.UNAUTHORIZED, …)`",
                "verify the credential before `websocket.accept`; close or answer 401 (the extension websocket.http.response) otherwise",
                "verify the credential in `allowRequest`; `io.use` runs only after the 101",
                "`auth: {\"tokens\": […]}` or `{\"jwt\": {…}}`, with `token_sources` other than `query:NAME`",
            ],
            Self::Head => [
                "`http.createServer({ maxHeaderSize: 16384 })`; in the `upgrade` event refuse more than 100 headers (`server.maxHeadersCount` drops what is more, and refuses nobody), `content-length` and `transfer-encoding`",
                "`UWS_HTTP_MAX_HEADERS_SIZE`; refuse a body in the `upgrade` handler",
                "update; the environment variables `WEBSOCKETS_MAX_LINE_LENGTH` and `WEBSOCKETS_MAX_NUM_HEADERS`",
                "`--http h11 --h11-max-incomplete-event-size 16384`, or a proxy in front",
                "`http.createServer({ maxHeaderSize: 16384 })`; in `allowRequest` refuse more than 100 headers (`server.maxHeadersCount` drops what is more, and refuses nobody)",
                "nothing to state: at most 100 headers, `max_head_bytes: 16384`, ambiguous heads are 400",
            ],
            Self::Framing => FRAMING,
            Self::Lengths => {
                [NO_OPTION, NO_OPTION, NO_OPTION, NO_OPTION, NO_OPTION, "nothing to state: it refuses these always"]
            }
            Self::Fragments => [
                "`maxFragments: 1024`: there since 8.21, with 16384 as the default",
                "it has no option for this: `maxPayloadLength` bounds the bytes alone",
                "the asyncio server has a limit: `WEBSOCKETS_MAX_FRAGMENTS=1024` in the environment, 4096 without it",
                "it has no option for this: `--ws-max-size` bounds the bytes alone",
                "update ws under engine.io",
                "`max_fragments: 1024` (the default)",
            ],
            Self::Size => [
                "`maxPayload: 65536`: the default is 100 MiB",
                "`maxPayloadLength: 64 * 1024`",
                "`serve(…, max_size=65536)`: the default is 1 MiB",
                "`--ws-max-size 65536`: the default is 16 MiB",
                "`maxHttpBufferSize: 65536`: the default is 1 MB",
                "`max_message_bytes: 65536` (the default)",
            ],
            Self::Compression => [
                "`perMessageDeflate: false`, or `maxPayload`, which counts inflated bytes",
                "`compression: DISABLED`, or `maxPayloadLength`",
                "`compression=None`, or `max_size`, which counts inflated bytes",
                "`--ws-per-message-deflate false`, or `--ws-max-size`",
                "`perMessageDeflate: false` (the default), or `maxHttpBufferSize`",
                "`compression: null` (the default), or `max_message_bytes`, which counts inflated bytes",
            ],
            Self::Rate => [
                "count messages per user in `message` and pings in `ping` (rate-limiter-flexible), and close with 1008",
                "count messages per user in `message` and pings in `ping`, and `ws.end(1008)`",
                "count messages per user in the handler, and `close(1008)`; pings are answered before it sees them",
                "count messages per user where `websocket.receive` is read, and close with 1008",
                "count events per user in `socket.use`, and `socket.disconnect(true)`",
                "`rate_limit` and `control_rate_limit` (both on by default)",
            ],
            Self::Connections => [
                PROXY,
                PROXY,
                PROXY,
                PROXY,
                PROXY,
                "`handshakes_per_ip`, `max_connections_per_ip` (both on by default)",
            ],
            Self::Waiting => [
                "`server.headersTimeout`, `server.requestTimeout`, `connectionsCheckingInterval`; ping every 30 s and `terminate()` who does not answer",
                "`idleTimeout`, `sendPingsAutomatically`; a proxy in front for handshakes",
                "`open_timeout`, `ping_interval`, `ping_timeout`: all on by default",
                "`--ws-ping-interval`, `--ws-ping-timeout`; a proxy in front for handshakes",
                "`pingInterval`, `pingTimeout`, `connectTimeout`; `server.headersTimeout`",
                "`handshake_timeout_ms`, `message_timeout_ms`, `idle_timeout_ms` (all on by default); where the HTTP server of Node reads the request, what is said of ws counts for handshakes; under uvicorn, `--http wsguard.uvicorn:HttpProtocol`",
            ],
            Self::Banner => [
                "remove the header in the proxy, or `app.disable('x-powered-by')` with Express",
                "remove the header in the proxy",
                "`serve(…, server_header=None)`",
                "`--no-server-header`",
                "remove the header in the proxy, or `app.disable('x-powered-by')` with Express",
                "leave `server_header` out (the default)",
            ],
            Self::Tls => [
                "`https.createServer({ cert, key, minVersion: 'TLSv1.2' })`, or a proxy that ends TLS",
                "`SSLApp({ cert_file_name, key_file_name })`, or a proxy that ends TLS",
                "`serve(…, ssl=context)` with `context.minimum_version = TLSVersion.TLSv1_2`, or a proxy that ends TLS",
                "`--ssl-certfile`, `--ssl-keyfile`, or a proxy that ends TLS",
                "`https.createServer({ cert, key, minVersion: 'TLSv1.2' })`, or a proxy that ends TLS",
                "`tls: {\"cert\": …, \"key\": …}`: 1.2 and 1.3 alone; renewed files are read by a reload",
            ],
            Self::Alive => [
                "look at its log: an error that no handler catches (`error` of each connection, JSON.parse) ends the process",
                "look at its log; a handler that throws ends the process",
                "look at its log; an exception ends one connection, memory ends the process",
                "look at its log; run it under a supervisor",
                "look at its log: an error that no handler catches ends the process",
                "that would be a fault of ours: please report it (SECURITY.md)",
            ],
        }
    }
}
