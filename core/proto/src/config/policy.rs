//! The policy in force: options with their ranges checked, contradictions refused and lists compiled.
//!
//! Never changed once it is built: every connection holds a reference to the one that counts for it.

use core::fmt;
use std::sync::Arc;

use super::{AdminListen, ClusterPolicy, Listen};
use crate::auth::{Authenticator, JwtVerifier, StaticTokens, TokenSources};
use crate::bans::DenyList;
use crate::bucket::Rate;
use crate::client_ip::TrustedProxies;
use crate::config_error::ConfigError;
use crate::contract::Contract;
use crate::files::Files;
use crate::host_header::HostPolicy;
use crate::kept::KeptNames;
use crate::options::{
    Auth, AutoBan, Compression, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit, RouteOptions,
    TlsOptions, harmless,
};
use crate::origin::OriginPolicy;
use crate::syntax::is_token;

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
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own, or follows from some")]
#[expect(missing_docs, reason = "each field is the option of the same name; `Options` documents it")]
pub struct Policy {
    pub listen: Listen,
    pub unix_mode: Option<u32>,
    pub reuse_port: bool,
    pub threads: usize,
    pub origins: OriginPolicy,
    pub missing_origin: MissingOrigin,
    pub hosts: HostPolicy,
    pub authenticator: Arc<Authenticator>,
    pub token_sources: TokenSources,
    pub auth_timeout_ms: u64,
    pub max_pending_auth: usize,
    pub subprotocols: Box<[String]>,
    pub kept: KeptNames,
    pub protocol: Protocol,
    pub contract: Arc<Contract>,
    pub rate_limit: Option<RateRules>,
    pub control_rate_limit: Option<Rate>,
    pub handshakes_per_ip: Option<Rate>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_connections_per_user: usize,
    pub max_message_bytes: usize,
    pub max_fragments: u32,
    pub message_timeout_ms: u64,
    pub compression: Option<Compression>,
    pub max_session_ms: u64,
    pub max_head_bytes: usize,
    pub handshake_timeout_ms: u64,
    pub ping_interval_ms: u64,
    pub idle_timeout_ms: u64,
    pub close_timeout_ms: u64,
    pub drain_close_code: u16,
    pub max_outbox_bytes: usize,
    pub max_inbox_bytes: usize,
    pub tls: Option<TlsOptions>,
    pub trusted_proxies: TrustedProxies,
    pub proxy_protocol: bool,
    pub on_violation: OnViolation,
    pub report_handshakes: bool,
    pub admin_listen: Option<AdminListen>,
    pub deny_ips: DenyList,
    pub auto_ban: Option<AutoBan>,
    pub cluster: Option<ClusterPolicy>,
    pub server_header: Option<String>,
    /// Not an option: whether plain text may leave this machine, by `trusted_proxies` or an opt-out.
    pub plaintext_allowed: bool,
    pub dangerously_allow_plaintext: bool,
    /// Not an option: whose buckets these are. Routes without a `rate_limit` of their own share those of the top, "".
    pub scope: Arc<str>,
    /// Not an option: the route as it is written; "" for the top.
    pub path: Arc<str>,
    /// Not an option: what the route itself says of addresses, beside what the top has let pass.
    pub own_limits: OwnLimits,
}

/// Which limits per address a route states for itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnLimits {
    /// `handshakes_per_ip`.
    pub handshakes: bool,
    /// `max_connections_per_ip`.
    pub connections: bool,
}

/// What a policy has from the one of the top.
struct Inherited<'p> {
    path: &'p str,
    route: &'p RouteOptions,
    top: &'p Policy,
}

impl Inherited<'_> {
    /// Whether the route says nothing of these options, so that what was compiled of them counts.
    fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| !self.route.states(name))
    }
}

/// How much longer than `ping_interval_ms` a peer may be silent at least: the time its pong takes.
const PONG_MS: u64 = 1000;

impl Policy {
    /// Checks and compiles `options`, as they count for a path that is no route. Which paths there are is
    /// [`PolicySet`](super::PolicySet)'s.
    pub fn new(options: Options, files: &dyn Files) -> Result<Self, ConfigError> {
        Self::compile(options, files, None)
    }

    /// The policy of a route, over the options of the `top` and the policy that was compiled of them.
    pub(super) fn of_route(
        path: &str,
        route: &RouteOptions,
        options: &Options,
        top: &Policy,
        files: &dyn Files,
    ) -> Result<Self, ConfigError> {
        Self::compile(route.over(options), files, Some(&Inherited { path, route, top }))
    }

    fn compile(options: Options, files: &dyn Files, from: Option<&Inherited<'_>>) -> Result<Self, ConfigError> {
        options.check_ranges()?;
        check_contradictions(&options)?;
        let listen = Listen::parse(&options.listen)?;
        let admin_listen = admin_listen(&options)?;
        let unix_mode = unix_mode(&options, &listen, admin_listen.as_ref())?;
        check_reuse_port(&options, &listen)?;
        let trusted_proxies = TrustedProxies::new(&options.trusted_proxies)?;
        check_plaintext(&listen, &options, &trusted_proxies)?;
        let token_sources =
            options.token_sources.as_deref().map_or_else(|| Ok(TokenSources::default()), TokenSources::parse)?;
        Ok(Policy {
            plaintext_allowed: plaintext_allowed(&options, &trusted_proxies),
            dangerously_allow_plaintext: options.dangerously_allow_plaintext,
            listen,
            unix_mode,
            reuse_port: options.reuse_port,
            threads: options.threads,
            origins: origins(&options)?,
            missing_origin: options.missing_origin,
            hosts: options.hosts.as_deref().map_or_else(|| Ok(HostPolicy::any()), HostPolicy::new)?,
            authenticator: match from.filter(|from| from.has(&["auth"])) {
                Some(from) => Arc::clone(&from.top.authenticator),
                None => Arc::new(authenticator(options.auth, files)?),
            },
            kept: KeptNames::new(&options.keep_headers, &options.keep_cookies, &token_sources)?,
            token_sources,
            auth_timeout_ms: options.auth_timeout_ms,
            max_pending_auth: options.max_pending_auth,
            subprotocols: subprotocols(options.subprotocols)?,
            protocol: options.protocol,
            contract: match from.filter(|from| from.has(&["events", "json_limits", "protocol"])) {
                Some(from) => Arc::clone(&from.top.contract),
                None => Arc::new(Contract::compile(&options.events, options.json_limits)?),
            },
            rate_limit: options.rate_limit.map(|limit| rate_rules(&limit, options.max_message_bytes)),
            control_rate_limit: options.control_rate_limit.map(|limit| Rate::new(limit.per_second, limit.burst)),
            handshakes_per_ip: options.handshakes_per_ip.map(|limit| Rate::new(limit.per_second, limit.burst)),
            max_connections: options.max_connections,
            max_connections_per_ip: options.max_connections_per_ip,
            max_connections_per_user: options.max_connections_per_user,
            max_message_bytes: options.max_message_bytes,
            max_fragments: options.max_fragments,
            message_timeout_ms: options.message_timeout_ms,
            compression: options.compression,
            max_session_ms: options.max_session_ms,
            max_head_bytes: options.max_head_bytes,
            handshake_timeout_ms: options.handshake_timeout_ms,
            ping_interval_ms: options.ping_interval_ms,
            idle_timeout_ms: options.idle_timeout_ms,
            close_timeout_ms: options.close_timeout_ms,
            drain_close_code: options.drain_close_code,
            max_outbox_bytes: options.max_outbox_bytes,
            max_inbox_bytes: options.max_inbox_bytes,
            tls: options.tls,
            trusted_proxies,
            proxy_protocol: options.proxy_protocol,
            on_violation: options.on_violation,
            report_handshakes: options.report_handshakes,
            admin_listen,
            deny_ips: DenyList::new(&options.deny_ips)?,
            auto_ban: options.auto_ban,
            cluster: options.cluster.as_ref().map(ClusterPolicy::new).transpose()?,
            server_header: server_header(options.server_header)?,
            scope: from.filter(|from| !from.has(&["rate_limit"])).map_or_else(Arc::default, |from| from.path.into()),
            path: from.map_or_else(Arc::default, |from| from.path.into()),
            own_limits: OwnLimits {
                handshakes: from.is_some_and(|from| !from.has(&["handshakes_per_ip"])),
                connections: from.is_some_and(|from| !from.has(&["max_connections_per_ip"])),
            },
        })
    }

    /// Whether plain text may be spoken on `address`, which the server has listened on.
    ///
    /// # Errors
    /// `tls` is missing: the address is not one of this machine alone, and nothing allows plain text there.
    pub fn check_plaintext(&self, address: std::net::IpAddr) -> Result<(), ConfigError> {
        if address.to_canonical().is_loopback() || self.tls.is_some() || self.plaintext_allowed {
            return Ok(());
        }
        Err(tls_required(&format_args!("{address} (`listen`: {:?})", self.listen.to_string())))
    }

    /// Whether plain text may be spoken on an address that other machines reach.
    ///
    /// # Errors
    /// As [`check_plaintext`](Self::check_plaintext).
    pub fn check_public(&self) -> Result<(), ConfigError> {
        if self.tls.is_some() || self.plaintext_allowed { Ok(()) } else { Err(tls_required(&self.listen)) }
    }

    /// Whether `trusted_proxies` can be peers of `listen`, for a server that listens there. One whose connections come from elsewhere
    /// may get them from sockets of either kind, and what an inherited socket is shows when it is taken over.
    ///
    /// # Errors
    /// As [`check_proxies`](Self::check_proxies).
    pub fn check_listening(&self) -> Result<(), ConfigError> {
        self.listen.is_unix().map_or(Ok(()), |is_unix| self.check_proxies(is_unix))
    }

    /// Whether `trusted_proxies` can be peers of what the server listens on.
    ///
    /// # Errors
    /// `trusted_proxies` lists only peers of the other kind: nobody would be trusted, and nothing would say why.
    pub fn check_proxies(&self, is_unix: bool) -> Result<(), ConfigError> {
        let trusted = &self.trusted_proxies;
        if trusted.is_empty() || if is_unix { trusted.trusts(None) } else { trusted.has_networks() } {
            return Ok(());
        }
        let message = if is_unix {
            "lists addresses only, which no peer of a Unix socket has, so that none would be believed: list `unix`"
        } else {
            "lists `unix` only, and a TCP socket has no such peers, so that none would be believed: list addresses"
        };
        Err(ConfigError::contradiction("trusted_proxies", message))
    }

    /// Whether message rules only report (`on_violation: "report"`).
    pub fn report_only(&self) -> bool {
        self.on_violation == OnViolation::Report
    }
}

impl fmt::Display for Policy {
    /// The one line printed at start. It names every opt-out; it holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auth = match &*self.authenticator {
            Authenticator::None => "none",
            Authenticator::Tokens(_) => "tokens",
            Authenticator::Jwt(_) => "jwt",
            Authenticator::Callback => "callback",
        };
        write!(
            f,
            "listen={} tls={}{} origins={} missing_origin={} hosts={} auth={auth} protocol={} on_violation={}",
            self.listen,
            if self.tls.is_some() { "on" } else { "off" },
            if self.dangerously_allow_plaintext { " (dangerously_allow_plaintext)" } else { "" },
            self.origins.describe(),
            if self.missing_origin == MissingOrigin::Allow { "allow" } else { "deny" },
            self.hosts.describe(),
            if self.protocol == Protocol::Json { "json" } else { "raw" },
            if self.report_only() { "report" } else { "enforce" },
        )?;
        if self.report_handshakes {
            f.write_str(" (report_handshakes)")?;
        }
        if let Authenticator::Tokens(tokens) = &*self.authenticator
            && tokens.short() > 0
        {
            write!(f, " short_tokens={} (under 16 bytes: for tests only, they can be guessed)", tokens.short())?;
        }
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
        )?;
        self.admin_listen.as_ref().map_or(Ok(()), |admin| write!(f, " admin_listen={admin}"))?;
        self.cluster.as_ref().map_or(Ok(()), |cluster| write!(f, " cluster={cluster}"))
    }
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
    if options.report_handshakes && options.on_violation != OnViolation::Report {
        return Err(ConfigError::contradiction(
            "report_handshakes",
            "lets in whom the policy would refuse, to try it on live traffic, yet `on_violation` is \"enforce\"; give \
             \"report\" there too, or drop it",
        ));
    }
    check_time(options)?;
    if let Some(rate) = &options.rate_limit
        && let deepest = rate.burst + f64::from(rate.queue)
        && let Some((name, event)) = options.events.iter().find(|(_, event)| event.cost > deepest)
    {
        return Err(ConfigError::contradiction(
            format!("events.{}.cost", harmless(name)),
            format!(
                "{} can never pass: rate_limit.burst is {} and rate_limit.queue is {}",
                event.cost, rate.burst, rate.queue
            ),
        ));
    }
    Ok(())
}

/// A browser cannot ping: a page that only listens says nothing but the pongs that answer ours.
fn check_time(options: &Options) -> Result<(), ConfigError> {
    let (idle, ping) = (options.idle_timeout_ms, options.ping_interval_ms);
    if idle == 0 || (ping > 0 && idle >= ping.saturating_add(PONG_MS)) {
        return Ok(());
    }
    let message = if ping == 0 {
        format!(
            "{idle} would cut off every quiet browser, which cannot ping, as `ping_interval_ms` is 0: turn pings on, or \
             give 0 here too"
        )
    } else {
        format!(
            "{idle} must exceed `ping_interval_ms` ({ping}) by at least {PONG_MS}, or quiet browsers, which only answer \
             pings, would be cut off; 0 turns it off"
        )
    };
    Err(ConfigError::contradiction("idle_timeout_ms", message))
}

/// Whether plain text may leave this machine.
fn plaintext_allowed(options: &Options, trusted: &TrustedProxies) -> bool {
    options.dangerously_allow_plaintext || !trusted.is_empty() && !trusted.covers_everyone()
}

/// What a name resolves to, and what an inherited socket is bound to, is only known when the server listens:
/// [`Policy::check_plaintext`].
fn check_plaintext(listen: &Listen, options: &Options, trusted: &TrustedProxies) -> Result<(), ConfigError> {
    if listen.is_local() != Some(false) || options.tls.is_some() || options.dangerously_allow_plaintext {
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
    Err(tls_required(listen))
}

fn tls_required(listen: &dyn fmt::Display) -> ConfigError {
    ConfigError::missing(
        "tls",
        format!(
            "is required to listen on {listen}, which is not loopback: give `tls`, or `trusted_proxies` when a proxy \
             ends TLS, or `dangerously_allow_plaintext`: true"
        ),
    )
}

fn admin_listen(options: &Options) -> Result<Option<AdminListen>, ConfigError> {
    let parse = |text: &String| AdminListen::parse(text, options.dangerously_public_admin);
    options.admin_listen.as_ref().map(parse).transpose()
}

/// The permission bits of every socket file that the server makes. The kernel looks at the bits for writing only, and no others make sense there.
fn unix_mode(options: &Options, listen: &Listen, admin: Option<&AdminListen>) -> Result<Option<u32>, ConfigError> {
    let Some(text) = &options.unix_mode else { return Ok(None) };
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    let mode = mode.ok_or_else(|| {
        ConfigError::invalid("unix_mode", "must be permission bits as three octal digits, e.g. \"0660\"")
    })?;
    let mut listens = core::iter::once(listen).chain(admin.map(AdminListen::listen));
    if listens.any(|listen| matches!(listen, Listen::Unix(_))) {
        return Ok(Some(mode));
    }
    Err(ConfigError::contradiction(
        "unix_mode",
        "is for \"unix:PATH\" in `listen` or `admin_listen` only; drop it, or listen there",
    ))
}

fn check_reuse_port(options: &Options, listen: &Listen) -> Result<(), ConfigError> {
    if !options.reuse_port {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err(ConfigError::invalid("reuse_port", "is for Linux only; elsewhere one process listens on a port"));
    }
    match listen {
        Listen::Tcp { .. } => Ok(()),
        _ => Err(ConfigError::contradiction("reuse_port", "is for `listen`: \"host:port\" only; drop one of them")),
    }
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

fn authenticator(auth: Option<Auth>, files: &dyn Files) -> Result<Authenticator, ConfigError> {
    match auth {
        Some(Auth::Callback) => Ok(Authenticator::Callback),
        Some(Auth::None) => Ok(Authenticator::None),
        Some(Auth::Tokens(entries)) => Ok(Authenticator::Tokens(StaticTokens::new(entries)?)),
        Some(Auth::Jwt(options)) => Ok(Authenticator::Jwt(JwtVerifier::new(*options, files)?)),
        None => Err(ConfigError::missing(
            "auth",
            "is required: \"callback\", {\"tokens\": […]}, {\"jwt\": {…}}, or \"none\" when every peer may connect",
        )),
    }
}

fn subprotocols(names: Vec<String>) -> Result<Box<[String]>, ConfigError> {
    for (index, name) in names.iter().enumerate() {
        if !is_token(name) {
            return Err(ConfigError::invalid(
                format!("subprotocols[{index}]"),
                "must be a token of letters, digits and !#$%&'*+-.^_`|~",
            ));
        }
        if names[..index].contains(name) {
            return Err(ConfigError::invalid(format!("subprotocols[{index}]"), "is listed twice"));
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

fn rate_rules(limit: &RateLimit, max_message_bytes: usize) -> RateRules {
    // A second's worth, and any message that is accepted.
    let bytes = |per_second: f64| Rate::new(per_second, per_second.max(max_message_bytes as f64));
    RateRules {
        messages: Rate::new(limit.per_second, limit.burst),
        bytes: limit.bytes_per_second.map(bytes),
        queue: limit.queue,
        max_delayed_bytes: max_message_bytes.saturating_mul(4),
        key: limit.key,
    }
}
