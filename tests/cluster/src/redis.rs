//! A real `redis-server` in a directory of its own, on a free port of 127.0.0.1. It ends with the test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::{Group, Signal, mortal};
use wsguard_test_support::{ensure, fail};

use crate::resp::{Connection, Reply};

/// How long a server may take to start, or to do what it was asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const SERVER: &str = "/usr/bin/redis-server";

/// A running server, or one that was stopped.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Option<Child>,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    configuration: String,
    /// `--sentinel`.
    is_sentinel: bool,
    /// What the test itself signs in with.
    password: Option<String>,
}

impl Redis {
    /// An empty one that keeps nothing on disk.
    pub(crate) fn start() -> Outcome<Self> {
        Self::start_with("", None)
    }

    /// With lines of configuration, and the password of the user `default` if they set one.
    pub(crate) fn start_with(configuration: &str, password: Option<&str>) -> Outcome<Self> {
        Self::launch(free_port()?, configuration, password, false)
    }

    /// On this port.
    pub(crate) fn start_at(port: u16, configuration: &str) -> Outcome<Self> {
        Self::launch(port, configuration, None, false)
    }

    /// A Sentinel.
    pub(crate) fn start_sentinel(configuration: &str) -> Outcome<Self> {
        Self::launch(free_port()?, configuration, None, true)
    }

    fn launch(port: u16, configuration: &str, password: Option<&str>, is_sentinel: bool) -> Outcome<Self> {
        let mut redis = Self {
            child: None,
            port,
            directory: tempfile::Builder::new().prefix("wsguard-redis").tempdir()?,
            configuration: configuration.to_owned(),
            is_sentinel,
            password: password.map(str::to_owned),
        };
        redis.run()?;
        Ok(redis)
    }

    /// Starts it (again), empty, at the same port.
    pub(crate) fn run(&mut self) -> Outcome {
        ensure!(self.child.is_none(), "it runs already");
        let directory = self.directory.path();
        let mut text = format!("bind 127.0.0.1\nport {}\ndir {}\n", self.port, directory.display());
        if !self.is_sentinel {
            text.push_str("save \"\"\nappendonly no\n");
        }
        text.push_str(&self.configuration);
        let file = directory.join("redis.conf");
        fs::write(&file, text)?;
        let log = File::options().create(true).append(true).open(directory.join("log"))?;
        let mut command = mortal("KILL", SERVER);
        command.arg(&file).args(self.is_sentinel.then_some("--sentinel"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.child = Some(command.spawn()?);
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.ask(&["PING"]), Ok(Reply::Text(pong)) if pong == "PONG") {
            ensure!(Instant::now() < deadline, "redis-server does not answer: {}", self.log());
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                return fail!("redis-server ended with {status}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether it was not killed.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Group::of(child.id()).signal(Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// Stops its process, until `go_on`.
    pub(crate) fn pause(&self) -> Outcome {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> Outcome {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Outcome {
        match &self.child {
            Some(child) => Group::of(child.id()).signal(signal),
            None => fail!("redis-server does not run"),
        }
    }

    /// A connection that has signed in.
    pub(crate) fn connection(&self) -> Outcome<Connection> {
        let mut connection = Connection::open(self.port)?;
        if let Some(password) = &self.password {
            connection.ask(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// One command on a connection of its own.
    pub(crate) fn ask(&self, command: &[&str]) -> Outcome<Reply> {
        self.connection()?.ask(command)
    }

    /// The same by the program that everybody has.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(arguments).stdin(Stdio::null());
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(output.status.success(), "redis-cli {arguments:?}: {text}");
        Ok(text)
    }

    /// Everything that it keeps: each key with all that is in it.
    pub(crate) fn contents(&self) -> Outcome<Vec<(String, Vec<String>)>> {
        let mut connection = self.connection()?;
        let keys = connection.ask(&["KEYS", "*"])?.texts();
        let mut contents = Vec::new();
        for key in keys {
            let kind = connection.ask(&["TYPE", &key])?.text();
            let value = match kind.as_str() {
                "hash" => connection.ask(&["HGETALL", &key])?,
                "zset" => connection.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])?,
                "stream" => connection.ask(&["XRANGE", &key, "-", "+"])?,
                "set" => connection.ask(&["SMEMBERS", &key])?,
                "list" => connection.ask(&["LRANGE", &key, "0", "-1"])?,
                "string" => connection.ask(&["GET", &key])?,
                // It has expired meanwhile.
                _ => continue,
            };
            contents.push((key, value.texts()));
        }
        Ok(contents)
    }

    /// Its log, for a failure's line.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().rev().take(3).collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks again until it is so.
pub(crate) fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome<Duration> {
    let began = Instant::now();
    let mut last = Ok(false);
    while began.elapsed() < within {
        last = is_so();
        if last == Ok(true) {
            return Ok(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let why = last.err().map_or(String::new(), |Failure(why)| format!(": {why}"));
    fail!("{what}: not within {} ms{why}", within.as_millis())
}
