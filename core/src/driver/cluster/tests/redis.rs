//! Real servers of Redis in directories of their own, on free ports, that end with the test.

use std::borrow::Cow;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wsguard_proto::cluster::resp::{Decoder, Received, encode};
use wsguard_proto::cluster::store::Value;
use wsguard_test_support::debian::provide;
use wsguard_test_support::process::mortal;

/// What a loaded machine may take to do anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A server.
pub(super) struct Redis {
    pub(super) port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    child: Child,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A port that nobody listens on, nor on that of its cluster bus.
fn free_port() -> u16 {
    let find = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let is_free = |port: &u16| *port < 55_000 && TcpListener::bind(("127.0.0.1", *port + 10_000)).is_ok();
    core::iter::repeat_with(find).find(is_free).unwrap()
}

impl Redis {
    /// Starts one, with these lines of configuration as arguments.
    pub(super) fn start(arguments: &[&str]) -> Self {
        Self::start_by(free_port(), arguments)
    }

    fn start_by(port: u16, arguments: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("wsguard-redis-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let child = spawn(port, &directory, &arguments);
        let redis = Self { port, directory, arguments, child };
        redis.wait();
        redis
    }

    /// A Sentinel that watches a server.
    pub(super) fn sentinel(master: &Redis) -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("wsguard-redis-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("sentinel.conf");
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 5000\n",
            master.port
        );
        fs::write(&file, text).unwrap();
        let arguments = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        let child = spawn(port, &directory, &arguments);
        let redis = Self { port, directory, arguments, child };
        redis.wait();
        redis
    }

    /// Ends it at once, as `kill -9` does.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port.
    pub(super) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.arguments);
        self.wait();
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until it answers, whatever that is.
    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.try_ask(&["PING"]), Some(Value::Bytes(_) | Value::Error(_))) {
            assert!(Instant::now() < deadline, "redis-server on port {} does not answer", self.port);
            std::thread::yield_now();
        }
    }

    /// Asks it something, by a connection of its own.
    pub(super) fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|| panic!("{words:?} was not answered"))
    }

    fn try_ask(&self, words: &[&str]) -> Option<Value> {
        if self.arguments.iter().any(|argument| argument == "--tls-port") {
            // Nobody speaks TLS here: that it listens has to do.
            return TcpStream::connect(("127.0.0.1", self.port)).ok().map(|_| Value::Bytes(Vec::new()));
        }
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut bytes = Vec::new();
        encode(words.iter().map(|word| Cow::Borrowed(word.as_bytes())), &mut bytes);
        socket.write_all(&bytes).ok()?;
        let mut decoder = Decoder::default();
        let mut read = [0; 4096];
        loop {
            match decoder.take().ok()? {
                Some(Received::Answer(value)) => return Some(value),
                Some(Received::Push(_)) => {}
                None => match socket.read(&mut read).ok()? {
                    0 => return None,
                    len => decoder.push(&read[..len]),
                },
            }
        }
    }

    /// Asks until the answer is as it should be.
    pub(super) fn ask_until(&self, words: &[&str], is_so: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.ask(words);
            if is_so(&value) {
                return;
            }
            assert!(Instant::now() < deadline, "{words:?} answers {value:?}");
            std::thread::yield_now();
        }
    }
}

fn spawn(port: u16, directory: &std::path::Path, arguments: &[String]) -> Child {
    let program = provide(&["/usr/bin/redis-server"], "redis-server").unwrap();
    let tls = arguments.iter().any(|argument| argument == "--tls-port");
    let mut command = mortal("KILL", program);
    if arguments.first().is_some_and(|first| !first.starts_with("--")) {
        command.arg(&arguments[0]).args(["--port", &port.to_string()]).args(&arguments[1..]);
    } else {
        command.args(["--port", &if tls { 0 } else { port }.to_string()]).args(
            arguments.iter().map(|argument| if argument == "PORT" { port.to_string() } else { argument.clone() }),
        );
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
    }
    command.args(["--bind", "127.0.0.1", "--dir"]).arg(directory);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

/// Three masters of a Redis Cluster, which serve a third of the slots each.
pub(super) fn cluster() -> [Redis; 3] {
    let node = || Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    let nodes = [node(), node(), node()];
    for (node, (first, last)) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
        let epoch = (first + 1).to_string();
        node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        assert_eq!(
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]),
            Value::Bytes(b"OK".into())
        );
        node.ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port.to_string()]);
    }
    for node in &nodes {
        node.ask_until(&["CLUSTER", "INFO"], |value| {
            matches!(value, Value::Bytes(text) if {
                let text = String::from_utf8_lossy(text);
                text.contains("cluster_state:ok") && text.contains("cluster_known_nodes:3") && text.contains("cluster_slots_ok:16384")
            })
        });
    }
    nodes
}
