//! The policy in force: options with their ranges checked, contradictions refused and lists compiled.
//!
//! Built once at start and never changed; every connection holds a reference to it.

use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::options::{Auth, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit, TlsOptions};
use super::{ConfigError, ConfigErrorKind};
use crate::auth::{Authenticator, JwtVerifier, StaticTokens, TokenSources};
use crate::bucket::Rate;
use crate::client_ip::TrustedProxies;
use crate::contract::Contract;
use crate::host_header::HostPolicy;
use crate::origin::OriginPolicy;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; a name is resolved when the server starts.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// 0: any free port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Parses `host:port`, `[v6]:port` or `unix:PATH`.
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::invalid("listen", format!("must be host:port or unix:PATH, got {text:?}"));
        if let Some(path) = text.strip_prefix("unix:") {
            // Control characters would break the policy's one line in the log.
            let unusable = path.is_empty() || path.chars().any(char::is_control);
            return if unusable { Err(invalid()) } else { Ok(Listen::Unix(path.into())) };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::Tcp { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        if host.is_empty() || host.chars().any(char::is_control) || host.contains([':', '[', ']', '/']) {
            return Err(invalid());
        }
        Ok(Listen::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| invalid())? })
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Listen::Unix(_) => true,
            Listen::Tcp { host, .. } => host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Listen::Tcp { host, port } => write!(f, "{host}:{port}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The compiled `rate_limit`.
#[derive(Clone, Debug)]
pub struct RateRules {
    /// Cost units.
    pub messages: Rate,
    /// Payload bytes.
    pub bytes: Option<Rate>,
    /// Messages of one key that may wait.
    pub queue: u32,
    /// Payload bytes of one connection that may wait: `max_message_bytes × 4`.
    pub max_delayed_bytes: usize,
    /// Who shares a bucket.
    pub key: RateKeyKind,
}

/// The policy in force.
#[derive(Debug)]
#[expect(missing_docs, reason = "each field is the option of the same name; `Options` documents it")]
pub struct Policy {
    pub listen: Listen,
    pub threads: usize,
    pub paths: Option<Box<[String]>>,
    pub origins: OriginPolicy,
    pub missing_origin: MissingOrigin,
    pub hosts: HostPolicy,
    pub authenticator: Authenticator,
    pub token_sources: TokenSources,
    pub auth_timeout_ms: u64,
    pub max_pending_auth: usize,
    pub subprotocols: Box<[String]>,
    pub protocol: Protocol,
    pub contract: Contract,
    pub rate_limit: Option<RateRules>,
    pub control_rate_limit: Option<Rate>,
    pub handshakes_per_ip: Option<Rate>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_connections_per_user: usize,
    pub max_message_bytes: usize,
    pub max_fragments: u32,
    pub message_timeout_ms: u64,
    pub max_head_bytes: usize,
    pub handshake_timeout_ms: u64,
    pub ping_interval_ms: u64,
    pub idle_timeout_ms: u64,
    pub close_timeout_ms: u64,
    pub max_outbox_bytes: usize,
    pub max_inbox_bytes: usize,
    pub tls: Option<TlsOptions>,
    pub trusted_proxies: TrustedProxies,
    pub proxy_protocol: bool,
    pub on_violation: OnViolation,
    pub server_header: Option<String>,
    /// Not an option: whether plain text may leave this machine, by `trusted_proxies` or an opt-out.
    pub plaintext_allowed: bool,
    pub dangerously_allow_plaintext: bool,
}

/// The longest duration accepted: ten years.
const MAX_MS: u64 = 315_360_000_000;

impl Policy {
    /// Checks and compiles `options`.
    pub fn new(options: Options) -> Result<Self, ConfigError> {
        check_ranges(&options)?;
        check_contradictions(&options)?;
        let listen = Listen::parse(&options.listen)?;
        let trusted_proxies = TrustedProxies::new(&options.trusted_proxies)?;
        check_plaintext(&listen, &options, &trusted_proxies)?;
        Ok(Policy {
            plaintext_allowed: plaintext_allowed(&options, &trusted_proxies),
            dangerously_allow_plaintext: options.dangerously_allow_plaintext,
            listen,
            threads: shards(options.threads),
            origins: origins(&options)?,
            missing_origin: options.missing_origin,
            hosts: options.hosts.as_deref().map_or_else(|| Ok(HostPolicy::any()), HostPolicy::new)?,
            authenticator: authenticator(options.auth)?,
            token_sources: options
                .token_sources
                .as_deref()
                .map_or_else(|| Ok(TokenSources::default()), TokenSources::parse)?,
            auth_timeout_ms: options.auth_timeout_ms,
            max_pending_auth: options.max_pending_auth,
            paths: paths(options.paths)?,
            subprotocols: subprotocols(options.subprotocols)?,
            protocol: options.protocol,
            contract: Contract::compile(&options.events, options.json_limits)?,
            rate_limit: options.rate_limit.map(|rate| rate_rules(&rate, options.max_message_bytes)).transpose()?,
            control_rate_limit: options
                .control_rate_limit
                .map(|limit| rate("control_rate_limit", limit.per_second, limit.burst))
                .transpose()?,
            handshakes_per_ip: options
                .handshakes_per_ip
                .map(|limit| rate("handshakes_per_ip", limit.per_second, limit.burst))
                .transpose()?,
            max_connections: options.max_connections,
            max_connections_per_ip: options.max_connections_per_ip,
            max_connections_per_user: options.max_connections_per_user,
            max_message_bytes: options.max_message_bytes,
            max_fragments: options.max_fragments,
            message_timeout_ms: options.message_timeout_ms,
            max_head_bytes: options.max_head_bytes,
            handshake_timeout_ms: options.handshake_timeout_ms,
            ping_interval_ms: options.ping_interval_ms,
            idle_timeout_ms: options.idle_timeout_ms,
            close_timeout_ms: options.close_timeout_ms,
            max_outbox_bytes: options.max_outbox_bytes,
            max_inbox_bytes: options.max_inbox_bytes,
            tls: options.tls,
            trusted_proxies,
            proxy_protocol: options.proxy_protocol,
            on_violation: options.on_violation,
            server_header: server_header(options.server_header)?,
        })
    }

    /// Whether message rules only report (`on_violation: "report"`).
    pub fn report_only(&self) -> bool {
        self.on_violation == OnViolation::Report
    }
}

impl fmt::Display for Policy {
    /// The one line printed at start. It names every opt-out; it holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auth = match &self.authenticator {
            Authenticator::None => "none",
            Authenticator::Tokens(_) => "tokens",
            Authenticator::Jwt(_) => "jwt",
            Authenticator::Callback => "callback",
        };
        write!(
            f,
            "listen={} tls={} origins={} missing_origin={} hosts={} auth={auth} protocol={} on_violation={}",
            self.listen,
            if self.tls.is_some() { "on" } else { "off" },
            self.origins.describe(),
            if self.missing_origin == MissingOrigin::Allow { "allow" } else { "deny" },
            self.hosts.describe(),
            if self.protocol == Protocol::Json { "json" } else { "raw" },
            if self.report_only() { "report" } else { "enforce" },
        )?;
        let limited = |on: bool| if on { "on" } else { "off" };
        write!(
            f,
            " rate_limit={} control_rate_limit={} handshakes_per_ip={} max_message_bytes={} max_connections={} \
             trusted_proxies={} proxy_protocol={} threads={}",
            limited(self.rate_limit.is_some()),
            limited(self.control_rate_limit.is_some()),
            limited(self.handshakes_per_ip.is_some()),
            self.max_message_bytes,
            self.max_connections,
            self.trusted_proxies.describe(),
            limited(self.proxy_protocol),
            self.threads,
        )
    }
}

/// Every plain number with its accepted range: name, value, least, most.
fn check_ranges(options: &Options) -> Result<(), ConfigError> {
    let table: [(&str, u64, u64, u64); 19] = [
        ("threads", options.threads as u64, 0, 255),
        ("auth_timeout_ms", options.auth_timeout_ms, 1, MAX_MS),
        ("max_pending_auth", options.max_pending_auth as u64, 1, 1 << 24),
        ("max_connections", options.max_connections as u64, 1, 1 << 24),
        ("max_connections_per_ip", options.max_connections_per_ip as u64, 1, 1 << 24),
        ("max_connections_per_user", options.max_connections_per_user as u64, 1, 1 << 24),
        ("max_message_bytes", options.max_message_bytes as u64, 1, 1 << 30),
        ("max_fragments", u64::from(options.max_fragments), 1, 1 << 24),
        ("message_timeout_ms", options.message_timeout_ms, 1, MAX_MS),
        ("max_head_bytes", options.max_head_bytes as u64, 1024, 262_144),
        ("handshake_timeout_ms", options.handshake_timeout_ms, 1, MAX_MS),
        ("ping_interval_ms", options.ping_interval_ms, 0, MAX_MS),
        ("idle_timeout_ms", options.idle_timeout_ms, 0, MAX_MS),
        ("close_timeout_ms", options.close_timeout_ms, 1, MAX_MS),
        ("max_outbox_bytes", options.max_outbox_bytes as u64, 1, 1 << 40),
        ("max_inbox_bytes", options.max_inbox_bytes as u64, 1, 1 << 40),
        ("subprotocols", options.subprotocols.len() as u64, 0, 64),
        ("trusted_proxies", options.trusted_proxies.len() as u64, 0, 1024),
        ("events", options.events.len() as u64, 0, 65_535),
    ];
    for (option, value, least, most) in table {
        if !(least..=most).contains(&value) {
            return Err(ConfigError::invalid(option, format!("must be from {least} to {most}, got {value}")));
        }
    }
    Ok(())
}

fn check_contradictions(options: &Options) -> Result<(), ConfigError> {
    if options.dangerously_allow_any_origin && options.origins.is_some() {
        return Err(ConfigError::contradiction(
            "dangerously_allow_any_origin",
            "any origin is allowed, yet `origins` is given too; give one of them",
        ));
    }
    if options.proxy_protocol && options.trusted_proxies.is_empty() {
        return Err(ConfigError::contradiction(
            "proxy_protocol",
            "is accepted from `trusted_proxies` only, and none is given; list the proxy's addresses",
        ));
    }
    if options.protocol == Protocol::Raw && !options.events.is_empty() {
        return Err(ConfigError::contradiction(
            "events",
            "are of the `json` protocol, yet `protocol` is \"raw\"; drop one of them",
        ));
    }
    if let Some(rate) = &options.rate_limit
        && rate.queue == 0
        && let Some((name, event)) = options.events.iter().find(|(_, event)| f64::from(event.cost) > rate.burst)
    {
        return Err(ConfigError::contradiction(
            format!("events.{name}.cost"),
            format!("{} can never pass: rate_limit.burst is {} and rate_limit.queue is 0", event.cost, rate.burst),
        ));
    }
    Ok(())
}

/// Whether plain text may leave this machine.
fn plaintext_allowed(options: &Options, trusted: &TrustedProxies) -> bool {
    options.dangerously_allow_plaintext || !trusted.is_empty() && !trusted.covers_everyone()
}

fn check_plaintext(listen: &Listen, options: &Options, trusted: &TrustedProxies) -> Result<(), ConfigError> {
    if listen.is_local() || options.tls.is_some() || options.dangerously_allow_plaintext {
        return Ok(());
    }
    if trusted.covers_everyone() {
        return Err(ConfigError::contradiction(
            "trusted_proxies",
            format!(
                "covers every address, so that anybody may connect in plain text to {listen}, which is not loopback: \
                 list the proxies' own addresses, or give `tls`, or `dangerously_allow_plaintext`: true"
            ),
        ));
    }
    if plaintext_allowed(options, trusted) {
        return Ok(());
    }
    Err(ConfigError::missing(
        "tls",
        format!(
            "is required to listen on {listen}, which is not loopback: give `tls`, or `trusted_proxies` when a proxy \
             ends TLS, or `dangerously_allow_plaintext`: true"
        ),
    ))
}

fn shards(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(255);
    if threads == 0 { cores() } else { threads }
}

fn origins(options: &Options) -> Result<OriginPolicy, ConfigError> {
    match &options.origins {
        _ if options.dangerously_allow_any_origin => Ok(OriginPolicy::any()),
        Some(entries) => OriginPolicy::new(entries),
        None => Err(ConfigError::missing(
            "origins",
            "is required: list the origins that may connect (\"https://app.example.com\"), or set \
             `dangerously_allow_any_origin`: true",
        )),
    }
}

fn authenticator(auth: Option<Auth>) -> Result<Authenticator, ConfigError> {
    match auth {
        Some(Auth::Callback) => Ok(Authenticator::Callback),
        Some(Auth::None) => Ok(Authenticator::None),
        Some(Auth::Tokens(entries)) => Ok(Authenticator::Tokens(StaticTokens::new(entries)?)),
        Some(Auth::Jwt(options)) => Ok(Authenticator::Jwt(JwtVerifier::new(*options)?)),
        None => Err(ConfigError::missing(
            "auth",
            "is required: \"callback\", {\"tokens\": […]}, {\"jwt\": {…}}, or \"none\" when every peer may connect",
        )),
    }
}

fn paths(paths: Option<Vec<String>>) -> Result<Option<Box<[String]>>, ConfigError> {
    let Some(paths) = paths else { return Ok(None) };
    if paths.is_empty() {
        return Err(ConfigError::invalid(
            "paths",
            "lists no path, so nothing could connect; leave it out for any path",
        ));
    }
    for (index, path) in paths.iter().enumerate() {
        let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        if !plain {
            return Err(ConfigError::invalid(
                format!("paths[{index}]"),
                format!("must start with / and hold no query, fragment or space, got {path:?}"),
            ));
        }
    }
    Ok(Some(paths.into()))
}

/// Whether `text` is an RFC 9110 token, as subprotocol and header names are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn subprotocols(names: Vec<String>) -> Result<Box<[String]>, ConfigError> {
    for (index, name) in names.iter().enumerate() {
        if !is_token(name) {
            return Err(ConfigError::invalid(
                format!("subprotocols[{index}]"),
                format!("must be a token of letters, digits and !#$%&'*+-.^_`|~, got {name:?}"),
            ));
        }
        if names[..index].contains(name) {
            return Err(ConfigError::invalid(format!("subprotocols[{index}]"), format!("{name:?} is listed twice")));
        }
    }
    Ok(names.into())
}

fn server_header(value: Option<String>) -> Result<Option<String>, ConfigError> {
    match value {
        Some(text) if text.is_empty() || text.len() > 256 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Err(ConfigError::invalid("server_header", "must be 1 to 256 printable ASCII characters"))
        }
        other => Ok(other),
    }
}

/// A positive rate whose burst admits at least one unit.
fn rate(option: &str, per_second: f64, burst: f64) -> Result<Rate, ConfigError> {
    check_number(option, "per_second", per_second, 1e-6)?;
    check_number(option, "burst", burst, 1.0)?;
    Ok(Rate::new(per_second, burst))
}

fn check_number(option: &str, field: &str, value: f64, least: f64) -> Result<(), ConfigError> {
    if (least..=1e12).contains(&value) {
        return Ok(());
    }
    Err(ConfigError {
        kind: ConfigErrorKind::InvalidOption,
        option: format!("{option}.{field}"),
        message: format!("must be a number from {least} to 1e12, got {value}"),
    })
}

fn rate_rules(limit: &RateLimit, max_message_bytes: usize) -> Result<RateRules, ConfigError> {
    let messages = rate("rate_limit", limit.per_second, limit.burst)?;
    let bytes = match limit.bytes_per_second {
        Some(per_second) => {
            check_number("rate_limit", "bytes_per_second", per_second, 1.0)?;
            Some(Rate::new(per_second, per_second.max(max_message_bytes as f64)))
        }
        None => None,
    };
    Ok(RateRules {
        messages,
        bytes,
        queue: limit.queue,
        max_delayed_bytes: max_message_bytes.saturating_mul(4),
        key: limit.key,
    })
}
