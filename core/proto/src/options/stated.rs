//! **The table of options**: every name, type, default, range, meaning and scope, once.
//!
//! A row is `name: Type = default, [what is accepted] Flags, "what leaving it out means";`. The structures, their
//! defaults, the reader, the range checks, the words of errors, and the tables of README and of every language come from
//! here (CONTRIBUTING.md says how to add a row). What several options can get wrong together is the policy's to find.
//!
//! `Process`: an option of the process; `Route`: about a handshake or a message, so that paths could differ in it. `Fixed`:
//! decided once, at the start. `AtOnce`: its object makes no sense without it. `Secret`: never shown.

use std::collections::BTreeMap;

use serde_json::Value;

use super::RouteOptions;
use super::field::{Field, all_there, json_object, members, shape_of};
use super::table::{Flag, OptionInfo, Section, Shape};
use super::words::{At, Fault};
use crate::config_error::ConfigError;

options! {
    /// The policy as stated. `origins` and `auth` have no default: a server does not start without them.
    Options() {
        /// The address to listen on: `host:port` (port 0: any free one; a name binds every address it resolves to),
        /// `unix:PATH`, or `fd:N`, an inherited listening socket.
        listen: String = "127.0.0.1:8080".to_owned(),
            [text r#"a string: "127.0.0.1:8080", "unix:/run/app.sock" or "fd:3""#] Process Fixed;
        /// The permission bits of the socket files of `unix:PATH` in `listen` and `admin_listen`, as text: `0660`.
        unix_mode: Option<String> = None,
            [text r#"permission bits as a string, e.g. "0660""#] Process Fixed, "what the umask leaves";
        /// Whether several processes may listen on the port, so that the kernel spreads connections over them (Linux only).
        reuse_port: bool = false, [flag] Process Fixed;
        /// The number of I/O threads; 0: one per core.
        threads: usize = 0, [whole 0..=255] Process Fixed;
        /// The request paths that upgrade; others answer 404. `{name}` stands for any one segment: `/room/{name}`.
        paths: Option<Vec<String>> = None,
            [list r#"a list, e.g. ["/chat"], or null for every path"# of text r#"a string, e.g. "/chat""#]
            Process, "every path";
        /// The paths for which other options count, and which: what a route does not state it has from the top. A path that is
        /// neither a route nor in `paths` answers 404.
        routes: BTreeMap<String, RouteOptions> = BTreeMap::new(),
            [map 1024 r#"an object from paths to options, e.g. {"/admin": {"origins": ["https://admin.example.com"]}}"#
                of route r#"an object such as {"origins": ["https://admin.example.com"]}"#]
            Process, "none";
        // THREATS H1 to H4.
        /// The origins that may connect: `https://app.example.com`, `https://*.example.com`, `http://localhost:*`,
        /// `"null"`.
        origins: Option<Vec<String>> = None,
            [list r#"a list, e.g. ["https://app.example.com"]"# of text r#"a string, e.g. "https://app.example.com""#]
            Route, "required";
        /// Permission for any page on the web to connect with the visitor's cookies, in place of `origins`.
        dangerously_allow_any_origin: bool = false, [flag] Route;
        // THREATS H6.
        /// The answer to a handshake without an `Origin` header, as non-browser clients send it: `deny` is 403.
        missing_origin: MissingOrigin = MissingOrigin::Deny, [choice MissingOrigin] Route;
        // THREATS H8.
        /// The values of the `Host` header that are served, against DNS rebinding: `name` (any port) or `name:port`.
        hosts: Option<Vec<String>> = None,
            [list r#"a list, e.g. ["app.example.com"], or null for any"# of text r#"a string, e.g. "app.example.com""#]
            Route, "any";
        /// The way of authentication before the 101: `callback` asks the application, `none` accepts every peer, `tokens`
        /// and `jwt` are checked by the server.
        auth: Option<Auth> = None,
            [ways AuthWays r#""callback", "none", {"tokens": [{"token": "…", "user": "…"}]} or {"jwt": {…}}"#
                or "callback", "none"]
            Route, "required";
        /// The places where a token is looked for, in this order: `bearer`, `header:NAME`, `cookie:NAME`, `subprotocol`,
        /// `query:NAME`.
        token_sources: Option<Vec<String>> = None,
            [list r#"a list, e.g. ["bearer", "cookie:session"]"# of text r#"a string, e.g. "bearer""#]
            Route, r#"`["bearer", "header:x-auth-token"]`"#;
        /// The time the application has to answer a handshake, in milliseconds; then 503.
        auth_timeout_ms: u64 = 5000, [whole 1..=315_360_000_000] Route;
        // THREATS A5.
        /// The number of handshakes that may wait for the application, and of requests that it has not let go; beyond it
        /// 503, for whoever holds most of them.
        max_pending_auth: usize = 1024, [whole 1..=16_777_216] Route;
        /// The subprotocols that the server speaks, best first.
        subprotocols: Vec<String> = Vec::new(),
            [list 64 r#"a list, e.g. ["chat.v1"]"# of text r#"a string, e.g. "chat.v1""#] Route, "none";
        /// The request headers that the application has with an open connection, at most 32; none that may carry a credential.
        keep_headers: Vec<String> = Vec::new(),
            [list 32 r#"a list, e.g. ["user-agent"]"# of text r#"a string, e.g. "user-agent""#] Route, "none";
        /// The cookies that the application has with an open connection, at most 32; none of `token_sources`.
        keep_cookies: Vec<String> = Vec::new(),
            [list 32 r#"a list, e.g. ["theme"]"# of text r#"a string, e.g. "theme""#] Route, "none";
        /// The form of a message: `json` has an envelope that is checked against `events`; `raw` is text and binary as they
        /// come.
        protocol: Protocol = Protocol::Json, [choice Protocol] Route Fixed;
        /// The events of the `json` protocol by name; a message of any other event is a violation.
        events: BTreeMap<String, EventOptions> = BTreeMap::new(),
            [map 65_535 r#"an object from names to events, e.g. {"say": {"schema": {"type": "string"}}}"#
                of section EventOptions r#"an object such as {"schema": {"type": "string"}, "cost": 1}"#]
            Route;
        /// The bounds on the JSON of a message.
        json_limits: JsonLimits = JsonLimits::default(),
            [section JsonLimits r#"an object such as {"max_depth": 32, "max_keys": 256}"#] Route;
        // THREATS R1 to R4, R9.
        /// The rate of messages and bytes, a leaky bucket for each user; `null` disables it.
        rate_limit: Option<RateLimit> = Some(RateLimit::default()),
            [section RateLimit r#"an object such as {"per_second": 20, "burst": 40}, or null to disable it"#] Route;
        // THREATS R6.
        /// The rate of a connection's pings and pongs; `null` disables it.
        control_rate_limit: Option<ControlRateLimit> = Some(ControlRateLimit::default()),
            [section ControlRateLimit r#"an object such as {"per_second": 10, "burst": 20}, or null to disable it"#] Route;
        // THREATS R10, A5.
        /// The rate of handshakes from one address: an IPv6 /64 counts as one, a /56 and a /48 have 4 and 16 times as much;
        /// `null` disables it.
        handshakes_per_ip: Option<HandshakeRate> = Some(HandshakeRate::default()),
            [section HandshakeRate r#"an object such as {"per_second": 10, "burst": 20}, or null to disable it"#] Route;
        /// The number of connections of the server; beyond it 503.
        max_connections: usize = 100_000, [whole 1..=16_777_216] Process;
        /// The number of connections of one address, IPv6 of one /64; beyond it 429.
        max_connections_per_ip: usize = 256, [whole 1..=16_777_216] Route;
        /// The number of connections of one user; beyond it 429.
        max_connections_per_user: usize = 64, [whole 1..=16_777_216] Route;
        // THREATS P1, P3.
        /// The largest payload of a message in bytes, fragments added up; refused from the frame header that crosses it.
        max_message_bytes: usize = 65_536, [whole 1..=1_073_741_824] Route;
        // THREATS R7.
        /// The largest number of frames of a message, empty ones counted.
        max_fragments: u32 = 1024, [whole 1..=16_777_216] Route;
        // THREATS R8.
        /// The time from a message's first frame to its last, in milliseconds.
        message_timeout_ms: u64 = 30_000, [whole 1..=315_360_000_000] Route;
        // THREATS D1 to D8.
        /// The compression of messages, by permessage-deflate (RFC 7692) without context takeover, for clients that offer it.
        /// Limits of size and rate count inflated bytes.
        compression: Option<Compression> = None,
            [section Compression r#"an object such as {"threshold_bytes": 1024, "level": 3}, or null for none"#] Route, "none";
        /// The longest life of a connection in milliseconds, whatever its token says; 0: no limit.
        max_session_ms: u64 = 0, [whole 0..=315_360_000_000] Route;
        // THREATS H9.
        /// The largest request line and headers together, in bytes; at most 100 headers.
        max_head_bytes: usize = 16_384, [whole 1024..=262_144] Route;
        // THREATS H10.
        /// The time from the TCP connection to the 101 in milliseconds: TLS, head and authentication together.
        handshake_timeout_ms: u64 = 5000, [whole 1..=315_360_000_000] Route;
        /// The time between the server's pings, in milliseconds; 0: off.
        ping_interval_ms: u64 = 20_000, [whole 0..=315_360_000_000] Route;
        // THREATS S2.
        /// The time without anything received after which a peer is dead, in milliseconds; 0: off. At least a second more
        /// than `ping_interval_ms`.
        idle_timeout_ms: u64 = 45_000, [whole 0..=315_360_000_000] Route;
        // THREATS P9.
        /// The time for the closing handshake in milliseconds; then the socket is dropped.
        close_timeout_ms: u64 = 2000, [whole 1..=315_360_000_000] Route;
        /// The close code of connections that a drain closes: 1001 is for old clients that read 1012 as an error.
        drain_close_code: u16 = 1012, [codes 1012, 1001] Process;
        // THREATS S1. Places in what waits are 32 bits long: 2 GiB, and one more message of the largest size, fit.
        /// The bytes that one connection may leave unread; beyond it `slow_consumer`.
        max_outbox_bytes: usize = 1_048_576, [whole 1..=2_147_483_648] Route;
        // THREATS S4.
        /// The bytes of events that the application has not taken yet; beyond it the server stops reading.
        max_inbox_bytes: usize = 67_108_864, [whole 1..=2_147_483_648] Process;
        /// The certificate and key of the server.
        tls: Option<TlsOptions> = None,
            [section TlsOptions r#"an object such as {"cert": "cert.pem", "key": "key.pem"}, or null for none"#]
            Process, "none";
        /// Permission to listen in plaintext on a public address without a proxy.
        dangerously_allow_plaintext: bool = false, [flag] Process;
        // THREATS H22.
        /// The addresses and CIDRs whose `Forwarded` and `X-Forwarded-For` headers are believed; `unix`: peers of a Unix
        /// socket.
        trusted_proxies: Vec<String> = Vec::new(),
            [list 1024 r#"a list, e.g. ["10.0.0.0/8"]"# of text r#"a string, e.g. "10.0.0.0/8""#] Process, "none";
        // THREATS H23.
        /// Whether every connection must begin with a PROXY header, v1 or v2, from one of `trusted_proxies`.
        proxy_protocol: bool = false, [flag] Process Fixed;
        /// The effect of message rules: `report` tries them on live traffic without acting on them.
        on_violation: OnViolation = OnViolation::Enforce, [choice OnViolation] Route;
        // THREATS H1 to H8, A1.
        /// Whether the rules for `Origin`, `Host` and credentials only report, too: for trying a policy on live traffic, with
        /// `on_violation: "report"`. Whom they would refuse is let in without a user.
        report_handshakes: bool = false, [flag] Route;
        /// The address of `/metrics` (OpenMetrics), `/healthz` and `/readyz`: `host:port` of this machine, or `unix:PATH`.
        admin_listen: Option<String> = None,
            [text r#"a string: "127.0.0.1:9464", "unix:PATH", or null for none"#] Process Fixed, "none";
        /// Permission for `admin_listen` to be an address that other machines can reach, and to be asked by any `Host`.
        dangerously_public_admin: bool = false, [flag] Process;
        /// The addresses and CIDRs that are refused: `banned`. An IPv6 address stands for its /64.
        deny_ips: Vec<String> = Vec::new(),
            [list 65_536 r#"a list, e.g. ["203.0.113.0/24"]"# of text r#"a string, e.g. "203.0.113.0/24""#]
            Process, "none";
        /// The ban of an address that breaks rules again and again.
        auto_ban: Option<AutoBan> = None,
            [section AutoBan r#"an object such as {"violations": 10, "window_ms": 60000}, or null for none"#]
            Process, "none";
        /// The nodes of a cluster, which are one server: rooms, users, bans and the limits of users are common to those with the
        /// same `name` on the same Redis or Valkey (6.2 or later).
        cluster: Option<ClusterOptions> = None,
            [section ClusterOptions r#"an object such as {"url": "redis://127.0.0.1:6379"}, or null for none"#]
            Process Fixed, "none";
        /// The `Server` header of responses.
        server_header: Option<String> = None,
            [text "a string of 1 to 256 printable ASCII characters, or null for none"] Route, "none";
    }

    /// One event of the `json` protocol.
    EventOptions(PartialEq) {
        /// The JSON Schema 2020-12 for `data`.
        schema: Option<Value> = None, [any], "any data";
        /// The number of messages that this one counts for in `rate_limit`, fractions allowed; 0: only its bytes count.
        cost: f64 = 1.0, [number 0.0..=1_000_000.0 "a number, e.g. 1"];
        /// The roles of which a connection needs one to send this event; for others it is `event_denied`.
        roles: Option<Vec<String>> = None,
            [list 64 r#"a list, e.g. ["admin"], or null for every user"#
                of text "a string of 1 to 64 bytes without spaces"], "every user";
        /// The answer to `data` that does not fit the schema: `close` closes the connection, `reply` answers with an error
        /// that names the place, and counts, logs and charges the message all the same.
        on_mismatch: OnMismatch = OnMismatch::Close, [choice OnMismatch];
    }

    /// The bounds on a message's JSON that its length does not give.
    JsonLimits(Copy, PartialEq, Eq) {
        /// The number of objects and arrays that may be open at once, the envelope among them.
        max_depth: usize = 32, [whole 1..=128];
        /// The number of keys of an object inside `data`. The envelope has four at most.
        max_keys: usize = 256, [whole 1..=65_536];
    }

    /// When and how much messages to clients are compressed.
    Compression(Copy, PartialEq, Eq) {
        /// The smallest payload that is compressed, in bytes; a message of a smaller one goes as it is.
        threshold_bytes: usize = 1024, [whole 0..=16_777_216];
        /// The effort: 1 is the fastest, 9 the smallest.
        level: u8 = 3, [whole 1..=9];
    }

    /// The message bucket and the byte bucket of one key.
    RateLimit() {
        /// The cost units that leak in a second.
        per_second: f64 = 20.0, [number 1e-6..=1e12 "a number above 0"];
        /// The cost units that pass at once.
        burst: f64 = 40.0, [number 1.0..=1e12 "a number from 1"];
        /// The messages of one key that may wait, none longer than `queue` / `per_second` seconds; what
        /// overflows closes the connection.
        queue: u32 = 20, [whole 0..=4_294_967_295];
        /// The payload bytes in a second, charged as they come; a frame header that announces too many is refused. `null`
        /// disables it.
        bytes_per_second: Option<f64> = Some(262_144.0), [number 1.0..=1e12 "a number from 1, or null to disable it"];
        /// The connections that share a bucket: those of a `user` (of an address where there is no user), those of an `ip`, or
        /// each `connection` alone.
        key: RateKeyKind = RateKeyKind::User, [choice RateKeyKind];
    }

    /// The rate of pings and pongs of one connection.
    ControlRateLimit() {
        /// The control frames that leak in a second.
        per_second: f64 = 10.0, [number 1e-6..=1e12 "a number above 0"];
        /// The control frames that pass at once; the next one is `control_flood`.
        burst: f64 = 20.0, [number 1.0..=1e12 "a number from 1"];
    }

    /// The rate of handshakes from one address.
    HandshakeRate() {
        /// The handshakes that leak in a second.
        per_second: f64 = 10.0, [number 1e-6..=1e12 "a number above 0"];
        /// The handshakes that pass at once; the next one answers 429.
        burst: f64 = 50.0, [number 1.0..=1e12 "a number from 1"];
    }

    /// When an address is banned for what it does; an IPv6 /64 counts as one.
    AutoBan(Copy, PartialEq, Eq) {
        /// The number of violations within `window_ms` that ban an address. What a foreign page can make the browser of its
        /// visitor do does not count, such as `origin_denied`.
        violations: u32 = 10, [whole 1..=1_000_000];
        /// The time in which violations are counted, in milliseconds.
        window_ms: u64 = 60_000, [whole 1..=86_400_000];
        /// The time for which the address is banned, in milliseconds.
        ban_ms: u64 = 600_000, [whole 1..=315_360_000_000];
    }

    /// Several nodes as one server, over Redis or Valkey.
    ClusterOptions() {
        /// The URL of Redis or Valkey: `redis://`, with TLS `rediss://`; `redis+sentinel://host:port,…/service` and
        /// `redis+cluster://host:port,…` likewise.
        url: String = String::new(),
            [text r#"a string such as "redis://user:password@host:6379""#] AtOnce Secret, "required";
        /// The name that the nodes of one server have in common: letters, digits, `.`, `_` and `-`.
        name: String = "default".to_owned(), [text r#"a string of 1 to 64 letters, digits, ".", "_" and "-""#];
        /// The way to go on while Redis cannot be reached: `local` serves, each node with the whole limits for itself; `closed`
        /// refuses new connections besides: `cluster_unavailable`.
        on_outage: OnOutage = OnOutage::Local, [choice OnOutage];
        /// The time after which nothing is left of a node that has died, in milliseconds.
        lease_ms: u64 = 10_000, [whole 2_000..=600_000];
        /// Whether `max_connections_per_user`, and `rate_limit` by user, count over all nodes.
        user_limits: bool = true, [flag];
    }

    /// The certificate and key of the server: PEM texts or paths of PEM files. Paths are read again by `reload_tls`.
    TlsOptions() {
        /// The certificate chain, leaf first.
        cert: String = String::new(),
            [text "a string: a PEM text, or the path of a PEM file"] AtOnce Secret, "required";
        /// The private key.
        key: String = String::new(),
            [text "a string: a PEM text, or the path of a PEM file"] AtOnce Secret, "required";
        /// The authorities for client certificates; when given, a client without one is refused.
        client_ca: Option<String> = None,
            [text "a string: a PEM text, the path of a PEM file, or null for none"] Secret, "none";
        /// The lowest TLS version that is accepted.
        min_version: TlsVersion = TlsVersion::V1_2, [choice TlsVersion];
    }

    /// One of `auth.tokens`: a token, as text or as its digest, and its user.
    TokenEntry() {
        /// The token itself: visible ASCII, at most 262144 bytes. Either this or `sha256`.
        token: Option<String> = None, [text "a string"] Secret, "none";
        /// The SHA-256 of the token in hexadecimal. Either this or `token`.
        sha256: Option<String> = None, [text "a string of 64 hexadecimal digits"] Secret, "none";
        /// The user that the token stands for, without control characters. Two tokens may name the same user.
        user: String = String::new(), [text "a string of 1 to 256 bytes"] AtOnce, "required";
        /// The roles that the token gives, for events that ask for one.
        roles: Vec<String> = Vec::new(),
            [list 64 r#"a list, e.g. ["admin"]"# of text "a string of 1 to 64 bytes without spaces"], "none";
    }

    /// The JSON Web Tokens that are accepted. They must have an `exp`.
    JwtOptions() {
        /// The algorithms that are accepted: `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`,
        /// `PS512`, `ES256`, `ES384`, `EdDSA`. Each must fit a key.
        algorithms: Vec<String> = Vec::new(),
            [list r#"a list, e.g. ["ES256"]"# of text r#"a string, e.g. "ES256""#], "required";
        /// The key: the secret for HS*, at least as long as the hash (32 bytes for HS256); a PEM text or the path of a PEM
        /// file for the others; or a JWK object. Either this or `keys`. A token's `kid` is ignored.
        key: Option<Value> = None, [any] Secret, "none";
        /// The keys by the token's `kid`, which is then required: an object from `kid` to what `key` accepts, a list of
        /// `{"kid", "key", optional "algorithm"}`, or a JWKS `{"keys": [JWK…]}`.
        keys: Option<Value> = None, [any] Secret, "none";
        /// The URL of a JWK Set to take the keys from, by the token's `kid`, instead of `key` or `keys`: `https`, or `http` on this
        /// machine. Public keys only; the set is fetched at start, in turn, and when a token names an unknown `kid`.
        jwks_url: Option<String> = None,
            [text "a string: the https URL of a JWK Set"] Secret, "none";
        /// The longest time between two fetches of `jwks_url`, in seconds. A `max-age` of the response shortens it; it is 60 at
        /// least.
        jwks_max_age_s: u64 = 600, [whole 1..=31_536_000];
        /// The time that the last set serves while `jwks_url` cannot be fetched, in seconds from the first failure; then 503.
        jwks_stale_s: u64 = 86_400, [whole 0..=31_536_000];
        /// The only authorities that `jwks_url` is believed by.
        jwks_ca: Option<String> = None,
            [text "a string: a PEM text, the path of a PEM file, or null for none"] Secret, "the system's";
        /// The values of `iss` that are accepted.
        issuer: Option<OneOrMany> = None, [one_or_many "a string or a list of strings"], "any, or none";
        /// The values of `aud` of which a token must have at least one.
        audience: Option<OneOrMany> = None, [one_or_many "a string or a list of strings"], "not looked at";
        /// The difference between clocks that `exp` and `nbf` allow for, in seconds.
        leeway_s: u64 = 30, [whole 0..=3600];
        /// The claim that names the user.
        user_claim: String = "sub".to_owned(), [text "a string: the name of a claim"];
        /// The claim that has the roles: a list of strings, or one string with spaces between them. A token without it has
        /// no role; one in which it is anything else is refused.
        roles_claim: Option<String> = None, [text "a string: the name of a claim, or null for none"], "none";
    }
}

choices! {
    /// The answer to a handshake without `Origin`.
    MissingOrigin {
        /// 403.
        Deny = "deny",
        /// Non-browser clients may connect.
        Allow = "allow",
    }

    /// The form of a message.
    Protocol {
        /// A text message with an envelope, `{"event": …, "data": …}`, checked against `events`.
        Json = "json",
        /// Text and binary messages as they come; all other protections stay.
        Raw = "raw",
    }

    /// Whether message rules (rate, contract) act or only report.
    OnViolation {
        /// Delay, discard and close.
        Enforce = "enforce",
        /// Report only.
        Report = "report",
    }

    /// The way to go on while the cluster cannot be reached.
    OnOutage {
        /// The node serves alone.
        Local = "local",
        /// New connections are refused.
        Closed = "closed",
    }

    /// The answer to data that does not fit its event's schema.
    OnMismatch {
        /// The connection is closed.
        Close = "close",
        /// An error message that names the place; the connection stays open.
        Reply = "reply",
    }

    /// The sharing of buckets.
    RateKeyKind {
        /// One bucket for all connections of a user; of an address where there is no user.
        User = "user",
        /// One bucket for all connections of an address.
        Ip = "ip",
        /// A bucket for each connection.
        Connection = "connection",
    }

    /// The lowest TLS version that is accepted.
    TlsVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
    }
}

/// The way of authentication before the 101.
#[derive(Clone, Debug)]
pub enum Auth {
    /// The application answers an `upgrade` event.
    Callback,
    /// Nobody is asked: every peer that passes the other checks is accepted, without a user.
    None,
    /// A fixed list of tokens, compared in constant time.
    Tokens(Vec<TokenEntry>),
    /// A signed JSON Web Token.
    Jwt(Box<JwtOptions>),
}

/// The ways of `auth` that have options of their own.
struct AuthWays;

impl AuthWays {
    const SECTION: &'static Section = &Section::new(
        "Auth",
        &["The ways of authentication that the server checks itself; exactly one is given."],
        &[
            OptionInfo::new(
                "tokens",
                &["The tokens that are accepted, compared in constant time."],
                shape!(list r#"a list, e.g. [{"token": "…", "user": "alice"}]"#
                    of section TokenEntry r#"an object such as {"token": "…", "user": "alice"}"#),
                false,
                || "null".to_owned(),
            ),
            OptionInfo::new(
                "jwt",
                &["The JSON Web Tokens that are accepted."],
                shape!(section JwtOptions r#"an object such as {"algorithms": ["ES256"], "key": "…"}"#),
                false,
                || "null".to_owned(),
            ),
        ],
    );
}

impl Field for Auth {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        match value {
            Value::String(way) => match way.as_str() {
                "callback" => Ok(Auth::Callback),
                "none" => Ok(Auth::None),
                _ => Err(at.refused(value, shape, Fault::Value)),
            },
            Value::Object(ways) => {
                let Some((name, way)) = ways.iter().next() else { return Err(at.refused(value, shape, Fault::Empty)) };
                let (inside, of_way) = (at.name_of(name), shape_of(AuthWays::SECTION, name));
                let auth = match name.as_str() {
                    "tokens" => Auth::Tokens(Field::read(way, of_way, inside)?),
                    "jwt" => Auth::Jwt(Box::new(Field::read(way, of_way, inside)?)),
                    _ => return Err(at.unknown(name, &AuthWays::SECTION.names())),
                };
                if ways.len() > 1 { Err(at.two_ways(shape)) } else { Ok(auth) }
            }
            _ => Err(at.refused(value, shape, Fault::Type)),
        }
    }

    fn check(&self, _: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        let shape = |name| shape_of(AuthWays::SECTION, name);
        match self {
            Auth::Callback | Auth::None => Ok(()),
            Auth::Tokens(tokens) => tokens.check(shape("tokens"), at.name_of("tokens")),
            Auth::Jwt(options) => options.check(shape("jwt"), at.name_of("jwt")),
        }
    }

    fn json(&self) -> String {
        match self {
            Auth::Callback => "\"callback\"".to_owned(),
            Auth::None => "\"none\"".to_owned(),
            Auth::Tokens(tokens) => json_object(&[("tokens", tokens.json())]),
            Auth::Jwt(options) => json_object(&[("jwt", options.json())]),
        }
    }
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOrMany {
    /// A single text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl Field for OneOrMany {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let read = match value {
            Value::String(one) => Some(OneOrMany::One(one.clone())),
            Value::Array(many) => many.iter().map(text).collect::<Option<_>>().map(OneOrMany::Many),
            _ => None,
        };
        read.ok_or_else(|| at.refused(value, shape, Fault::Form))
    }

    fn json(&self) -> String {
        match self {
            OneOrMany::One(text) => text.json(),
            OneOrMany::Many(texts) => texts.json(),
        }
    }
}
