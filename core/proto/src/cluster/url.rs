//! The URL that a cluster is reached by: what is accepted, and what of it may be shown.
//!
//! `redis://[user:password@]host[:port][/database]`, `redis+sentinel://[user:password@]host[:port],…/service[/database]`,
//! `redis+cluster://[user:password@]host[:port],…`; `rediss` for TLS.

use core::fmt;
use core::net::Ipv6Addr;

use crate::config_error::ConfigError;

/// The option that errors name.
const OPTION: &str = "cluster.url";
/// The longest URL, in bytes.
const MAX_BYTES: usize = 4096;
/// The most hosts that may be stated.
const MAX_HOSTS: usize = 64;
const ACCEPTED: &str = "must be a URL such as \"redis://host:6379\", with one of the schemes redis, rediss (TLS), redis+sentinel, \
                        rediss+sentinel, redis+cluster, rediss+cluster";

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// As it is connected to: an IPv6 address has no brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// How many servers there are, and who knows of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// One server.
    Server {
        /// The number of the database.
        database: u32,
    },
    /// The hosts are Sentinels: they know the server.
    Sentinel {
        /// What they call it.
        service: String,
        /// The number of the database.
        database: u32,
    },
    /// Some of the servers of a Redis Cluster: they know the others.
    Cluster,
}

/// Whom Redis knows this server as.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// A user of the access control list; `None`: the default one.
    pub user: Option<String>,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// A URL, checked. It is displayed without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterUrl {
    /// What the hosts are.
    pub deployment: Deployment,
    /// Whether connections are by TLS.
    pub is_tls: bool,
    /// At least one; one alone where they are servers.
    pub hosts: Vec<Host>,
    /// `None`: whoever connects may.
    pub login: Option<Login>,
}

fn invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::invalid(OPTION, message)
}

impl ClusterUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// Names `cluster.url`, and repeats nothing of the text: it may hold a password anywhere, where somebody mistyped it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_BYTES {
            return Err(invalid(format!("must be a URL of at most {MAX_BYTES} bytes")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
            return Err(invalid("must be a URL of printable ASCII characters, anything else percent-encoded"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(ACCEPTED))?;
        let (kind, is_tls) = kind(scheme).ok_or_else(|| invalid(ACCEPTED))?;
        if rest.contains(['?', '#']) {
            return Err(invalid("must have no query (`?`) and no fragment (`#`); in a password they are %3F and %23"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err(invalid("has an `@` behind its first `/`: a `/` in a password is %2F"));
        }
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let hosts = hosts.split(',').map(|host| parse_host(host, kind.port())).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > if kind == Kind::Server { 1 } else { MAX_HOSTS } {
            let limit = format!("must name at most {MAX_HOSTS} hosts");
            return Err(invalid(if kind == Kind::Server { ONE_HOST.to_owned() } else { limit }));
        }
        let login = userinfo.map(parse_login).transpose()?;
        Ok(Self { deployment: parse_path(kind, path)?, is_tls, hosts, login })
    }

    /// The scheme.
    pub fn scheme(&self) -> &'static str {
        match (&self.deployment, self.is_tls) {
            (Deployment::Server { .. }, false) => "redis",
            (Deployment::Server { .. }, true) => "rediss",
            (Deployment::Sentinel { .. }, false) => "redis+sentinel",
            (Deployment::Sentinel { .. }, true) => "rediss+sentinel",
            (Deployment::Cluster, false) => "redis+cluster",
            (Deployment::Cluster, true) => "rediss+cluster",
        }
    }

    /// The number of the database.
    pub fn database(&self) -> u32 {
        match self.deployment {
            Deployment::Server { database } | Deployment::Sentinel { database, .. } => database,
            Deployment::Cluster => 0,
        }
    }
}

impl fmt::Display for ClusterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index > 0 { "," } else { "" })?;
        }
        match &self.deployment {
            Deployment::Server { database: 0 } | Deployment::Cluster => Ok(()),
            Deployment::Server { database } => write!(f, "/{database}"),
            Deployment::Sentinel { service, database: 0 } => write!(f, "/{service}"),
            Deployment::Sentinel { service, database } => write!(f, "/{service}/{database}"),
        }
    }
}

impl fmt::Debug for ClusterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const ONE_HOST: &str = "must name one host; several are for Sentinel (redis+sentinel://a,b,c/service) and Redis Cluster \
                        (redis+cluster://a,b,c)";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Sentinel,
    Cluster,
}

impl Kind {
    /// The port where none is stated.
    fn port(self) -> u16 {
        if self == Kind::Sentinel { 26_379 } else { 6379 }
    }
}

fn kind(scheme: &str) -> Option<(Kind, bool)> {
    let scheme = scheme.to_ascii_lowercase();
    let (protocol, kind) = scheme.split_once('+').unwrap_or((&scheme, ""));
    let is_tls = match protocol {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    match kind {
        "" if !scheme.contains('+') => Some((Kind::Server, is_tls)),
        "sentinel" => Some((Kind::Sentinel, is_tls)),
        "cluster" => Some((Kind::Cluster, is_tls)),
        _ => None,
    }
}

fn parse_host(text: &str, default_port: u16) -> Result<Host, ConfigError> {
    let wrong = || invalid("must name hosts as name:port, address:port or [IPv6 address]:port, separated by commas");
    let (name, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, port) = text.split_once(']').ok_or_else(wrong)?;
            address.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
            (address, port)
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || name.len() > 253 || !name.bytes().all(is_name) {
                return Err(wrong());
            }
            (name, port)
        }
    };
    let port = match port {
        None => default_port,
        // `parse` would take a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| invalid("must have ports from 1 to 65535"))?
        }
        Some(_) => return Err(invalid("must have ports from 1 to 65535")),
    };
    Ok(Host { name: name.to_owned(), port })
}

fn parse_login(userinfo: &str) -> Result<Login, ConfigError> {
    let wrong = || invalid("must state a login as user:password@ or :password@");
    let (user, password) = userinfo.split_once(':').ok_or_else(wrong)?;
    let not_encoded =
        || invalid("must have `%`, two hexadecimal digits behind it, for UTF-8 in user, password and service");
    let (user, password) = (decode(user).ok_or_else(not_encoded)?, decode(password).ok_or_else(not_encoded)?);
    if password.is_empty() {
        return Err(wrong());
    }
    Ok(Login { user: (!user.is_empty()).then_some(user), password })
}

fn parse_path(kind: Kind, path: &str) -> Result<Deployment, ConfigError> {
    let database = |text: &str| match text {
        "" => Ok(0),
        digits if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| invalid("must have the number of a database as its path"))
        }
        _ => Err(invalid("must have the number of a database, or nothing, as its path")),
    };
    match kind {
        Kind::Server => Ok(Deployment::Server { database: database(path)? }),
        Kind::Cluster if path.is_empty() || path == "0" => Ok(Deployment::Cluster),
        Kind::Cluster => Err(invalid("must have no path: a Redis Cluster has one database")),
        Kind::Sentinel => {
            let (service, number) = path.split_once('/').unwrap_or((path, ""));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            let service = decode(service).filter(|name| !name.is_empty() && name.bytes().all(is_plain));
            let service = service.ok_or_else(|| {
                invalid(
                    "must have the name that Sentinel has for the server as its path: redis+sentinel://host/service",
                )
            })?;
            Ok(Deployment::Sentinel { service, database: database(number)? })
        }
    }
}

/// Percent-decodes (RFC 3986 section 2.1); `None`: that is no UTF-8, or not encoded so.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).map(|digit| digit as u8);
            digit(bytes.next())? << 4 | digit(bytes.next())?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn servers_sentinels_and_clusters_are_told_apart() {
        let url = ClusterUrl::parse("redis://localhost").unwrap();
        assert_eq!(url.deployment, Deployment::Server { database: 0 });
        assert_eq!((url.is_tls, url.hosts, url.login), (false, vec![host("localhost", 6379)], None));
        let url = ClusterUrl::parse("REDISS://[2001:db8::1]:7000/12").unwrap();
        assert_eq!(url.to_string(), "rediss://[2001:db8::1]:7000/12");
        assert_eq!((url.is_tls, url.database(), url.hosts), (true, 12, vec![host("2001:db8::1", 7000)]));
        let url = ClusterUrl::parse("redis+sentinel://a,b:1,[::1]/my%20master/3");
        assert!(url.is_err(), "a space is no part of a name");
        let url = ClusterUrl::parse("redis+sentinel://a,b:1,[::1]/mymaster/3").unwrap();
        assert_eq!(url.deployment, Deployment::Sentinel { service: "mymaster".to_owned(), database: 3 });
        assert_eq!(url.hosts, [host("a", 26379), host("b", 1), host("::1", 26379)]);
        assert_eq!(url.to_string(), "redis+sentinel://a:26379,b:1,[::1]:26379/mymaster/3");
        let url = ClusterUrl::parse("rediss+cluster://10.0.0.1:7000,10.0.0.2/").unwrap();
        assert_eq!((url.deployment, url.is_tls), (Deployment::Cluster, true));
        assert_eq!(url.hosts, [host("10.0.0.1", 7000), host("10.0.0.2", 6379)]);
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        for (text, user, password) in [
            ("redis://:Hunter2@h", None, "Hunter2"),
            ("redis://app:Hunter2%40%2f%3F@h/1", Some("app"), "Hunter2@/?"),
            ("redis://app:Hunter2:x@h", Some("app"), "Hunter2:x"),
            ("redis+cluster://app:Hunter2@x@h,i", Some("app"), "Hunter2@x"),
            ("redis+sentinel://%C3%A9:Hunter2@h/s", Some("é"), "Hunter2"),
        ] {
            let url = ClusterUrl::parse(text).unwrap();
            assert_eq!(url.login, Some(Login { user: user.map(str::to_owned), password: password.to_owned() }));
            for shown in [url.to_string(), format!("{url:?}"), format!("{:?}", url.login)] {
                assert!(!shown.contains("Hunter2") && !shown.contains("app") && !shown.contains('@'), "{shown}");
            }
        }
    }

    #[test]
    fn what_is_no_url_is_an_error_that_repeats_nothing_of_it() {
        for text in [
            "",
            "Hunter2",
            "Hunter2:6379",
            "http://Hunter2",
            "redis:/Hunter2",
            "redis+://Hunter2",
            "redis+nats://Hunter2",
            "redissss://Hunter2",
            "redis://",
            "redis://Hunter2:0",
            "redis://Hunter2:65536",
            "redis://Hunter2:+1",
            "redis://Hunter2:x",
            "redis://Hunter2:",
            "redis://[Hunter2]",
            "redis://[::1]Hunter2",
            "redis://::1",
            "redis://Hunter2,b",
            "redis://h/Hunter2",
            "redis://h/1/2",
            "redis://h/-1",
            "redis://h/123456",
            "redis://h?password=Hunter2",
            "redis://h#Hunter2",
            "redis://Hunter2@h",
            "redis://Hunter2:@h",
            "redis://:@h",
            "redis://:Hunter2%@h",
            "redis://:Hunter2%ff@h",
            "redis://:Hunter2%+1@h",
            "redis://:Hunter2/x@h",
            "redis://:Hunter2 x@h",
            "redis://:Hunter2ü@h",
            "redis://:Hunter2\r\n@h",
            "redis+sentinel://Hunter2",
            "redis+sentinel://Hunter2/",
            "redis+sentinel://Hunter2/s/t",
            "redis+cluster://Hunter2/1",
            "redis+cluster://Hunter2,",
        ] {
            let error = ClusterUrl::parse(text).unwrap_err();
            assert_eq!(error.option, "cluster.url", "{text}");
            assert!(!error.to_string().contains("Hunter2"), "{text}: {error}");
        }
        let many = format!("redis+cluster://{}", ["h"; 65].join(","));
        assert!(ClusterUrl::parse(&many).is_err());
        assert!(ClusterUrl::parse(&format!("redis://{}", "h".repeat(5000))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_a_url_of_the_same_place(text in "(redis|rediss|redis\\+sentinel|redis\\+cluster)://([a-z%0-9]{0,3}:[a-z%2]{0,4}@)?[a-z0-9\\[\\]:,]{0,12}(/[a-z0-9]{0,4}){0,2}") {
            if let Ok(url) = ClusterUrl::parse(&text) {
                let again = ClusterUrl::parse(&url.to_string()).unwrap();
                prop_assert_eq!((again.deployment, again.is_tls, again.hosts, again.login), (url.deployment, url.is_tls, url.hosts, None));
            }
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".*") {
            let _ = ClusterUrl::parse(&text);
        }
    }
}
