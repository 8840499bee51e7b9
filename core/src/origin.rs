//! Decides whether the value of an `Origin` header is one that the option `origins` allows.
//!
//! It does not decide what a missing header means (`missing_origin`), nor that two of them are refused (H5): the
//! handshake does, and hands over the one value. Origins are compared as parsed tuples of scheme, host and port
//! (RFC 6454 section 4), never as substrings (THREATS H1 to H4, H7).

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::config::ConfigError;
use crate::host_header::decimal_u16;

/// Longer values are denied unread: a scheme, a host name of 253 bytes and a port fit well within.
const MAX_ORIGIN_BYTES: usize = 512;

const ACCEPTED: &str = "accepted: `scheme://host[:port]`, `https://*.example.com`, `http://localhost:*`, \
                        `moz-extension://*`, `app://.`, `file://`, `null`";

/// Serialised origins without a host: equal to themselves only, and only when they are listed (H2).
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

    /// Whether a page of this origin may connect (H1 to H4).
    ///
    /// `header` is the value of the one `Origin` header as received, without the white space around it. A value that
    /// does not parse is denied (H7). Linear in the length of the value and the number of entries; does not allocate.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(entries: &[&str]) -> OriginPolicy {
        OriginPolicy::new(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn error(entry: &str) -> ConfigError {
        OriginPolicy::new(&["https://fine.example".to_owned(), entry.to_owned()]).unwrap_err()
    }

    #[track_caller]
    fn check(entries: &[&str], allowed: &[&str], denied: &[&str]) {
        let policy = policy(entries);
        for origin in allowed {
            assert!(policy.allows(origin.as_bytes()), "{origin:?} should be allowed by {entries:?}");
        }
        for origin in denied {
            assert!(!policy.allows(origin.as_bytes()), "{origin:?} should be denied by {entries:?}");
        }
    }

    /// What a page that is not `https://app.example.com` might send, or a client that lies.
    const NOT_THE_APP: &[&str] = &[
        // H1, H2
        "https://evil.io",
        "null",
        "",
        "file://",
        "file:///",
        "about:blank",
        // H3: suffixes and prefixes
        "https://app.example.com.evil.io",
        "https://app.example.comevil.io",
        "https://app.example.com-evil.io",
        "https://evilapp.example.com",
        "https://evil.app.example.com",
        "https://evil-app.example.com",
        "https://example.com",
        "https://pp.example.com",
        "https://app.example.co",
        "https://app.example.comm",
        "https://com",
        "https://evil.io/https://app.example.com",
        "https://evil.io?https://app.example.com",
        "https://evil.io#https://app.example.com",
        // user information
        "https://app.example.com@evil.io",
        "https://app.example.com:443@evil.io",
        "https://user@app.example.com",
        "https://user:password@app.example.com",
        "https://@app.example.com",
        // dots
        "https://app.example.com.",
        "https://app.example.com..",
        "https://.app.example.com",
        "https://app..example.com",
        "https://app.example.com.:443",
        // other scheme, other port
        "http://app.example.com",
        "http://app.example.com:443",
        "wss://app.example.com",
        "ws://app.example.com:443",
        "https://app.example.com:80",
        "https://app.example.com:8443",
        "https://app.example.com:0443",
        "https://app.example.com:00443",
        "https://app.example.com:+443",
        "https://app.example.com:-443",
        "https://app.example.com: 443",
        "https://app.example.com:443 ",
        "https://app.example.com:65979",
        "https://app.example.com:4294967739",
        "https://app.example.com:18446744073709552059",
        "https://app.example.com:0",
        "https://app.example.com:",
        "https://app.example.com:443:443",
        "https://app.example.com:443a",
        "https://app.example.com:0x1bb",
        // something after
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com:443/",
        "https://app.example.com?query",
        "https://app.example.com#fragment",
        "https://app.example.com\\",
        "https://app.example.com\\.evil.io",
        "https://app.example.com;",
        "https://app.example.com,https://app.example.com",
        "https://app.example.com https://app.example.com",
        "https://evil.io https://app.example.com",
        "https://evil.io, https://app.example.com",
        // white space, control bytes
        " https://app.example.com",
        "https://app.example.com ",
        "https://app.example.com\t",
        "https://app.example .com",
        "https://app.\texample.com",
        "https://app.example.com\r\n",
        "https://app.example.com\0",
        "https://app.example.com\0.evil.io",
        // percent-encoding, other letters
        "https://app%2eexample.com",
        "https://app.example.com%00",
        "https://app.example.com%2eevil.io",
        "https://%61pp.example.com",
        "https://app.example.com\u{212a}",
        "https://app\u{3002}example.com",
        "https://\u{430}pp.example.com",
        "https://app.ex\u{ad}ample.com",
        // broken delimiters
        "https:/app.example.com",
        "https:app.example.com",
        "https:///app.example.com",
        "https:////app.example.com",
        "https:\\\\app.example.com",
        "https//app.example.com",
        "://app.example.com",
        "//app.example.com",
        "app.example.com",
        "app.example.com:443",
        "https",
        "https:",
        "https://",
        "https://:443",
        "https://:",
        "https://.",
        "https://*",
        "https://*.example.com",
        "*",
        "https ://app.example.com",
        " https://app.example.com",
        "1https://app.example.com",
        "https\n://app.example.com",
        "blob:https://app.example.com",
        "view-source:https://app.example.com",
        // IPv6 forms
        "https://[app.example.com]",
        "https://[::1]",
        "https://[",
        "https://[]",
        "https://]",
    ];

    #[test]
    fn an_exact_origin_allows_itself_and_nothing_like_it() {
        check(
            &["https://app.example.com"],
            &[
                "https://app.example.com",
                "https://app.example.com:443",
                "https://APP.Example.COM",
                "HTTPS://app.example.com",
                "HtTpS://aPP.example.com:443",
            ],
            NOT_THE_APP,
        );
    }

    #[test]
    fn default_ports_of_every_scheme_are_filled_in() {
        check(&["http://a.example"], &["http://a.example", "http://a.example:80"], &["http://a.example:443"]);
        check(&["http://a.example:80"], &["http://a.example", "http://a.example:80"], &["https://a.example"]);
        check(&["wss://a.example"], &["wss://a.example:443"], &["wss://a.example:80", "https://a.example"]);
        check(&["ws://a.example:80"], &["ws://a.example"], &["ws://a.example:443", "http://a.example"]);
        check(&["HTTPS://A.Example:443"], &["https://a.example"], &["https://a.example:444"]);
        check(
            &["http://localhost:3000"],
            &["http://localhost:3000", "http://LOCALHOST:3000"],
            &["http://localhost", "http://localhost:30000", "http://localhost:300", "http://127.0.0.1:3000"],
        );
        check(&["https://a.example:65535"], &["https://a.example:65535"], &["https://a.example:65536"]);
    }

    #[test]
    fn other_schemes_have_no_default_port() {
        check(
            &["chrome-extension://abc", "moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd", "app+x.y://host:443"],
            &[
                "chrome-extension://abc",
                "chrome-extension://ABC",
                "moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd",
                "app+x.y://host:443",
            ],
            &[
                "chrome-extension://abcd",
                "chrome-extension://abc:80",
                "chrome-extension://abc:443",
                "chrome-extension://abc/",
                "app+x.y://host",
                "https://abc",
            ],
        );
    }

    #[test]
    fn a_wildcard_stands_for_one_or_more_labels() {
        check(
            &["https://*.example.com"],
            &[
                "https://a.example.com",
                "https://a.b.example.com",
                "https://a.b.c.d.example.com:443",
                "https://A_1-x.EXAMPLE.com",
                "https://www.example.com",
                "https://example.com.example.com",
            ],
            &[
                "https://example.com",
                "https://.example.com",
                "https://..example.com",
                "https://a..example.com",
                "https://evilexample.com",
                "https://a.evilexample.com",
                "https://a-example.com",
                "https://a.example.com.",
                "https://a.example.com.evil.io",
                "https://evil.io/.example.com",
                "https://evil.io?.example.com",
                "https://evil.io#.example.com",
                "https://evil.io\\.example.com",
                "https://evil.io:443.example.com",
                "https://evil.io@a.example.com",
                "https://evil.io%00.example.com",
                "https://evil.io .example.com",
                "https://*.example.com",
                "http://a.example.com",
                "https://a.example.com:8443",
                "https://[.example.com",
                "https://[].example.com",
                "https://[::1].example.com",
                "https://[a.example.com]",
            ],
        );
        check(
            &["http://*.localhost:3000"],
            &["http://a.localhost:3000", "http://a.b.localhost:3000"],
            &["http://localhost:3000", "http://a.localhost"],
        );
    }

    #[test]
    fn a_wildcard_may_stand_below_what_has_one_owner() {
        for entry in [
            "https://*.example.com",
            "https://*.example.co.uk",
            "https://*.me.github.io",
            "https://*.localhost",
            "https://*.internal",
            "https://*.city.kawasaki.jp",
            "https://*.my-intranet",
        ] {
            policy(&[entry]);
        }
        // Exactly such a host is a host like any other.
        check(&["https://github.io"], &["https://github.io"], &["https://a.github.io"]);
    }

    #[test]
    fn a_wildcard_leaves_out_names_below_a_public_suffix_under_it() {
        check(
            &["https://*.amazonaws.com", "https://*.windows.net"],
            &["https://console.amazonaws.com", "https://s3.amazonaws.com", "https://a.b.windows.net"],
            &[
                "https://evil.s3.amazonaws.com",
                "https://a.evil.s3.amazonaws.com",
                "https://EVIL.S3.AMAZONAWS.COM",
                "https://evil.blob.core.windows.net",
            ],
        );
        check(&["https://*.mine.s3.amazonaws.com"], &["https://a.mine.s3.amazonaws.com"], &[]);
    }

    #[test]
    fn an_ipv4_mapped_address_is_written_as_browsers_send_it() {
        for entry in ["http://[::ffff:192.0.2.7]:8080", "http://[::ffff:c000:207]:8080"] {
            check(&[entry], &["http://[::ffff:c000:207]:8080"], &["http://192.0.2.7:8080"]);
        }
    }

    #[test]
    fn any_port_is_any_port_of_this_machine() {
        check(
            &["http://localhost:*"],
            &["http://localhost", "http://localhost:80", "http://localhost:5173", "http://LOCALHOST:65535"],
            &[
                "https://localhost",
                "http://localhost:",
                "http://localhost:0",
                "http://localhost:65536",
                "http://localhost:*",
                "http://localhost:80:80",
                "http://localhost:80@evil.io",
                "http://localhost.evil.io:80",
                "http://a.localhost:80",
                "http://127.0.0.1:80",
                "http://localhost:80/",
            ],
        );
        check(&["https://127.0.0.1:*"], &["https://127.0.0.1", "https://127.0.0.1:9"], &["https://127.0.0.2:9"]);
        check(&["http://[::1]:*"], &["http://[::1]", "http://[::1]:9"], &["http://[::2]:9", "http://[::1]9"]);
        check(&["http://*.localhost:*"], &["http://a.localhost:9"], &["http://localhost:9"]);
    }

    #[test]
    fn any_host_of_a_scheme_that_is_not_one_of_the_web_s() {
        check(
            &["moz-extension://*", "Chrome-Extension://*"],
            &[
                "moz-extension://3c9c8bbe-0c2d-4b62-a4d1-9c4a2b3cbbcd",
                "MOZ-EXTENSION://abc",
                "chrome-extension://abcdefgh",
            ],
            &[
                "moz-extension://",
                "moz-extension://*",
                "moz-extension://a:80",
                "moz-extension://a/b",
                "moz-extension://a b",
                "moz-extension://.",
                "moz-extensions://abc",
                "https://moz-extension",
                "vscode-webview://abc",
                "null",
            ],
        );
        for scheme in PUBLIC_SCHEMES.into_iter().chain(["HTTPS", "File"]) {
            let message = error(&format!("{scheme}://*")).message;
            assert!(message.contains("dangerously_allow_any_origin"), "{scheme}: {message}");
        }
    }

    #[test]
    fn a_scheme_may_have_a_dot_for_its_host() {
        check(&["app://."], &["app://."], &["app://", "app://..", "app://a", "APP://.", "https://."]);
    }

    #[test]
    fn null_and_file_are_allowed_only_when_listed() {
        let not_null = ["Null", "NULL", "null ", " null", "nul", "nulll", "null://", "https://null", "null:443", ""];
        check(&["null"], &["null"], &not_null);
        check(&["https://null"], &["https://null"], &["null"]);
        check(&["null", "https://a.example"], &["null", "https://a.example"], &["file://"]);
        check(&["file://"], &["file://"], &["FILE://", "file:///", "file://host", "file:", "null", ""]);
    }

    #[test]
    fn addresses_are_allowed_in_one_form() {
        check(
            &["http://[2001:DB8:0:0:0:0:0:1]:8080", "https://[::1]", "https://192.0.2.7"],
            &[
                "http://[2001:db8::1]:8080",
                "https://[::1]",
                "https://[::1]:443",
                "https://192.0.2.7",
                "https://192.0.2.7:443",
            ],
            &[
                "http://[2001:DB8::1]:8080",
                "http://[2001:db8:0:0:0:0:0:1]:8080",
                "http://[2001:0db8::1]:8080",
                "http://[2001:db8::1]",
                "http://[2001:db8::1%25eth0]:8080",
                "https://[0:0:0:0:0:0:0:1]",
                "https://[::0001]",
                "https://[::1%lo]",
                "https://[::1].",
                "https://[::1].evil.io",
                "https://[::1]evil.io",
                "https://[::1]@evil.io",
                "https://[::1]]",
                "https://[[::1]]",
                "https://[::1",
                "https://::1",
                "https://::1]",
                "https://[::1]:",
                "https://[::1]:0443",
                "https://[::1]:443:443",
                "https://[::ffff:192.0.2.7]",
                "https://[::ffff:c000:207]",
                "https://192.0.2.07",
                "https://192.0.2.007",
                "https://192.0.519",
                "https://3221225991",
                "https://0xc0000207",
                "https://0300.0.2.7",
                "https://192.0.2.7.",
                "https://192.0.2.7.evil.io",
            ],
        );
    }

    #[test]
    fn any_allows_what_does_not_even_parse() {
        for origin in ["https://evil.io", "null", "", "\0", "https://"] {
            assert!(OriginPolicy::any().allows(origin.as_bytes()), "{origin:?}");
        }
        assert!(OriginPolicy::any().allows(&[0xff; 4096]));
    }

    #[test]
    fn bytes_that_are_not_utf8_and_long_values_are_denied() {
        let policy = policy(&["https://*.example.com", "null"]);
        assert!(!policy.allows(b"https://\xff.example.com"));
        assert!(!policy.allows(b"\x80null"));
        let of_length = |length: usize| {
            let labels = "a.".repeat((length - "https://example.com".len()) / 2);
            format!("https://{}{labels}example.com", if length.is_multiple_of(2) { "a" } else { "" })
        };
        assert_eq!(of_length(512).len(), 512);
        assert!(policy.allows(of_length(512).as_bytes()));
        assert!(!policy.allows(of_length(513).as_bytes()));
        assert!(!policy.allows("a".repeat(1 << 20).as_bytes()));
    }

    #[track_caller]
    fn are_errors(cases: &[(&str, &[&str])]) {
        for (expected, entries) in cases {
            for entry in *entries {
                let error = error(entry);
                assert_eq!(error.option, "origins[1]", "{entry:?}");
                assert!(error.message.contains(expected), "{entry:?}: {}", error.message);
                assert!(error.message.contains(ACCEPTED), "{entry:?}: {}", error.message);
            }
        }
    }

    #[test]
    fn wildcards_over_what_is_somebody_else_s_are_errors() {
        are_errors(&[
            (
                "ports of this machine",
                &[
                    "https://app.example:*",
                    "http://192.168.0.1:*",
                    "http://evil-localhost:*",
                    "app://host:*",
                    "http://*.a.example:*",
                ],
            ),
            ("the port must be", &["http://localhost:80:*", "http://[::1]:80:*", "http://localhost::*"]),
            (
                "is a public suffix",
                &[
                    "https://*.com",
                    "https://*.COM",
                    "http://*.com:8080",
                    "https://*.co.uk",
                    "https://*.github.io",
                    "https://*.pages.dev",
                    "https://*.s3.amazonaws.com",
                    "https://*.ck",
                    "https://*.kawasaki.jp",
                    "https://*.xn--55qx5d.cn",
                ],
            ),
        ]);
    }

    #[test]
    fn entries_that_are_not_origins_are_errors() {
        let cases: &[(&str, &[&str])] = &[
            ("dangerously_allow_any_origin", &["*", "https://*", "https://*:443", "*://*", "http://*:*", "*:8080"]),
            ("user information", &["https://user@app.example", "https://u:p@app.example", "https://@app.example"]),
            (
                "ends after its host",
                &[
                    "https://app.example/",
                    "https://app.example/path",
                    "https://app.example:443/",
                    "https://app.example?q",
                    "https://app.example#f",
                    "https://*.app.example/",
                    "https:///app.example",
                    "file:///",
                    "https://app.example\\",
                ],
            ),
            (
                "stands only for",
                &[
                    "https://*.*.example.com",
                    "https://a.*.example.com",
                    "https://a*.example.com",
                    "https://*example.com",
                    "https://example.*",
                    "*://app.example",
                    "http*://app.example",
                ],
            ),
            ("ASCII form", &["https://b\u{fc}cher.example", "https://app.example\u{2026}", "\u{a0}https://a.example"]),
            (
                "scheme",
                &["app.example", "app.example:443", "", "null ", "://app.example", "1a://b", " https://app.example"],
            ),
            (
                "the host must be",
                &[
                    "https://",
                    "https://:443",
                    "https://.",
                    "https://app.example.",
                    "https://app..example",
                    "https://.app.example",
                    "https://app example",
                    "https://app.example ",
                    "https://app%2eexample",
                    "https://*.",
                    "https://*..example",
                    "https://*.example.com.",
                    "https://a.example,b.example",
                ],
            ),
            (
                "the port must be",
                &[
                    "https://app.example:",
                    "https://app.example:0",
                    "https://app.example:080",
                    "https://app.example:65536",
                    "https://app.example:x",
                    "https://app.example:1:2",
                    "https://a:::1",
                ],
            ),
            ("IPv6", &["https://[::1", "https://[]", "https://[::g]", "https://[1.2.3.4]", "https://[::1]x"]),
            ("four decimals", &["https://127.1", "https://1", "https://0x7f.1", "https://a.0x1f", "https://1.2.3.04"]),
            ("no subdomains", &["https://*.127.0.0.1", "https://*.[::1]"]),
        ];
        are_errors(cases);
        assert_eq!(OriginPolicy::new(&[]).unwrap_err().option, "origins");
        assert!(!error("https://user:hunter2@app.example").message.contains("hunter2"));
    }

    #[test]
    fn the_policy_describes_itself_in_canonical_form() {
        let policy = policy(&["HTTPS://App.example:443", "http://*.A.example:8080", "null", "http://[0::1]:80"]);
        assert_eq!(policy.describe(), "https://app.example, http://*.a.example:8080, null, http://[::1]");
        assert!(OriginPolicy::any().describe().contains("dangerously_allow_any_origin"));
    }

    proptest! {
        #[test]
        fn no_header_panics(header in proptest::collection::vec(any::<u8>(), 0..600)) {
            policy(&["https://*.example.com", "https://[::1]", "null"]).allows(&header);
        }

        #[test]
        fn no_entry_panics(entry in "(https?://)?(\\*\\.?)?[a-z0-9.:\\[\\]@/*%\u{e9} -]{0,20}") {
            // What is accepted is also what is allowed, unless it is a wildcard.
            if let Ok(policy) = OriginPolicy::new(std::slice::from_ref(&entry)) {
                let canonical = policy.describe();
                prop_assert_eq!(policy.allows(canonical.as_bytes()), !entry.contains('*'));
            }
        }

        #[test]
        fn any_port_changes_nothing_but_the_port(host in "[a-z0-9.@:/\\[\\]-]{0,14}", port in any::<u16>()) {
            let allowed = policy(&["http://localhost:*"]).allows(format!("http://{host}:{port}").as_bytes());
            prop_assert_eq!(allowed, host == "localhost" && port != 0);
        }

        #[test]
        fn any_host_is_one_host_of_that_scheme(scheme in "[a-z+.-]{1,8}", host in "[ -~]{0,20}") {
            let origin = format!("{scheme}://{host}");
            let allowed = policy(&["app+x://*"]).allows(origin.as_bytes());
            prop_assert_eq!(allowed, scheme == "app+x" && is_name(&host));
        }

        #[test]
        fn only_whole_labels_stand_before_the_suffix(prefix in "[ -~]{0,12}") {
            let allowed = policy(&["https://*.example.com"]).allows(format!("https://{prefix}example.com").as_bytes());
            let labels = prefix.strip_suffix('.').is_some_and(is_name);
            prop_assert_eq!(allowed, labels);
        }
    }
}
