//! Several `redis-server`s as one: a master with replicas that three Sentinels watch, and a Redis Cluster.

pub(crate) mod cases;

use std::fmt::Write as _;
use std::time::Duration;

use wsguard_test_support::ensure;
use wsguard_test_support::outcome::{Failure, Outcome};

use crate::redis::{PATIENCE, Redis, free_port, until};
use crate::resp::Reply;

/// What Sentinels call the master.
const SERVICE: &str = "wsguard-test";

/// A master, a replica, and three Sentinels.
#[derive(Debug)]
pub(crate) struct Watched {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Watched {
    pub(crate) fn start() -> Outcome<Self> {
        let master = Redis::start()?;
        let replica = Redis::start_with(&format!("replicaof 127.0.0.1 {}\n", master.port), None)?;
        let watch = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 6000\n",
            master.port
        );
        let sentinels = (0..3).map(|_| Redis::start_sentinel(&watch)).collect::<Outcome<Vec<_>>>()?;
        let watched = Self { servers: vec![master, replica], sentinels };
        until("the Sentinels know one another and the replica", PATIENCE, || {
            watched.sentinels.iter().try_fold(true, |all, sentinel| {
                let known = sentinel.ask(&["SENTINEL", "MASTER", SERVICE])?.texts();
                let fact = |name: &str| {
                    let at = known.iter().position(|word| word == name)?;
                    known.get(at + 1).cloned()
                };
                let (others, replicas) = (fact("num-other-sentinels"), fact("num-slaves"));
                Ok(all && others.as_deref() == Some("2") && replicas.as_deref() == Some("1"))
            })
        })?;
        Ok(watched)
    }

    /// How a node is told of it.
    pub(crate) fn url(&self) -> String {
        let hosts = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
        format!("redis+sentinel://{}/{SERVICE}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The port of the master, as the Sentinels have it.
    pub(crate) fn master(&self) -> Outcome<u16> {
        let reply = self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])?.texts();
        let port = reply.get(1).and_then(|port| port.parse().ok());
        port.ok_or_else(|| Failure(format!("the Sentinels name no master: {reply:?}")))
    }

    /// Kills the master and waits for the next one.
    pub(crate) fn fail_over(&mut self) -> Outcome<Duration> {
        let old = self.master()?;
        if let Some(master) = self.servers.iter_mut().find(|server| server.port == old) {
            master.kill();
        }
        until("the Sentinels have another master", Duration::from_secs(40), || {
            let new = self.master()?;
            let server = self.servers.iter().find(|server| server.port == new && new != old);
            let role = server.map(|server| server.ask(&["ROLE"])).transpose()?;
            Ok(role.is_some_and(|role| role.text() == "master"))
        })
    }

    /// A command for the master of the moment.
    pub(crate) fn ask(&self, command: &[&str]) -> Outcome<Reply> {
        let port = self.master()?;
        let server = self.servers.iter().find(|server| server.port == port);
        server.ok_or_else(|| Failure("the master is not ours".into()))?.ask(command)
    }
}

/// A Redis Cluster: three masters, each with a replica.
#[derive(Debug)]
pub(crate) struct Sharded {
    pub(crate) servers: Vec<Redis>,
}

impl Sharded {
    pub(crate) fn start() -> Outcome<Self> {
        let servers = (0..6)
            .map(|_| {
                let (port, bus) = (free_port()?, free_port()?);
                let configuration = format!(
                    "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 2000\n\
                     cluster-port {bus}\ncluster-require-full-coverage yes\nrepl-diskless-sync-delay 0\n"
                );
                Redis::start_at(port, &configuration)
            })
            .collect::<Outcome<Vec<_>>>()?;
        let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect::<Vec<_>>();
        let mut command = vec!["--cluster", "create"];
        command.extend(addresses.iter().map(String::as_str));
        command.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        servers[0].cli(&command)?;
        let sharded = Self { servers };
        sharded.until_whole(6)?;
        Ok(sharded)
    }

    /// Waits until every server that runs says that every slot is served, and knows this many servers that are well.
    fn until_whole(&self, well: usize) -> Outcome<Duration> {
        until("the Redis Cluster is whole", Duration::from_secs(60), || {
            self.servers.iter().filter(|server| server.runs()).try_fold(true, |all, server| {
                let state = server.ask(&["CLUSTER", "INFO"])?.text();
                let nodes = server.ask(&["CLUSTER", "NODES"])?.text();
                let linked = nodes.lines().filter(|line| !line.contains("fail") && line.contains("connected")).count();
                let replicas = nodes.lines().filter(|line| line.contains("slave") && !line.contains("fail")).count();
                Ok(all && state.contains("cluster_state:ok") && linked >= well && replicas + 3 >= well)
            })
        })
    }

    /// How a node is told of it.
    pub(crate) fn url(&self) -> String {
        let mut url = "redis+cluster://".to_owned();
        for (index, server) in self.servers.iter().take(3).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(url, "{comma}127.0.0.1:{}", server.port);
        }
        url
    }

    /// The index of the master of a key.
    pub(crate) fn master_of(&self, key: &str) -> Outcome<usize> {
        let mut found = None;
        for (index, server) in self.servers.iter().enumerate().filter(|(_, server)| server.runs()) {
            // Whoever has not the slot says who has; a replica says who its master is.
            if !matches!(server.ask(&["EXISTS", key])?, Reply::Error(_)) {
                found = Some(index);
            }
        }
        found.ok_or_else(|| Failure(format!("nobody serves {key}")))
    }

    /// Kills a master and waits until its replica serves its slots.
    pub(crate) fn kill_master_of(&mut self, key: &str) -> Outcome<Duration> {
        let master = self.master_of(key)?;
        let port = self.servers[master].port;
        self.servers[master].kill();
        let took = until("a replica serves the slots", Duration::from_secs(60), || {
            Ok(self.master_of(key).is_ok_and(|now| self.servers[now].port != port))
        })?;
        let whole = self.until_whole(5)?;
        ensure!(!self.servers[master].runs(), "the killed one runs");
        Ok(took + whole)
    }
}
