//! Parses a `Host` header, or the authority of an absolute-form target, and decides whether `hosts` allows it.
//!
//! It does not decide that a missing or second `Host` is refused: the handshake does. `hosts` is the guard
//! against DNS rebinding: a page of a hostile name that resolves to this server still sends that name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config_error::ConfigError;
use crate::syntax::decimal_u16;

const ACCEPTED: &str = "accepted: `name` for any port, or `name:port`; a name, an IPv4 address or `[IPv6]`";

/// A `Host` value, or the authority of a target in absolute form (RFC 9110 section 7.2, RFC 9112 section 3.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// As received: the case is kept, an IPv6 address is in its brackets, a name may end in one dot.
    pub host: &'a str,
    /// The port, if one was given.
    pub port: Option<u16>,
    /// Both, as received.
    pub text: &'a str,
}

impl<'a> Authority<'a> {
    /// Parses `host[:port]`; `None` is answered with 400.
    ///
    /// The host is a name of letters, digits, `-`, `_` and `~` with single dots between the labels and at most one at
    /// the end, an IPv4 address, or an IPv6 address in brackets. User information, percent-encoding, lists, an empty
    /// host, an empty port, port 0 and leading zeros do not parse. Linear; does not allocate.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let host_len = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (host, port) = text.split_at(host_len);
        if ipv6(host).is_none() && !is_name(without_trailing_dot(host)) {
            return None;
        }
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(decimal_u16(digits.as_bytes()).filter(|port| *port != 0)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { host, port, text })
    }

    /// Whether both name the same host and port.
    ///
    /// Case and a trailing dot do not matter. A port that is not given is the scheme's `default_port`.
    pub fn same_as(&self, other: &Authority<'_>, default_port: u16) -> bool {
        let port = |authority: &Authority<'_>| authority.port.unwrap_or(default_port);
        port(self) == port(other) && same_host(self.host, other.host)
    }

    /// Whether the host is this name, whatever the port.
    pub fn is_of(&self, name: &str) -> bool {
        same_host(self.host, name)
    }

    /// Whether the host is of this machine alone: a loopback address, `localhost`, or a name below it (RFC 6761 section 6.3).
    pub fn is_loopback(&self) -> bool {
        let name = without_trailing_dot(self.host);
        let address = ipv6(self.host).map(IpAddr::V6).or_else(|| name.parse().map(|ip: Ipv4Addr| ip.into()).ok());
        match address {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => name.rsplit('.').next().is_some_and(|top| top.eq_ignore_ascii_case("localhost")),
        }
    }
}

/// The names by which this server may be addressed: the option `hosts`.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// `None`: any host.
    allowed: Option<Vec<Allowed>>,
}

#[derive(Clone, Debug)]
struct Allowed {
    /// Lower case, without a trailing dot; an IPv6 address in canonical form and brackets.
    host: String,
    /// `None`: any port.
    port: Option<u16>,
}

impl HostPolicy {
    /// Any host that parses: the default.
    pub fn any() -> Self {
        Self { allowed: None }
    }

    /// Reads the entries of the option `hosts`: `name` for any port, or `name:port`.
    ///
    /// The error names `hosts[i]`, or `hosts` for an empty list, which would deny every request.
    pub fn new(entries: &[String]) -> Result<Self, ConfigError> {
        if entries.is_empty() {
            let message = format!("the list is empty and would deny all; leave it out to allow any host; {ACCEPTED}");
            return Err(ConfigError::invalid("hosts", message));
        }
        let allowed = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                Allowed::parse(entry).ok_or_else(|| {
                    let message = format!("not a host, without scheme, path or wildcard; {ACCEPTED}");
                    ConfigError::invalid(format!("hosts[{index}]"), message)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { allowed: Some(allowed) })
    }

    /// Whether a request to this authority is for us; if not, the answer is `host_denied`, 421.
    ///
    /// Clients leave out the default port, so an entry with port 80 or 443 also allows its name without a port.
    pub fn allows(&self, authority: &Authority<'_>) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        allowed.iter().any(|entry| {
            let port_allowed = match (entry.port, authority.port) {
                (None, _) | (Some(80 | 443), None) => true,
                (expected, actual) => expected == actual,
            };
            port_allowed && same_host(&entry.host, authority.host)
        })
    }

    /// The policy in words, for the log line at start.
    pub fn describe(&self) -> String {
        let Some(allowed) = &self.allowed else { return "any".to_owned() };
        let entries: Vec<String> = allowed
            .iter()
            .map(|Allowed { host, port }| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
            .collect();
        entries.join(", ")
    }
}

impl Allowed {
    fn parse(entry: &str) -> Option<Self> {
        let Authority { host, port, .. } = Authority::parse(entry.as_bytes())?;
        let host = match ipv6(host) {
            Some(address) => format!("[{address}]"),
            None => without_trailing_dot(host).to_ascii_lowercase(),
        };
        Some(Self { host, port })
    }
}

fn same_host(one: &str, other: &str) -> bool {
    match (ipv6(one), ipv6(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => without_trailing_dot(one).eq_ignore_ascii_case(without_trailing_dot(other)),
        _ => false,
    }
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn without_trailing_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn authority(text: &str) -> Authority<'_> {
        Authority::parse(text.as_bytes()).unwrap()
    }

    fn policy(entries: &[&str]) -> HostPolicy {
        HostPolicy::new(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn hosts_that_parse() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("example.com", "example.com", None),
            ("Example.COM:8080", "Example.COM", Some(8080)),
            ("example.com.", "example.com.", None),
            ("example.com.:443", "example.com.", Some(443)),
            ("localhost:1", "localhost", Some(1)),
            ("localhost:65535", "localhost", Some(65535)),
            ("my_service-1~x:80", "my_service-1~x", Some(80)),
            ("127.0.0.1", "127.0.0.1", None),
            ("127.0.0.1:9", "127.0.0.1", Some(9)),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[2001:DB8:0::1]:8080", "[2001:DB8:0::1]", Some(8080)),
            ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", None),
        ];
        for (text, host, port) in cases {
            let parsed = authority(text);
            assert_eq!((parsed.host, parsed.port), (*host, *port), "{text:?}");
        }
    }

    #[test]
    fn hosts_that_do_not_parse() {
        let cases = [
            "",
            ":",
            ":80",
            ".",
            "..",
            ".:80",
            ".example.com",
            "example..com",
            "example.com..",
            "example.com:",
            "example.com:0",
            "example.com:080",
            "example.com:+80",
            "example.com:-80",
            "example.com: 80",
            "example.com:80 ",
            "example.com:80:80",
            "example.com:65536",
            "example.com:99999",
            "example.com:4294967376",
            "example.com:0x50",
            "example.com:http",
            "user@example.com",
            "user:password@example.com",
            "example.com@evil.io",
            "example.com,evil.io",
            "example.com, evil.io",
            "example.com evil.io",
            " example.com",
            "example.com\t",
            "example.com/",
            "example.com/path",
            "example.com\\",
            "example.com?q",
            "example.com#f",
            "http://example.com",
            "example%2ecom",
            "exam%00ple.com",
            "example.com\0",
            "example.com\r\n",
            "b\u{fc}cher.example",
            "*",
            "*.example.com",
            "exa$mple.com",
            "exa;mple.com",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[]:80",
            "[::g]",
            "[::1]x",
            "[::1].",
            "[::1]80",
            "[::1]:",
            "[::1]:0",
            "[[::1]]",
            "[::1]]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.x]",
            "[1.2.3.4]",
            "[example.com]",
        ];
        for text in cases {
            assert!(Authority::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(Authority::parse(b"example\xff.com").is_none());
    }

    #[test]
    fn the_same_authority() {
        let cases = [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.com.", true),
            ("example.com:80", "Example.com.:80", true),
            ("[::1]:80", "[0:0::1]:80", true),
            ("[2001:db8::a]", "[2001:DB8::A]", true),
            ("example.com", "example.com:80", true),
            ("example.com:443", "example.com", false),
            ("[::1]", "[::1]:80", true),
            ("example.com:80", "example.com:81", false),
            ("example.com", "example.org", false),
            ("example.com", "www.example.com", false),
            ("[::1]", "[::2]", false),
            ("[::ffff:1.2.3.4]", "1.2.3.4", false),
        ];
        for (one, other, same) in cases {
            assert_eq!(authority(one).same_as(&authority(other), 80), same, "{one} {other}");
            assert_eq!(authority(other).same_as(&authority(one), 80), same, "{other} {one}");
        }
    }

    #[test]
    fn hosts_allowed_and_denied() {
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (
                &["example.com"],
                &["example.com", "EXAMPLE.com", "example.com.", "example.com:80", "example.com:9999"],
                &["evil.io", "example.com.evil.io", "evilexample.com", "www.example.com", "127.0.0.1", "[::1]"],
            ),
            (
                &["Example.com.:8080"],
                &["example.com:8080", "EXAMPLE.COM:8080", "example.com.:8080"],
                &["example.com", "example.com:80", "example.com:808", "example.com:18080"],
            ),
            (&["a.example:443"], &["a.example", "a.example:443"], &["a.example:80", "a.example:8443", "b.example"]),
            (&["a.example:80"], &["a.example", "a.example:80"], &["a.example:443"]),
            (
                &["localhost", "127.0.0.1", "[0:0::1]:8080"],
                &["localhost:1", "127.0.0.1:2", "[::1]:8080", "[::0001]:8080"],
                &["[::1]", "[::1]:8081", "127.0.0.2", "rebind.evil.io", "0.0.0.0", "localhost.evil.io"],
            ),
        ];
        for (entries, allowed, denied) in cases {
            let policy = policy(entries);
            for host in *allowed {
                assert!(policy.allows(&authority(host)), "{host} {entries:?}");
            }
            for host in *denied {
                assert!(!policy.allows(&authority(host)), "{host} {entries:?}");
            }
        }
        assert!(HostPolicy::any().allows(&authority("rebind.evil.io:1")));
    }

    #[test]
    fn entries_that_are_not_hosts_are_errors() {
        for entry in ["", "*", "*.example.com", "https://a.example", "a.example/", "a.example:", "a:0", "::1", "a b"] {
            let error = HostPolicy::new(&["fine.example".to_owned(), entry.to_owned()]).unwrap_err();
            assert_eq!(error.option, "hosts[1]", "{entry:?}");
            assert!(error.message.contains(ACCEPTED), "{entry:?}");
        }
        assert_eq!(HostPolicy::new(&[]).unwrap_err().option, "hosts");
    }

    #[test]
    fn the_policy_describes_itself() {
        assert_eq!(policy(&["A.example.", "b:80", "[0::1]:9"]).describe(), "a.example, b:80, [::1]:9");
        assert_eq!(HostPolicy::any().describe(), "any");
    }

    proptest! {
        #[test]
        fn no_host_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Authority::parse(&bytes);
        }

        #[test]
        fn what_parses_equals_itself_and_is_allowed_as_an_entry(text in "[a-zA-Z0-9.:\\[\\]_~-]{0,16}") {
            if let Some(parsed) = Authority::parse(text.as_bytes()) {
                prop_assert!(parsed.same_as(&parsed, 443));
                prop_assert!(HostPolicy::new(std::slice::from_ref(&text)).unwrap().allows(&parsed));
            }
        }
    }
}
