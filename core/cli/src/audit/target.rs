//! Whom the audit speaks to: the URL, with Engine.IO's own parameters where it leads to a Socket.IO.

use std::net::SocketAddr;

use crate::outcome::Failure;
use crate::reach::{self, Responsible};

/// A server, as the URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) at: reach::Target,
    /// Without the query.
    pub(crate) path: String,
    /// Without the question mark; it may hold a secret, and is never shown.
    pub(crate) query: String,
    /// Engine.IO over WebSocket, as Socket.IO speaks it.
    pub(crate) engine_io: bool,
}

/// The parameters without which Engine.IO upgrades nothing.
const ENGINE_IO: [(&str, &str); 2] = [("EIO", "4"), ("transport", "websocket")];

impl Target {
    /// Reads `ws://host:port/path`; `http` and `https` stand for the same servers.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let at = reach::Target::parse(url)?;
        let (path, query) = at.path.split_once('?').unwrap_or((&at.path, ""));
        let engine_io = path.split('/').any(|part| part == "socket.io" || part == "engine.io");
        let (path, mut query) = (path.to_owned(), query.to_owned());
        for (name, value) in ENGINE_IO.iter().filter(|_| engine_io) {
            if !query.split('&').any(|part| part.split('=').next() == Some(name)) {
                let join = if query.is_empty() { "" } else { "&" };
                query = format!("{query}{join}{name}={value}");
            }
        }
        Ok(Self { at, path, query, engine_io })
    }

    /// The origin of a page that the server itself serves.
    pub(crate) fn own_origin(&self) -> String {
        format!("{}://{}", if self.at.is_tls { "https" } else { "http" }, self.at.authority())
    }

    /// The values of the query that may be secrets: any but short ones, and Engine.IO's own.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        let values = self.query.split('&').filter_map(|part| part.split_once('='));
        let values = values.filter(|(name, value)| value.len() >= 8 && *name != "transport");
        values.map(|(_, value)| value.to_owned())
    }

    /// What of the query is Engine.IO's.
    pub(crate) fn query_of_engine_io(&self) -> String {
        let is_its = |part: &&str| ENGINE_IO.iter().any(|(name, _)| part.split('=').next() == Some(name));
        self.query.split('&').filter(|part| self.engine_io && is_its(part)).collect::<Vec<_>>().join("&")
    }

    /// Its addresses, asked for once: every connection goes to one of these, so that a name cannot point elsewhere meanwhile.
    pub(crate) fn resolve(&self, responsible: &Responsible) -> Result<Vec<SocketAddr>, Failure> {
        self.at.resolve(responsible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::parse("ws://Localhost:3000/ws?token=verysecret&a=1").unwrap();
        assert_eq!((target.path.as_str(), target.query.as_str()), ("/ws", "token=verysecret&a=1"));
        assert_eq!(target.own_origin(), "http://localhost:3000");
        assert_eq!(target.secrets().collect::<Vec<_>>(), ["verysecret"]);
        assert_eq!(Target::parse("wss://h?a=1").unwrap().query, "a=1");
        assert_eq!(target.query_of_engine_io(), "");
    }

    #[test]
    fn socket_io_gets_its_parameters() {
        let target = Target::parse("http://localhost:3000/socket.io/?EIO=3&token=x").unwrap();
        assert!(target.engine_io);
        assert_eq!(target.query, "EIO=3&token=x&transport=websocket");
        assert_eq!(target.query_of_engine_io(), "EIO=3&transport=websocket");
        assert!(!Target::parse("ws://localhost/my-socket.io-like").unwrap().engine_io);
    }
}
