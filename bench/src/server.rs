//! One candidate, running: started on its core by the protocol of `HOST.md`, measured from outside, killed when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process;

/// How long a server may take from its start to its `listening` line.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How to start a server.
pub struct Start {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The first line of its stdin.
    pub options: Value,
}

/// A running server.
pub struct Server {
    child: Child,
    /// Kept open: the end of its stdin tells a host to end.
    stdin: ChildStdin,
    stderr: File,
    address: SocketAddr,
    processes: Vec<Pid>,
}

impl Server {
    /// Starts a server on `core` and waits until it listens.
    pub fn start(start: &Start, core: usize) -> Result<Self> {
        let (program, arguments) = start.command.split_first().context("a command without a program")?;
        let stderr = tempfile::tempfile()?;
        let mut child = process::pinned(core, program).args(arguments).stderr(stderr.try_clone()?).spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        // From here on, dropping the value ends the process, whatever fails below.
        let unspecified = SocketAddr::from(([0; 4], 0));
        let mut server = Self { child, stdin, stderr, address: unspecified, processes: Vec::new() };
        server.address = server.greet(&start.options, stdout).with_context(|| server.complaint())?;
        server.processes = process::family(server.pid());
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time it has used so far, user and system, all threads, in nanoseconds.
    pub fn cpu_ns(&self) -> Result<u64> {
        self.processes.iter().map(|&pid| process::cpu_ns(pid)).sum()
    }

    /// CPU time of the threads that run the application: all but wsguard's shards, in nanoseconds.
    pub fn app_cpu_ns(&self) -> Result<u64> {
        let threads = self.processes.iter().map(|&pid| process::threads(pid)).collect::<Result<Vec<_>>>()?;
        Ok(threads.iter().flatten().filter(|thread| !is_shard(&thread.name)).map(|thread| thread.cpu_ns).sum())
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        self.processes.iter().map(|&pid| process::resident_kib(pid)).sum()
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
        const TAIL_BYTES: usize = 2000;
        let mut text = Vec::new();
        let mut file = &self.stderr;
        let _ = file.rewind().and_then(|()| file.read_to_end(&mut text));
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
        format!("the server's stderr: {}", if tail.trim().is_empty() { "(empty)" } else { tail.trim() })
    }

    fn greet(&mut self, options: &Value, stdout: ChildStdout) -> Result<SocketAddr> {
        writeln!(self.stdin, "{options}").context("the server took no options")?;
        let line = first_line(stdout).recv_timeout(START_TIMEOUT).context("the server did not say where it listens")?;
        let reply: Value = serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
        match (reply["type"].as_str(), reply["addr"].as_str()) {
            (Some("listening"), Some(address)) => Ok(address.parse()?),
            _ => bail!("the server refused to start: {reply}"),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its process group: a start script goes together with what it started.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Gives the first line, then reads on to the end, so that the server never blocks on a full pipe.
fn first_line(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
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
