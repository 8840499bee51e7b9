//! The options as an application states them: all optional but two, each with its default.
//!
//! What is decided here is only the *shape*: names, types, defaults. Ranges, required options and contradictions are
//! [`Policy`](super::Policy)'s. Durations are milliseconds (`_ms`), sizes are bytes (`_bytes`).

use std::collections::BTreeMap;

use serde::Deserialize as DeriveDeserialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::shape;
use crate::auth::{JwtOptions, TokenEntry};
use crate::config_error::ConfigError;
use crate::contract::{EventOptions, JsonLimits};
use crate::unambiguous;

/// The policy as stated. `origins` and `auth` have no default: a server does not start without them.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Options {
    /// Where to listen: `host:port` (port 0: any free one; a name binds every address it resolves to), `unix:PATH`, or
    /// `fd:N`, an inherited listening socket. Default `127.0.0.1:8080`.
    pub listen: String,
    /// Permission bits of the socket file of `unix:PATH`, as text: `0660`. Default: what the umask leaves.
    pub unix_mode: Option<String>,
    /// Several processes may listen on the port, and the kernel spreads connections over them (Linux). Default false.
    pub reuse_port: bool,
    /// I/O shards, one thread each; 0 means one per core. Default 0, at most 255.
    pub threads: usize,
    /// The exact request paths that upgrade; others answer 404. Default: every path.
    pub paths: Option<Vec<String>>,
    /// **Required.** Origins that may connect: `scheme://host[:port]`, `https://*.example.com`, `null` (THREATS H1 to H4).
    pub origins: Option<Vec<String>>,
    /// Any page on the web may connect with the visitor's cookies. Default false.
    pub dangerously_allow_any_origin: bool,
    /// A handshake without an `Origin` header, as non-browser clients send it. Default `deny` (H6).
    pub missing_origin: MissingOrigin,
    /// Allow-list for the `Host` header, against DNS rebinding (H8). Default: any.
    pub hosts: Option<Vec<String>>,
    /// **Required.** Who is asked before the 101.
    pub auth: Option<Auth>,
    /// Where a token is looked for, in this order. Default `bearer`, `header:x-auth-token`.
    pub token_sources: Option<Vec<String>>,
    /// How long the application may take to answer; then 503. Default 5000.
    pub auth_timeout_ms: u64,
    /// Handshakes that may wait for the application at once, and requests that it has not let go; beyond it 503, for
    /// whoever holds most of them (A5). Default 1024.
    pub max_pending_auth: usize,
    /// Subprotocols the server speaks, best first. Default: none.
    pub subprotocols: Vec<String>,
    /// What a message is. Default `json`.
    pub protocol: Protocol,
    /// The events of the `json` protocol; an event that is not listed is a violation.
    pub events: BTreeMap<String, EventOptions>,
    /// Bounds on the JSON of a message.
    pub json_limits: JsonLimits,
    /// The leaky bucket of messages and bytes (R1 to R4, R9); `null` disables it.
    pub rate_limit: Option<RateLimit>,
    /// Pings and pongs of the peer (R6); `null` disables it.
    pub control_rate_limit: Option<ControlRateLimit>,
    /// Handshakes per address, IPv6 per /64, and per /56 and /48 with 4 and 16 times as much (R10, A5); `null` disables it.
    pub handshakes_per_ip: Option<HandshakeRate>,
    /// Connections of the server; then 503. Default 100000.
    pub max_connections: usize,
    /// Connections of one address (IPv6: one /64); then 429. Default 256.
    pub max_connections_per_ip: usize,
    /// Connections of one user; then 429. Default 64.
    pub max_connections_per_user: usize,
    /// A message's payload; refused from the frame header that crosses it (P1, P3). Default 65536.
    pub max_message_bytes: usize,
    /// Frames of one message, empty ones counted (R7). Default 1024.
    pub max_fragments: u32,
    /// A started message must end within this (R8). Default 30000.
    pub message_timeout_ms: u64,
    /// Request line and headers (H9). Default 16384; accepted 1024 to 262144.
    pub max_head_bytes: usize,
    /// From TCP accept to the 101: TLS, head and authentication together (H10). Default 5000.
    pub handshake_timeout_ms: u64,
    /// How often the server pings; 0 turns it off. Default 20000.
    pub ping_interval_ms: u64,
    /// Nothing received for this long: the peer is dead (S2); 0 turns it off. Default 45000.
    pub idle_timeout_ms: u64,
    /// The closing handshake; then the socket is dropped (P9). Default 2000.
    pub close_timeout_ms: u64,
    /// The close code of connections that a drain closes: 1012, or 1001 for old clients that read 1012 as an error.
    /// Default 1012.
    pub drain_close_code: u16,
    /// Unsent bytes of one connection; beyond it `slow_consumer` (S1). Default 1048576.
    pub max_outbox_bytes: usize,
    /// Events the application has not taken yet; beyond it shards stop reading (S4). Default 67108864.
    pub max_inbox_bytes: usize,
    /// TLS by rustls. Default: none.
    pub tls: Option<TlsOptions>,
    /// Listen in plaintext on a public address without a proxy. Default false.
    pub dangerously_allow_plaintext: bool,
    /// Addresses and CIDRs whose `Forwarded` and `X-Forwarded-For` are believed (H22). Default: none.
    pub trusted_proxies: Vec<String>,
    /// PROXY protocol v1 or v2 is required on every connection, from `trusted_proxies` only (H23). Default false.
    pub proxy_protocol: bool,
    /// `report` tries message rules on live traffic without acting on them. Default `enforce`.
    pub on_violation: OnViolation,
    /// A `Server` header. Default: none.
    pub server_header: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            unix_mode: None,
            reuse_port: false,
            threads: 0,
            paths: None,
            origins: None,
            dangerously_allow_any_origin: false,
            missing_origin: MissingOrigin::Deny,
            hosts: None,
            auth: None,
            token_sources: None,
            auth_timeout_ms: 5000,
            max_pending_auth: 1024,
            subprotocols: Vec::new(),
            protocol: Protocol::Json,
            events: BTreeMap::new(),
            json_limits: JsonLimits::default(),
            rate_limit: Some(RateLimit::default()),
            control_rate_limit: Some(ControlRateLimit::default()),
            handshakes_per_ip: Some(HandshakeRate::default()),
            max_connections: 100_000,
            max_connections_per_ip: 256,
            max_connections_per_user: 64,
            max_message_bytes: 65_536,
            max_fragments: 1024,
            message_timeout_ms: 30_000,
            max_head_bytes: 16_384,
            handshake_timeout_ms: 5000,
            ping_interval_ms: 20_000,
            idle_timeout_ms: 45_000,
            close_timeout_ms: 2000,
            drain_close_code: 1012,
            max_outbox_bytes: 1_048_576,
            max_inbox_bytes: 67_108_864,
            tls: None,
            dangerously_allow_plaintext: false,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            on_violation: OnViolation::Enforce,
            server_header: None,
        }
    }
}

impl Options {
    /// Reads options from a JSON object. An unknown option or a wrong type is an error that names it.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let reading = unambiguous::read(text.as_bytes()).map_err(|error| shape::syntax_error(&error))?;
        let options = Self::from_value(&reading.value)?;
        // At any depth: which of two counts is nobody's guess.
        reading.twice.map_or(Ok(options), |path| Err(shape::twice(path)))
    }

    /// Reads options from parsed JSON.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, ConfigError> {
        shape::read(value)
    }
}

/// What a handshake without `Origin` gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, DeriveDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingOrigin {
    /// 403.
    #[default]
    Deny,
    /// Non-browser clients may connect.
    Allow,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, DeriveDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A text frame with an envelope: `{"event": …, "data": …}`, checked against `events`.
    #[default]
    Json,
    /// Text and binary as they come; all other protections stay.
    Raw,
}

/// Whether message-level rules (rate, contract) act or only report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, DeriveDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnViolation {
    /// Delay, discard and close.
    #[default]
    Enforce,
    /// Report only.
    Report,
}

/// Who is asked before the 101.
#[derive(Clone, Debug)]
pub enum Auth {
    /// The application answers an `upgrade` event.
    Callback,
    /// Nobody: every peer that passes the other checks is accepted, without a user.
    None,
    /// A fixed list of tokens, compared in constant time.
    Tokens(Vec<TokenEntry>),
    /// A signed JSON Web Token.
    Jwt(Box<JwtOptions>),
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AuthVisitor)
    }
}

struct AuthVisitor;

impl<'de> Visitor<'de> for AuthVisitor {
    type Value = Auth;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("one way of authentication")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Auth, E> {
        match text {
            "callback" => Ok(Auth::Callback),
            "none" => Ok(Auth::None),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Auth, M::Error> {
        let auth = match map.next_key::<String>()?.as_deref() {
            Some("tokens") => Auth::Tokens(map.next_value()?),
            Some("jwt") => Auth::Jwt(Box::new(map.next_value()?)),
            Some(other) => return Err(de::Error::unknown_field(other, &["tokens", "jwt"])),
            None => return Err(de::Error::invalid_length(0, &self)),
        };
        match map.next_key::<String>()? {
            None => Ok(auth),
            Some(_) => Err(de::Error::duplicate_field("auth")),
        }
    }
}

/// The message bucket and the byte bucket of one key.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Cost units that leak in a second. Default 20.
    pub per_second: f64,
    /// Cost units that pass at once. Default 40.
    pub burst: f64,
    /// Messages of one key that may wait, none longer than `queue / per_second`; what overflows closes the connection.
    /// Default 20.
    pub queue: u32,
    /// Payload bytes in a second, charged as they come; a header that announces too many is refused. `null` disables it.
    /// Default 262144.
    pub bytes_per_second: Option<f64>,
    /// Who shares a bucket. Default `user`.
    pub key: RateKeyKind,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_second: 20.0, burst: 40.0, queue: 20, bytes_per_second: Some(262_144.0), key: RateKeyKind::User }
    }
}

/// Who shares a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, DeriveDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateKeyKind {
    /// All connections of a user; of an address where there is no user.
    #[default]
    User,
    /// All connections of an address.
    Ip,
    /// Each connection its own.
    Connection,
}

/// Pings and pongs of one connection.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlRateLimit {
    /// Control frames that leak in a second. Default 10.
    pub per_second: f64,
    /// Control frames that pass at once; the next one is `control_flood`. Default 20.
    pub burst: f64,
}

impl Default for ControlRateLimit {
    fn default() -> Self {
        Self { per_second: 10.0, burst: 20.0 }
    }
}

/// Handshakes of one address.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandshakeRate {
    /// Handshakes that leak in a second. Default 10.
    pub per_second: f64,
    /// Handshakes that pass at once; the next one answers 429. Default 50.
    pub burst: f64,
}

impl Default for HandshakeRate {
    fn default() -> Self {
        Self { per_second: 10.0, burst: 50.0 }
    }
}

/// TLS: PEM texts or paths of PEM files. Paths are read again by `reload_tls`.
#[derive(Clone, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// The certificate chain, leaf first.
    pub cert: String,
    /// The private key.
    pub key: String,
    /// Authorities for client certificates; when given, a client without one is refused.
    #[serde(default)]
    pub client_ca: Option<String>,
    /// `1.2` or `1.3`. Default `1.2`.
    #[serde(default)]
    pub min_version: TlsVersion,
}

impl core::fmt::Debug for TlsOptions {
    /// Without the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TlsOptions").field("min_version", &self.min_version).finish_non_exhaustive()
    }
}

/// The lowest TLS version accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, DeriveDeserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}
