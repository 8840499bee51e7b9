//! Which server may be reached: one on this machine, or one that the caller states to be responsible for.
//!
//! Every address of a name is judged, and the one that was judged is the one that is connected to: a name that answers
//! otherwise the second time leads nowhere. Neither the decision nor the URL needs a network; [`Target::resolve`] does.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use crate::outcome::Failure;

/// Longer than any URL that a handshake accepts (8192 bytes of target, a host of 255).
const MAX_URL_BYTES: usize = 9000;

/// The options of a subcommand that connects somewhere.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Responsible {
    /// States that you are responsible for the server HOST, which is not on this machine. May be given several times.
    #[arg(long = "i-am-responsible-for", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `wss` or `https`.
    pub(crate) is_tls: bool,
    /// In lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path with its query: what the request line has.
    pub(crate) path: String,
}

impl Target {
    /// Reads `ws://`, `wss://`, `http://` or `https://`.
    ///
    /// # Errors
    /// It is no such URL, names a user (a credential does not belong on a command line), or has a fragment.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let bad = |what: &str| Failure::new(format!("the URL {what}, e.g. ws://localhost:8080/chat"));
        if url.len() > MAX_URL_BYTES || url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(bad("must be printable ASCII of at most 9000 bytes"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("needs a scheme"))?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(bad("must have the scheme ws or wss")),
        };
        if rest.contains('#') {
            return Err(bad("must not have a fragment (RFC 6455, section 3)"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad(
                "must not name a user or password (audit takes credentials by --token, --header and --cookie)",
            ));
        }
        let (host, port) = split_port(authority).ok_or_else(|| bad("needs a host, and a port from 1 to 65535"))?;
        let port = port.unwrap_or(if is_tls { 443 } else { 80 });
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_tls, host, port, path })
    }

    /// The value of `Host`, and of the authority in an origin.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default = if self.is_tls { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// The addresses of the host, each of which may be connected to.
    ///
    /// # Errors
    /// The name has no address, or one of them is not on this machine and nobody answers for the host.
    pub(crate) fn resolve(&self, responsible: &Responsible) -> Result<Vec<SocketAddr>, Failure> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found = found.map_err(|error| Failure::new(format!("{}: {error}", self.host)))?;
        let addresses: Vec<SocketAddr> = found.take(16).collect();
        judge(&self.host, &addresses, responsible)?;
        Ok(addresses)
    }
}

impl fmt::Display for Target {
    /// Without the query, which may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.is_tls { "wss" } else { "ws" }, self.authority())
    }
}

/// Whether a host of these addresses may be connected to.
fn judge(host: &str, addresses: &[SocketAddr], responsible: &Responsible) -> Result<(), Failure> {
    if addresses.is_empty() {
        return Err(Failure::new(format!("{host} has no address")));
    }
    let is_named = responsible.hosts.iter().any(|named| same_host(named, host));
    match addresses.iter().find(|address| !is_on_this_machine(address.ip())) {
        Some(elsewhere) if !is_named => Err(Failure::new(format!(
            "{host} is {}, which is not this machine. If you are responsible for that server, say so: \
             --i-am-responsible-for {host}",
            elsewhere.ip()
        ))),
        _ => Ok(()),
    }
}

/// Whether what was named is the host, however an address is written.
fn same_host(named: &str, host: &str) -> bool {
    let named = named.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match (named.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        (Ok(named), Ok(host)) => named == host,
        _ => named.eq_ignore_ascii_case(host.trim_end_matches('.')),
    }
}

pub(crate) fn is_on_this_machine(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The host of `host:port`, of `[host]:port`, or of a host alone.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Whether a host is this machine: its name, or a loopback address. Other names may lead anywhere.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let is_named = host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    is_named || host.parse::<IpAddr>().is_ok_and(is_on_this_machine)
}

/// Host and port of an authority.
pub(crate) fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(is_host_letter) {
        return None;
    }
    // `u16` reads a sign as well.
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => None,
        Some(text) if digits(text) => Some(text.parse().ok().filter(|port| *port != 0)?),
        Some(_) => return None,
    };
    Some((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    fn at(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 80)
    }

    fn answering(hosts: &[&str]) -> Responsible {
        Responsible { hosts: hosts.iter().map(|&host| host.to_owned()).collect() }
    }

    #[test]
    fn urls_are_taken_apart() {
        let one = target("wss://App.Example/chat?room=1");
        assert_eq!((one.is_tls, &*one.host, one.port, &*one.path), (true, "app.example", 443, "/chat?room=1"));
        assert_eq!((one.authority(), one.to_string()), ("app.example".into(), "wss://app.example/chat".into()));
        let two = target("ws://[::1]:8080");
        assert_eq!((two.is_tls, &*two.host, two.port, &*two.path), (false, "::1", 8080, "/"));
        assert_eq!(two.authority(), "[::1]:8080");
        assert_eq!(target("http://localhost?x").path, "/?x");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "localhost:8080",
            "ftp://localhost",
            "ws://",
            "ws://:80",
            "ws://a:0",
            "ws://a:+80",
            "ws://a:65536",
            "ws://a:",
            "ws://[::1",
            "ws://[x]:1",
            "ws://[::1]80",
            "ws://user:pw@a",
            "ws://a/#x",
            "ws://a/\r\nX: y",
            "ws://a b",
            "ws://[localhost]/",
            "ws://a,b/",
            "ws://a%00/",
            "ws://a\\b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse(&format!("ws://a/{}", "x".repeat(MAX_URL_BYTES))).is_err());
        assert!(!Target::parse("ws://user:hunter2@a").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn hosts_are_found_with_and_without_a_port() {
        for (authority, host) in
            [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("127.0.0.1:*", "127.0.0.1")]
        {
            assert_eq!(host_of(authority), host);
        }
        for own in ["localhost", "LOCALHOST.", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in ["127.0.0.1.example", "localhost.example", "0.0.0.0", "::", "::ffff:192.0.2.1"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }

    #[test]
    fn loopback_needs_nobody_to_answer_for_it() {
        for ip in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert!(judge("localhost", &[at(ip)], &Responsible::default()).is_ok(), "{ip}");
        }
    }

    #[test]
    fn every_address_of_a_name_counts() {
        for ip in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "::ffff:192.0.2.1", "2001:db8::1", "169.254.169.254"] {
            let addresses = [at("127.0.0.1"), at(ip)];
            let error = judge("app.example", &addresses, &Responsible::default()).unwrap_err().to_string();
            assert!(error.contains(ip.trim_start_matches("::ffff:")), "{error}");
            assert!(error.ends_with("--i-am-responsible-for app.example"), "{error}");
            assert!(judge("app.example", &addresses, &answering(&["b.example", "APP.example."])).is_ok());
            assert!(judge("app.example", &addresses, &answering(&["example", "*.example", ip])).is_err());
        }
        assert!(judge("app.example", &[], &answering(&["app.example"])).is_err());
    }

    #[test]
    fn an_address_may_be_named_as_it_is_written() {
        let addresses = [at("2001:db8::1")];
        for named in ["2001:db8::1", "[2001:db8::1]", "2001:DB8:0::1"] {
            assert!(judge("2001:db8::1", &addresses, &answering(&[named])).is_ok(), "{named}");
        }
        assert!(judge("2001:db8::1", &addresses, &answering(&["2001:db8::2"])).is_err());
    }
}
