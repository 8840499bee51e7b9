//! Decides whether the value of an `Origin` header is one that the option `origins` allows.
//!
//! It does not decide what a missing header means (`missing_origin`), nor that two of them are refused: the
//! handshake does, and hands over the one value. Origins are compared as parsed tuples of scheme, host and port
//! (RFC 6454 section 4), never as substrings.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::config_error::ConfigError;
use crate::syntax::decimal_u16;

/// Longer values are denied unread: a scheme, a host name of 253 bytes and a port fit well within.
const MAX_ORIGIN_BYTES: usize = 512;

const ACCEPTED: &str = "accepted: `scheme://host[:port]`, `https://*.example.com`, `http://localhost:*`, \
                        `moz-extension://*`, `app://.`, `file://`, `null`";

/// Serialised origins without a host: equal to themselves only, and only when they are listed.
const OPAQUE: [&str; 2] = ["null", "file://"];

/// Schemes whose hosts anybody can have, or which have none: a wildcard for every host of theirs is any origin.
const PUBLIC_SCHEMES: [&str; 10] =
    ["http", "https", "ws", "wss", "ftp", "file", "data", "blob", "filesystem", "javascript"];

/// The origins whose pages may open connections: the options `origins` and `dangerously_allow_any_origin`.
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    /// `None`: any origin.
    allowed: Option<Vec<Allowed>>,
}

/// One entry of `origins`, in canonical form: lower case, default port filled in.
#[derive(Clone, Debug)]
enum Allowed {
    /// A text without a host, compared as a whole.
    Opaque(String),
    /// Any host of a scheme that is not one of the web's, and no port.
    Scheme(String),
    /// Exactly this host; with `subdomains`: every name that ends in a dot and this host.
    Tuple { scheme: String, host: String, port: Port, subdomains: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Any port of this machine.
    Any,
    /// The explicit one, or the scheme's default; `None`: neither.
    Exactly(Option<u16>),
}

/// A parsed `scheme://host[:port]`, in the letters it came in.
struct Origin<'a> {
    scheme: &'a str,
    /// A name that `is_name` accepts, or anything in brackets.
    host: &'a str,
    /// Explicit, or the scheme's default; `None`: neither.
    port: Option<u16>,
}

impl OriginPolicy {
    /// Reads the entries of the option `origins`: exact `scheme://host[:port]`; `https://*.example.com` for any
    /// subdomain of one or more labels (not `example.com` itself); `http://localhost:*` for any port of this machine;
    /// `moz-extension://*` for any host of a scheme that is not one of the web's; `null` for opaque origins; and the
    /// texts without a host that some programs send, `file://` and `app://.`.
    ///
    /// A wildcard over a public suffix (`*.com`, `*.co.uk`, `*.github.io`: whoever likes has a name there) is an error. One
    /// over a domain with public suffixes below it (`*.amazonaws.com`, with `s3.amazonaws.com`) leaves out the names below
    /// those.
    ///
    /// The error names `origins[i]`, or `origins` for an empty list. An entry that no browser could ever send (a
    /// path, user information, `https://127.1`) is an error rather than an entry that never matches.
    pub fn new(entries: &[String]) -> Result<Self, ConfigError> {
        if entries.is_empty() {
            return Err(ConfigError::invalid("origins", format!("the list is empty and would deny all; {ACCEPTED}")));
        }
        let allowed = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                Allowed::parse(entry)
                    .map_err(|why| ConfigError::invalid(format!("origins[{index}]"), format!("{why}; {ACCEPTED}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { allowed: Some(allowed) })
    }

    /// Allows every page on the web to connect as the user who visits it: `dangerously_allow_any_origin`.
    ///
    /// Even a value that does not parse passes.
    pub fn any() -> Self {
        Self { allowed: None }
    }

    /// Whether a page of this origin may connect.
    ///
    /// `header` is the value of the one `Origin` header as received, without the white space around it. A value that
    /// does not parse is denied. Linear in the length of the value and the number of entries; does not allocate.
    pub fn allows(&self, header: &[u8]) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        if header.len() > MAX_ORIGIN_BYTES {
            return false;
        }
        let Ok(text) = str::from_utf8(header) else { return false };
        let origin = Origin::parse(text).ok();
        allowed.iter().any(|entry| match entry {
            Allowed::Opaque(name) => *name == text,
            Allowed::Scheme(scheme) => origin.as_ref().is_some_and(|origin| {
                origin.port.is_none() && !origin.host.starts_with('[') && origin.scheme.eq_ignore_ascii_case(scheme)
            }),
            Allowed::Tuple { scheme, host, port, subdomains } => origin.as_ref().is_some_and(|origin| {
                (*port == Port::Any || *port == Port::Exactly(origin.port))
                    && origin.scheme.eq_ignore_ascii_case(scheme)
                    && if *subdomains { origin.is_below(host) } else { origin.has_host(host) }
            }),
        })
    }

    /// The policy in words, for the log line at start.
    pub fn describe(&self) -> String {
        let Some(allowed) = &self.allowed else { return "any (dangerously_allow_any_origin)".to_owned() };
        allowed.iter().map(Allowed::describe).collect::<Vec<_>>().join(", ")
    }
}

impl Allowed {
    /// The error says what is wrong without repeating the entry, which might hold a password.
    fn parse(entry: &str) -> Result<Self, String> {
        if OPAQUE.contains(&entry) {
            return Ok(Allowed::Opaque(entry.to_owned()));
        }
        let (scheme, authority) = entry.split_once("://").unwrap_or(("", entry));
        let is_public = PUBLIC_SCHEMES.iter().any(|public| scheme.eq_ignore_ascii_case(public));
        if is_scheme(scheme) && !is_public {
            match authority {
                "*" => return Ok(Allowed::Scheme(scheme.to_ascii_lowercase())),
                "." => return Ok(Allowed::Opaque(entry.to_ascii_lowercase())),
                _ => {}
            }
        }
        check_authority(entry, authority)?;
        let (exact, any_port) = match entry.strip_suffix(":*") {
            Some(rest) => (rest, true),
            None => (entry, false),
        };
        let without_wildcard = exact.replacen("://*.", "://", 1);
        let subdomains = exact.len() != without_wildcard.len();
        if without_wildcard.contains('*') {
            return Err(
                "`*` stands only for the leading labels of a host, as in `https://*.example.com`, for the ports \
                        of this machine, or for the hosts of a scheme that is not one of the web's"
                    .to_owned(),
            );
        }
        let origin = Origin::parse(&without_wildcard)?;
        let host = canonical_host(origin.host)?;
        if subdomains {
            check_wildcard(&host)?;
        }
        let port = if any_port { any_port_of(&host)? } else { Port::Exactly(origin.port) };
        if any_port && !without_wildcard.ends_with(origin.host) {
            return Err("the port must be a decimal from 1 to 65535 without leading zeros, or `*`".to_owned());
        }
        Ok(Allowed::Tuple { scheme: origin.scheme.to_ascii_lowercase(), host, port, subdomains })
    }

    fn describe(&self) -> String {
        match self {
            Allowed::Opaque(name) => name.clone(),
            Allowed::Scheme(scheme) => format!("{scheme}://*"),
            Allowed::Tuple { scheme, host, port, subdomains } => {
                let wildcard = if *subdomains { "*." } else { "" };
                match port {
                    Port::Any => format!("{scheme}://{wildcard}{host}:*"),
                    Port::Exactly(Some(port)) if Some(*port) != default_port(scheme) => {
                        format!("{scheme}://{wildcard}{host}:{port}")
                    }
                    Port::Exactly(_) => format!("{scheme}://{wildcard}{host}"),
                }
            }
        }
    }
}

/// What an entry might be in place of an origin.
fn check_authority(entry: &str, authority: &str) -> Result<(), &'static str> {
    if authority == "*" || authority.starts_with("*:") {
        return Err("a wildcard for every host is not an origin: to allow any origin, say so with \
                    `dangerously_allow_any_origin`");
    }
    if !entry.is_ascii() {
        return Err("the host must be in its ASCII form (`xn--`), which is what browsers send");
    }
    if authority.contains('@') {
        return Err("an origin has no user information before the host");
    }
    if authority.contains(['/', '?', '#', '\\']) {
        return Err("an origin ends after its host or port, without a slash, path, query or fragment");
    }
    Ok(())
}

/// A wildcard stands for the names of one owner. Below a public suffix every name has an owner of its own: a page of any
/// of them would be let in.
fn check_wildcard(host: &str) -> Result<(), String> {
    if is_address(host) {
        return Err("an address has no subdomains".to_owned());
    }
    let host = host.to_ascii_lowercase();
    // `*.ck` is a rule of the list: names directly below such a host are suffixes themselves.
    let below = format!("a.{host}");
    for name in [&host, &below] {
        if psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == name.as_bytes())
        {
            return Err(format!(
                "`{host}` is a public suffix, below which anybody can have a name: name the domain that is yours, as in \
                 `*.example.{host}`"
            ));
        }
    }
    Ok(())
}

/// Whoever is on this machine may have any port of it; on another host a port may be somebody else's.
fn any_port_of(host: &str) -> Result<Port, &'static str> {
    let is_loopback = host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    if is_loopback {
        Ok(Port::Any)
    } else {
        Err("`:*` stands only for the ports of this machine: localhost, 127.0.0.1, [::1]")
    }
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (scheme, authority) = text.split_once("://").ok_or("the scheme is missing")?;
        if !is_scheme(scheme) {
            return Err("the scheme must be a letter, then letters, digits, `+`, `-` or `.`");
        }
        let host_len = if authority.starts_with('[') {
            authority.find(']').ok_or("the bracket around the IPv6 address is not closed")? + 1
        } else {
            authority.find(':').unwrap_or(authority.len())
        };
        let (host, port) = authority.split_at(host_len);
        // What is in brackets is only ever compared with canonical addresses, byte for byte: no need to parse it.
        if !host.starts_with('[') && !is_name(host) {
            return Err("the host must be labels of letters, digits, `-` or `_`, with single dots between them");
        }
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(
                decimal_u16(digits.as_bytes())
                    .filter(|port| *port != 0)
                    .ok_or("the port must be a decimal from 1 to 65535 without leading zeros")?,
            ),
            None if port.is_empty() => default_port(scheme),
            None => return Err("only a port may follow the IPv6 address"),
        };
        Ok(Self { scheme, host, port })
    }

    fn has_host(&self, host: &str) -> bool {
        // Browsers send addresses in one form; letters of another case would be another form.
        if host.starts_with('[') { self.host == host } else { self.host.eq_ignore_ascii_case(host) }
    }

    /// Whether the host is one or more labels, a dot, and `parent`, and of the same owner.
    fn is_below(&self, parent: &str) -> bool {
        let (host, parent) = (self.host.as_bytes(), parent.as_bytes());
        // No label is empty, so something that is a whole label stands before the dot.
        host.len().checked_sub(parent.len() + 1).is_some_and(|dot| {
            let (_, tail) = host.split_at(dot);
            tail.split_first().is_some_and(|(first, tail)| *first == b'.' && tail.eq_ignore_ascii_case(parent))
        }) && !self.is_of_another(parent.len())
    }

    /// Whether a public suffix is the parent or lies below it, and the host below that: anybody can have such a name, as
    /// `x.s3.amazonaws.com` in `*.amazonaws.com`. The host is known to be below the parent, of this length.
    fn is_of_another(&self, parent_len: usize) -> bool {
        // The list is in lower case.
        let mut lower = [0; MAX_ORIGIN_BYTES];
        let Some(host) = lower.get_mut(..self.host.len()) else { return true };
        host.copy_from_slice(self.host.as_bytes());
        host.make_ascii_lowercase();
        let suffix = psl::suffix(host).filter(psl::Suffix::is_known);
        suffix.is_some_and(|suffix| (parent_len..self.host.len()).contains(&suffix.as_bytes().len()))
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Labels as in host names, and `_`, which browsers let through; a trailing dot is another host, and refused.
fn is_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(443)
    } else if is("http") || is("ws") {
        Some(80)
    } else {
        None
    }
}

/// The form in which a browser sends the host of an entry.
fn canonical_host(host: &str) -> Result<String, &'static str> {
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = literal.parse().map_err(|_| "not an IPv6 address in the brackets")?;
        // The URL standard knows no dotted form: `[::ffff:1.2.3.4]` arrives as `[::ffff:102:304]`.
        return Ok(match (address.to_ipv4_mapped(), address.segments()) {
            (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
            (None, _) => format!("[{address}]"),
        });
    }
    // The URL standard reads a host that ends in a number as an IPv4 address: `127.1` arrives as `127.0.0.1`.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("a host that ends in a number must be an IPv4 address of four decimals");
    }
    Ok(host.to_ascii_lowercase())
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests;
