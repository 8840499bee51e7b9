//! One candidate, running: started on its core by the protocol of `docs/HOST.md`, measured from outside, killed when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wsguard_test_support::host::Host;
use wsguard_test_support::process::{Pid, cpu, resident_kib};

use crate::process;
use crate::redis::Redis;

/// How to start a server.
pub struct Start {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The first line of its stdin.
    pub options: Value,
    /// Whether it is a node, or several.
    pub cluster: Option<Cluster>,
    /// Whether clients speak Socket.IO with it.
    pub speaks_socket_io: bool,
}

/// Nodes over a Redis that is started for them.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// How many.
    pub nodes: usize,
    /// Where in the first line Redis is named, as a JSON pointer.
    pub told: &'static str,
}

/// A running server.
pub struct Server {
    /// Ends it when dropped.
    host: Host,
    options: Value,
    stderr: File,
    address: SocketAddr,
    processes: Vec<Pid>,
    speaks_socket_io: bool,
    /// The other node, if there are two.
    other: Option<Box<Server>>,
    redis: Option<Redis>,
}

impl Server {
    /// Starts a server on `core` and waits until it listens.
    pub fn start(start: &Start, core: usize) -> Result<Self> {
        let Some(Cluster { nodes, told }) = start.cluster else { return Self::start_one(start, &start.options, core) };
        let redis = Redis::start()?;
        let mut options = start.options.clone();
        *options.pointer_mut(told).context("nowhere to name Redis")? = redis.url().into();
        let mut server = Self::start_one(start, &options, core)?;
        if nodes == 2 {
            server.other = Some(Box::new(Self::start_one(start, &options, core)?));
        }
        server.redis = Some(redis);
        Ok(server)
    }

    fn start_one(start: &Start, options: &Value, core: usize) -> Result<Self> {
        let (program, arguments) = start.command.split_first().context("a command without a program")?;
        let stderr = tempfile::tempfile()?;
        let mut command = process::pinned(core, program);
        command.args(arguments).stderr(stderr.try_clone()?);
        let started = Host::start(command, options, first_line());
        let (host, answer) = started.with_context(|| complaint(&stderr))?;
        ensure!(answer["type"] == "listening", "{}: the server refused to start: {answer}", complaint(&stderr));
        let (address, processes) = (host.target.address.parse()?, host.group.members());
        let (options, speaks_socket_io) = (options["options"].clone(), start.speaks_socket_io);
        Ok(Self { host, options, stderr, address, processes, speaks_socket_io, other: None, redis: None })
    }

    /// The options it was started with, if it is a host.
    pub fn options(&self) -> &Value {
        &self.options
    }

    /// Whether clients speak Socket.IO with it.
    pub fn speaks_socket_io(&self) -> bool {
        self.speaks_socket_io
    }

    /// The other node.
    pub fn other(&self) -> Option<&Self> {
        self.other.as_deref()
    }

    /// CPU time of the Redis beside it, in nanoseconds.
    pub fn redis_cpu_ns(&self) -> Result<Option<u64>> {
        self.redis.as_ref().map(Redis::cpu_ns).transpose()
    }

    /// Gives a host a command, without waiting for the answer.
    pub fn tell(&mut self, command: &Value) -> Result<()> {
        Ok(self.host.tell(command)?)
    }

    /// Takes the answer to a command, if it has come within so long.
    pub fn answer(&self, within: Duration) -> Option<Value> {
        self.host.event(within, |answer| answer["type"] != "listening")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time it has used so far, user and system, all threads, in nanoseconds; of both nodes, if there are two.
    pub fn cpu_ns(&self) -> Result<u64> {
        let used = self.all_processes().map(|&pid| cpu(pid)).sum::<Result<Duration, _>>()?;
        Ok(used.as_nanos() as u64)
    }

    /// CPU time of the threads that run the application: all but wsguard's shards, in nanoseconds.
    pub fn app_cpu_ns(&self) -> Result<u64> {
        let threads = self.processes.iter().map(|&pid| process::threads(pid)).collect::<Result<Vec<_>>>()?;
        Ok(threads.iter().flatten().filter(|thread| !is_shard(&thread.name)).map(|thread| thread.cpu_ns).sum())
    }

    fn all_processes(&self) -> impl Iterator<Item = &Pid> {
        self.processes.iter().chain(self.other.iter().flat_map(|other| &other.processes))
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        Ok(self.all_processes().map(|&pid| resident_kib(pid)).sum::<Result<u64, _>>()?)
    }

    /// Its resident memory in KiB once it has stopped changing (or after three seconds).
    pub fn settled_kib(&self) -> Result<u64> {
        const STEP: Duration = Duration::from_millis(250);
        const NEAR_KIB: u64 = 64;
        let mut last = self.resident_kib()?;
        for _ in 0..12 {
            thread::sleep(STEP);
            let now = self.resident_kib()?;
            if now.abs_diff(last) <= NEAR_KIB {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// The last it wrote to stderr: what to show when it failed.
    pub fn complaint(&self) -> String {
        complaint(&self.stderr)
    }
}

fn complaint(mut stderr: &File) -> String {
    const TAIL_BYTES: usize = 2000;
    let mut text = Vec::new();
    let _ = stderr.rewind().and_then(|()| stderr.read_to_end(&mut text));
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
    format!("the server's stderr: {}", if tail.trim().is_empty() { "(empty)" } else { tail.trim() })
}

/// Makes an event of the first line, whatever it is. What follows is read, so that the server never blocks on a full pipe, and
/// forgotten, but for what answers a command.
fn first_line() -> impl FnMut(&str) -> Option<Value> {
    let mut is_first = true;
    move |line| {
        let is_first = std::mem::replace(&mut is_first, false);
        if is_first {
            return Some(serde_json::from_str(line).unwrap_or_else(|_| json!({"type": "error", "said": line})));
        }
        let answer: Option<Value> = serde_json::from_str(line).ok();
        answer.filter(|answer| answer["type"] == "done" || answer["type"] == "metrics")
    }
}

/// Whether a thread is one of wsguard's I/O threads: `wsguard-0` and so on. (The Rust host's own are `wsguard-host`.)
fn is_shard(name: &str) -> bool {
    name.strip_prefix("wsguard-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_threads_are_shards() {
        let names = ["wsguard-0", "wsguard-12", "wsguard-host", "node", "wsguard"];
        assert_eq!(names.map(is_shard), [true, true, false, false, false]);
    }
}
