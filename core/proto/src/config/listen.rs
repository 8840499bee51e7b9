//! Decides what the option `listen` names: a TCP address, a Unix socket, or an inherited socket.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config_error::ConfigError;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; a name is resolved when the server starts.
    Tcp {
        /// Name or address, IPv6 without brackets, a link-local one with its zone (`fe80::1%eth0`).
        host: String,
        /// 0: any free port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A listening socket that the process was started with, by its number.
    Fd(u32),
}

pub(super) const ACCEPTED: &str = r#"accepted: "host:port", "unix:PATH", "fd:N""#;

impl Listen {
    /// Parses `host:port`, `[v6]:port`, `unix:PATH` or `fd:N`.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let invalid = |why: &str| ConfigError::invalid("listen", format!("{why}; {ACCEPTED}"));
        if let Some(path) = text.strip_prefix("unix:") {
            // Control characters would break the policy's one line in the log.
            let unusable = path.is_empty() || path.chars().any(char::is_control);
            return if unusable { Err(invalid("a path must follow `unix:`")) } else { Ok(Listen::Unix(path.into())) };
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let plain = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
            let number = number.parse().ok().filter(|number| plain && i32::try_from(*number).is_ok());
            return number.map(Listen::Fd).ok_or_else(|| invalid("the number of an open socket must follow `fd:`"));
        }
        if let Some((host, zone, port)) = link_local(text) {
            let host = zone.map(|zone| format!("{host}%{zone}"));
            return host.map(|host| Listen::Tcp { host, port }).ok_or_else(|| {
                invalid(
                    "a link-local address is one of an interface, which is written behind it: \"[fe80::1%eth0]:8080\"",
                )
            });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::Tcp { host: address.ip().to_string(), port: address.port() });
        }
        Self::parse_name(text).map_err(|why| invalid(&why))
    }

    /// A name and a port. The text is not repeated where it is neither: it may hold a password.
    fn parse_name(text: &str) -> Result<Self, String> {
        let is_port = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(if is_port(text) && text.len() <= 5 {
                format!("the host is missing: write \"127.0.0.1:{text}\"")
            } else if text.starts_with('/') {
                "a path is written with `unix:` before it".to_owned()
            } else {
                "the port is missing: write \"127.0.0.1:8080\"".to_owned()
            });
        };
        if text.contains("://") {
            return Err("a URL is no address to listen on: write \"127.0.0.1:8080\"".to_owned());
        }
        let Some(number) = Some(port).filter(|port| is_port(port)).and_then(|port| port.parse().ok()) else {
            return Err("the port must be a number from 0 to 65535".to_owned());
        };
        let is_name = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
        match host {
            "" => Err(format!(
                "the host is missing: write \"127.0.0.1:{number}\", or \"0.0.0.0:{number}\" for every address"
            )),
            "*" => Err(format!(
                "`*` is no host: write \"0.0.0.0:{number}\" for every address of this machine, or \"[::]:{number}\" for \
                 IPv6 as well"
            )),
            _ if host.contains(':') => Err("an IPv6 address is written in brackets: \"[::1]:8080\"".to_owned()),
            _ if host.len() <= 253 && host.bytes().all(is_name) => {
                Ok(Listen::Tcp { host: host.to_owned(), port: number })
            }
            _ => Err("the host must be a name or an address".to_owned()),
        }
    }

    /// Whether only this machine can reach it; `None`: not known before a name is resolved or a socket is looked at.
    pub(super) fn is_local(&self) -> Option<bool> {
        match self {
            Listen::Unix(_) => Some(true),
            Listen::Tcp { host, .. } => {
                let host = host.split_once('%').map_or(&**host, |(address, _)| address);
                host.parse().ok().map(|ip: IpAddr| ip.to_canonical().is_loopback())
            }
            Listen::Fd(_) => None,
        }
    }

    /// Whether it is a Unix socket; `None`: not known before an inherited socket is looked at.
    pub(super) fn is_unix(&self) -> Option<bool> {
        match self {
            Listen::Unix(_) => Some(true),
            Listen::Tcp { .. } => Some(false),
            Listen::Fd(_) => None,
        }
    }
}

/// A link-local address, its zone (RFC 4007 section 11: the number or the name of an interface) and a port.
fn link_local(text: &str) -> Option<(Ipv6Addr, Option<&str>, u16)> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let address = address.parse::<Ipv6Addr>().ok().filter(Ipv6Addr::is_unicast_link_local)?;
    let is_zone = |zone: &str| zone.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter));
    let zone = zone.filter(|zone| (1..=15).contains(&zone.len()) && is_zone(zone) && *zone != "0");
    Some((address, zone, port.parse().ok()?))
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Listen::Tcp { host, port } => write!(f, "{host}:{port}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
            Listen::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_back_as_it_was_written() {
        for text in [
            "127.0.0.1:0",
            "[::1]:8080",
            "[fe80::1%2]:80",
            "[fe80::a:b%br-1.2]:0",
            "localhost:80",
            "a-b.example:1",
            "unix:/run/x.sock",
            "fd:3",
            "0.0.0.0:1",
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_to_write_instead_is_said() {
        for (text, hint) in [
            ("*:8080", "0.0.0.0:8080"),
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("::1:8080", "[::1]:8080"),
            ("localhost", "the port is missing"),
            ("localhost:http", "0 to 65535"),
            ("localhost:+80", "0 to 65535"),
            ("localhost:65536", "0 to 65535"),
            ("ws://localhost:8080", "a URL"),
            ("redis://:hunter2@host:6379", "a URL"),
            ("[fe80::1]:80", "fe80::1%eth0"),
            ("[fe80::1%]:80", "fe80::1%eth0"),
            ("[fe80::1%a b]:80", "fe80::1%eth0"),
            ("user:hunter2@host:80", "brackets"),
            ("hunter2@host:80", "a name or an address"),
            ("/run/app.sock", "unix:"),
            ("unix:", "a path must follow"),
            ("unix:/run/a\u{7f}b", "a path must follow"),
            ("fd:", "number of an open socket"),
            ("fd:x", "number of an open socket"),
            ("fd:-1", "number of an open socket"),
            ("fd:+3", "number of an open socket"),
            ("fd:4294967295", "number of an open socket"),
            ("", "the port is missing"),
        ] {
            let error = Listen::parse(text).unwrap_err();
            assert!(error.option == "listen" && error.message.contains(hint), "{text}: {error}");
            assert!(error.message.contains("fd:N") && !error.message.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn only_addresses_are_known_to_be_local_before_listening() {
        for (text, local) in [
            ("127.0.0.1:0", Some(true)),
            ("127.1.2.3:0", Some(true)),
            ("[::1]:0", Some(true)),
            ("[::ffff:127.0.0.1]:0", Some(true)),
            ("unix:x", Some(true)),
            ("0.0.0.0:0", Some(false)),
            ("[::]:0", Some(false)),
            ("192.0.2.1:0", Some(false)),
            ("[fe80::1%eth0]:0", Some(false)),
            ("localhost:0", None),
            ("fd:3", None),
        ] {
            assert_eq!(Listen::parse(text).unwrap().is_local(), local, "{text}");
        }
    }
}
