//! A Redis for the servers that share one: empty, without a disk, beside the generator, so that the servers keep their core.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wsguard_test_support::process::{Pid, cpu, mortal};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts one and waits until it listens.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = mortal("KILL", "redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut redis = Self { child: command.spawn().context("starting redis-server")?, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = redis.child.try_wait()?;
            ensure!(ended.is_none() && began.elapsed() < PATIENCE, "redis-server does not start: is it installed?");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(redis)
    }

    /// How servers are told of it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// CPU time that it has used, in nanoseconds.
    pub fn cpu_ns(&self) -> Result<u64> {
        Ok(cpu(Pid::from_raw(self.child.id().cast_signed()))?.as_nanos() as u64)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
