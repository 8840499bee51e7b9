//! The Redis of a cluster that is soaked: it may keep nothing of those who have left.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wsguard_test_support::ensure;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::process::mortal;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `redis-server` that ends with this.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Redis {
    /// An empty one that keeps nothing on disk, on a free port.
    pub(crate) fn start() -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::Builder::new().prefix("wsguard-soak-redis").tempdir()?;
        let log = File::create(directory.path().join("log"))?;
        let mut command = mortal("KILL", "redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let redis = Self { child: command.spawn()?, port, _directory: directory };
        let began = Instant::now();
        while redis.ask(&["PING"]).is_none_or(|answer| answer != ["PONG"]) {
            ensure!(began.elapsed() < PATIENCE, "redis-server does not answer (is it installed?)");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    /// What nodes are told of it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn ask(&self, words: &[&str]) -> Option<Vec<String>> {
        let mut command = Command::new("redis-cli");
        let output =
            command.args(["-p", &self.port.to_string(), "--raw"]).args(words).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // An empty list is an empty line there.
        output.status.success().then(|| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Everybody has left: no user is noted and no room is heard, and what every node hears is what so many nodes hear.
    pub(crate) fn rests(&self, nodes: usize, within: Duration) -> Outcome {
        let began = Instant::now();
        let own = nodes + usize::from(nodes > 0);
        loop {
            let users = self.ask(&["KEYS", "wsguard:*:u:*"]).unwrap_or_else(|| vec!["no answer".into()]);
            let channels = self.ask(&["PUBSUB", "CHANNELS"]).unwrap_or_default();
            if users.is_empty() && channels.len() == own {
                return Ok(());
            }
            ensure!(
                began.elapsed() < within,
                "Redis has not come to rest: users {users:?}, {} channels instead of {own}: {channels:?}",
                channels.len()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
