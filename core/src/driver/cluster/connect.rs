//! How a connection comes to be: who is asked where the server is, what is said first, and what server is good enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wsguard_proto::cluster::store::{SCRIPTS, Store, Value};
use wsguard_proto::cluster::url::{ClusterUrl, Deployment, Host, Login};

use super::link::Link;
use super::refusal::{Refusal, not_permitted};
use super::slots::SlotMap;

/// For a connection to be there, and for each thing that is said on it first.
const PATIENCE: Duration = Duration::from_secs(1);
/// For all of them.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(4);
/// The oldest version that has what scripts and commands use.
const OLDEST: (u32, u32) = (6, 2);
/// From here on channels belong to slots, if a Cluster is asked to have it so (`SSUBSCRIBE`).
const SHARDED: (u32, u32) = (7, 0);

/// Where to connect, and as whom.
pub(super) struct Target {
    pub(super) url: ClusterUrl,
    /// The cluster's.
    pub(super) name: Arc<str>,
    /// `on_outage`: nobody is let in while it cannot be reached.
    pub(super) closes: bool,
    pub(super) tls: Option<TlsConnector>,
}

/// A server. Commands go and messages come by one connection: ops keep their order, whatever they are.
pub(super) struct Server {
    pub(super) host: Host,
    pub(super) link: Link,
    pub(super) version: (u32, u32),
}

/// What was connected to.
pub(super) struct Connected {
    /// One, or the masters of a Cluster.
    pub(super) servers: Vec<Server>,
    /// Of a Cluster.
    pub(super) slots: Option<SlotMap>,
}

impl Connected {
    /// Whether channels belong to slots.
    pub(super) fn is_sharded(&self) -> bool {
        self.slots.is_some() && self.servers.iter().all(|server| server.version >= SHARDED)
    }
}

/// What `HELLO` answered.
struct Hello {
    version: (u32, u32),
    is_cluster: bool,
    is_master: bool,
}

impl Target {
    /// What is kept there. `is_sharded`: channels belong to slots.
    pub(super) fn store(&self, is_sharded: bool) -> Store {
        Store::new(Arc::clone(&self.name), is_sharded).in_database(self.url.database())
    }

    /// Connects. `known` are masters of the Cluster that were there the last time; `turn` says who is asked first.
    pub(super) async fn connect(&self, known: &[Host], turn: usize) -> Result<Connected, Refusal> {
        let connecting = async {
            match &self.url.deployment {
                Deployment::Server { .. } => {
                    Ok(Connected { servers: vec![self.server(&self.url.hosts[0], false).await?], slots: None })
                }
                Deployment::Sentinel { service, .. } => {
                    let master = self.ask_sentinels(service, turn).await?;
                    Ok(Connected { servers: vec![self.server(&master, false).await?], slots: None })
                }
                Deployment::Cluster => self.cluster(known, turn).await,
            }
        };
        in_time(PATIENCE_IN_ALL, connecting).await
    }

    /// A connection to a server that is a master.
    pub(super) async fn server(&self, host: &Host, is_cluster: bool) -> Result<Server, Refusal> {
        let (mut link, hello) = in_time(PATIENCE, self.open(host)).await?;
        match (hello.is_cluster, is_cluster) {
            (true, false) => {
                return Err(Refusal::Wrong("the server is part of a Redis Cluster: state redis+cluster://".to_owned()));
            }
            (false, true) => {
                return Err(Refusal::Wrong("the server is not part of a Redis Cluster: state redis://".to_owned()));
            }
            _ => {}
        }
        if !hello.is_master {
            return Err(Refusal::away("the server is a replica"));
        }
        for script in SCRIPTS {
            in_time(PATIENCE, link.ask(&[b"SCRIPT", b"LOAD", script.text.as_bytes()])).await?;
        }
        in_time(PATIENCE, self.check_rights(&mut link, is_cluster)).await?;
        Ok(Server { host: host.clone(), link, version: hello.version })
    }

    /// A user that may not send some command is refused here: otherwise what needs it fails when somebody needs it, as a ban.
    async fn check_rights(&self, link: &mut Link, is_cluster: bool) -> Result<(), Refusal> {
        let command = self.store(false).rights(is_cluster);
        let words: Vec<_> = command.words().collect();
        let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
        let Value::Array(denied) = link.ask(&words).await? else { return Ok(()) };
        let denied = denied.iter().filter_map(|name| if let Value::Bytes(name) = name { Some(name) } else { None });
        let is_plain = |name: &&Vec<u8>| name.len() <= 20 && name.iter().all(u8::is_ascii_lowercase);
        let denied: Vec<_> = denied.filter(is_plain).map(|name| String::from_utf8_lossy(name)).collect();
        if denied.is_empty() { Ok(()) } else { Err(Refusal::Wrong(not_permitted(&denied.join(", ")))) }
    }

    async fn open(&self, host: &Host) -> Result<(Link, Hello), Refusal> {
        let mut link = Link::open(host, self.tls.as_ref()).await?;
        let hello = greet(&mut link, self.url.login.as_ref()).await?;
        let database = self.url.database();
        if database != 0 {
            link.ask(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok((link, hello))
    }

    /// Where the master of a service is. Sentinels that cannot be reached, or know of none, are passed over.
    async fn ask_sentinels(&self, service: &str, turn: usize) -> Result<Host, Refusal> {
        let hosts = &self.url.hosts;
        let mut last = Refusal::away("no Sentinel can be reached");
        for index in 0..hosts.len() {
            let sentinel = &hosts[(turn + index) % hosts.len()];
            match in_time(PATIENCE, self.ask_sentinel(sentinel, service)).await {
                Ok(master) => return Ok(master),
                // A word about the service says more than a Sentinel that is not there.
                Err(why) if matches!(last, Refusal::Away(_)) => last = why,
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, sentinel: &Host, service: &str) -> Result<Host, Refusal> {
        let mut link = Link::open(sentinel, self.tls.as_ref()).await?;
        let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.as_bytes()];
        let answer = match (link.ask(&question).await, &self.url.login) {
            // Most Sentinels ask for no password. One that does has that of the servers.
            (Err(Refusal::Wrong(_)), Some(login)) => {
                log_in(&mut link, login).await?;
                link.ask(&question).await?
            }
            (answer, _) => answer?,
        };
        match answer {
            Value::Nil => Err(Refusal::Wrong("the Sentinels know no server by the name in the path".to_owned())),
            Value::Array(place) => master(&place).ok_or_else(|| Refusal::away("a Sentinel answered something else")),
            _ => Err(Refusal::away("a Sentinel answered something else")),
        }
    }

    async fn cluster(&self, known: &[Host], turn: usize) -> Result<Connected, Refusal> {
        let stated = self.url.hosts.len();
        let seeds = (0..stated).map(|index| &self.url.hosts[(turn + index) % stated]).chain(known);
        let mut last = Refusal::away("no server of the Redis Cluster can be reached");
        for seed in seeds {
            match in_time(PATIENCE, self.ask_slots(seed)).await {
                Ok(slots) => {
                    let mut servers = Vec::new();
                    for master in &slots.masters {
                        servers.push(self.server(master, true).await?);
                    }
                    return Ok(Connected { servers, slots: Some(slots) });
                }
                Err(why) if matches!(last, Refusal::Away(_)) => last = why,
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn ask_slots(&self, seed: &Host) -> Result<SlotMap, Refusal> {
        let (mut link, hello) = self.open(seed).await?;
        if !hello.is_cluster {
            return Err(Refusal::Wrong("the server is not part of a Redis Cluster: state redis://".to_owned()));
        }
        ask_slots(&mut link, seed).await
    }
}

/// Who serves which slot, as `host` knows it.
pub(super) async fn ask_slots(link: &mut Link, host: &Host) -> Result<SlotMap, Refusal> {
    let answer = link.ask(&[b"CLUSTER", b"SLOTS"]).await?;
    SlotMap::read(&answer, host).ok_or_else(|| Refusal::away("the Redis Cluster does not serve all slots"))
}

async fn in_time<T>(patience: Duration, act: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let too_slow = |_| Err(Refusal::Away(format!("no answer within {} ms", patience.as_millis())));
    timeout(patience, act).await.unwrap_or_else(too_slow)
}

fn master(place: &[Value]) -> Option<Host> {
    let [Value::Bytes(name), Value::Bytes(port)] = place else { return None };
    let port = core::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Host { name: String::from_utf8(name.clone()).ok()?, port })
}

async fn log_in(link: &mut Link, login: &Login) -> Result<(), Refusal> {
    let password = login.password.as_bytes();
    match &login.user {
        Some(user) => link.ask(&[b"AUTH", user.as_bytes(), password]).await?,
        None => link.ask(&[b"AUTH", password]).await?,
    };
    Ok(())
}

/// Agrees on RESP3, as whoever the URL names.
async fn greet(link: &mut Link, login: Option<&Login>) -> Result<Hello, Refusal> {
    let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(Login { user, password }) = login {
        let user = user.as_deref().unwrap_or("default");
        words.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
    }
    words.extend([&b"SETNAME"[..], b"wsguard"]);
    let answer = link.ask(&words).await?;
    let hello = read_hello(&answer).ok_or_else(|| Refusal::Wrong("the server is no Redis".to_owned()))?;
    if hello.version < OLDEST {
        let (major, minor) = hello.version;
        return Err(Refusal::Wrong(format!("the server is Redis {major}.{minor}; at least 6.2 is needed")));
    }
    Ok(hello)
}

fn read_hello(answer: &Value) -> Option<Hello> {
    let Value::Array(fields) = answer else { return None };
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| match pair {
            [Value::Bytes(key), Value::Bytes(value)] if key == name.as_bytes() => core::str::from_utf8(value).ok(),
            _ => None,
        })
    };
    let mut numbers = field("version")?.split('.').map(|number| number.parse::<u32>().ok());
    Some(Hello {
        version: (numbers.next()??, numbers.next().flatten().unwrap_or(0)),
        is_cluster: field("mode") == Some("cluster"),
        is_master: field("role").is_none_or(|role| role == "master"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_version_and_role() {
        let text = |text: &str| Value::Bytes(text.as_bytes().into());
        let fields = ["server", "valkey", "version", "8.1.0-rc1", "mode", "cluster", "role", "replica"].map(text);
        let hello = read_hello(&Value::Array(fields.into())).unwrap();
        assert_eq!((hello.version, hello.is_cluster, hello.is_master), ((8, 1), true, false));
        assert!(read_hello(&Value::Array(vec![text("version"), text("new")])).is_none());
        assert!(read_hello(&Value::Nil).is_none());
    }
}
