//! Whom the audit speaks to: the URL, its addresses, and whether one may.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::outcome::Failure;
use crate::reach;

/// A server, as the URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `wss`.
    pub(crate) tls: bool,
    /// Lower case, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Without the query.
    pub(crate) path: String,
    /// Without the question mark; it may hold a secret, and is never shown.
    pub(crate) query: String,
    /// Engine.IO over WebSocket, as Socket.IO speaks it.
    pub(crate) engine_io: bool,
}

impl Target {
    /// Reads `ws://host:port/path`; `http` and `https` stand for the same servers.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(format!("the URL {why}; expected ws://HOST[:PORT]/PATH or wss://…"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(wrong("has another scheme than ws and wss")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(wrong("holds a space, a fragment or a character outside of ASCII"));
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Failure::new("the URL holds a user name: give credentials with --header, --cookie or --token"));
        }
        let (host, port) =
            reach::split_port(authority).ok_or_else(|| wrong("has no host, or no port from 1 to 65535"))?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let engine_io = path.split('/').any(|part| part == "socket.io" || part == "engine.io");
        let mut target = Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
            engine_io,
        };
        if engine_io {
            target.add_engine_io();
        }
        Ok(target)
    }

    /// The parameters without which Engine.IO upgrades nothing.
    fn add_engine_io(&mut self) {
        for (name, value) in [("EIO", "4"), ("transport", "websocket")] {
            if !self.query.split('&').any(|part| part.split('=').next() == Some(name)) {
                let join = if self.query.is_empty() { "" } else { "&" };
                self.query = format!("{}{join}{name}={value}", self.query);
            }
        }
    }

    /// `host`, or `host:port` where the port is not the scheme's own: as `Host` and as part of an origin.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The origin of a page that the server itself serves.
    pub(crate) fn own_origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// For people: without the query.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}{}", if self.tls { "wss" } else { "ws" }, self.authority(), self.path)
    }

    /// The values of the query that may be secrets: any but short ones, and Engine.IO's own.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        let values = self.query.split('&').filter_map(|part| part.split_once('='));
        let values = values.filter(|(name, value)| value.len() >= 8 && *name != "transport");
        values.map(|(_, value)| value.to_owned())
    }

    /// Its addresses, asked for once: every connection goes to one of these, so that a name cannot point elsewhere meanwhile.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found = found.map_err(|error| Failure::new(format!("{}: {error}", self.host)))?;
        let addresses: Vec<_> = found.take(16).collect();
        if addresses.is_empty() {
            return Err(Failure::new(format!("{} has no address", self.host)));
        }
        Ok(addresses)
    }

    /// Refuses a server of somebody else: every address is loopback, or the person at the terminal answers for the host.
    pub(crate) fn permit(&self, addresses: &[SocketAddr], answered_for: &[String]) -> Result<(), Failure> {
        let named = answered_for.iter().any(|host| reach::same_host(host, &self.host));
        match addresses.iter().find(|address| !reach::is_on_this_machine(address.ip())) {
            Some(address) if !named => Err(Failure::new(format!(
                "{} is {}, which is not this machine: examine only servers that you are responsible for, and say so with \
                 --i-am-responsible-for {}",
                self.host,
                address.ip(),
                self.host
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::parse("ws://Localhost:3000/ws?token=secret").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("localhost", 3000, false));
        assert_eq!(target.shown(), "ws://localhost:3000/ws");
        assert_eq!(target.own_origin(), "http://localhost:3000");
        let target = Target::parse("wss://[::1]").unwrap();
        assert_eq!((target.authority().as_str(), target.port, target.path.as_str()), ("[::1]", 443, "/"));
        assert_eq!(Target::parse("ws://h?a=1").unwrap().query, "a=1");
    }

    #[test]
    fn socket_io_gets_its_parameters() {
        let target = Target::parse("http://localhost:3000/socket.io/?EIO=3").unwrap();
        assert!(target.engine_io);
        assert_eq!(target.query, "EIO=3&transport=websocket");
        assert!(!Target::parse("ws://localhost/my-socket.io-like").unwrap().engine_io);
    }

    #[test]
    fn wrong_urls_are_refused() {
        for url in [
            "localhost:1",
            "ftp://a/",
            "ws://",
            "ws://a:0/",
            "ws://a:x/",
            "ws://u:p@a/",
            "ws://a/#f",
            "ws://a/ b",
            "ws://a:+80/",
            "ws://[localhost]/",
            "ws://a,b/",
            "ws://a%00/",
            "ws://a\\b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn other_machines_need_a_word() {
        let target = Target::parse("ws://App.example/").unwrap();
        let both = ["127.0.0.1:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap()];
        assert!(target.permit(&both[..1], &[]).is_ok());
        let refusal = target.permit(&both, &["other.example".into()]).unwrap_err().to_string();
        assert!(refusal.contains("192.0.2.1") && refusal.contains("--i-am-responsible-for app.example"), "{refusal}");
        assert!(target.permit(&both, &["APP.example".into()]).is_ok());
        let v6 = Target::parse("ws://[2001:db8::1]/").unwrap();
        assert!(v6.permit(&["[2001:db8::1]:80".parse().unwrap()], &["2001:DB8:0::1".into()]).is_ok());
        assert!(target.permit(&["[::ffff:127.0.0.1]:80".parse().unwrap()], &[]).is_ok());
        assert!(target.permit(&["0.0.0.0:80".parse().unwrap()], &[]).is_err());
    }
}
