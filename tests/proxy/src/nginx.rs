//! nginx as a process, with a configuration made for one test, on loopback ports.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use wsguard_test_support::client::{ORIGIN, PATIENCE};
use wsguard_test_support::honest::TOKEN;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::process::{Group, Signal, mortal};
use wsguard_test_support::setup::Setup;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};
use wsguard_test_support::{debian, ensure, fail};

const PROGRAM: &[&str] = &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
const STREAM: &[&str] =
    &["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/share/nginx/modules/ngx_stream_module.so"];

/// The configuration that the README of this directory recommends, with the test's paths and ports.
const HTTP: &str = include_str!("../http.conf");
const PROXY_PROTOCOL: &str = include_str!("../stream.conf");

/// A policy for a host behind this nginx: it trusts what comes from 127.0.0.1 or its Unix socket.
pub(crate) fn policy() -> Setup {
    Setup::new(json!({
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": TOKEN, "user": "honest"}]},
        "events": {"echo": {}, "say": {}, "close": {}},
        "rate_limit": {"per_second": 100_000, "burst": 100_000, "bytes_per_second": 100_000_000},
        "handshakes_per_ip": null,
        "trusted_proxies": ["127.0.0.1", "unix"],
    }))
}

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    directory: PathBuf,
    /// Its plain port.
    pub(crate) plain: Target,
    /// Its TLS port.
    pub(crate) tls: Target,
}

impl Nginx {
    /// As an HTTP proxy; it gives up on a silent upstream after `read_timeout`.
    pub(crate) fn http(ground: &Ground, host: &Host, read_timeout: Duration) -> Outcome<Self> {
        let settings = HTTP.replace("60s", &format!("{}ms", read_timeout.as_millis()));
        Self::start(ground, &settings, host)
    }

    /// As a TCP proxy that speaks the PROXY protocol to the host.
    pub(crate) fn stream(ground: &Ground, host: &Host) -> Outcome<Self> {
        let module = debian::provide(STREAM, "libnginx-mod-stream")?;
        Self::start(ground, &PROXY_PROTOCOL.replace("MODULE", &module.display().to_string()), host)
    }

    fn start(ground: &Ground, settings: &str, host: &Host) -> Outcome<Self> {
        let program = debian::provide(PROGRAM, "nginx")?;
        let (plain, secure) = (free_port()?, free_port()?);
        let directory = ground.scratch.join(format!("nginx-{plain}"));
        fs::create_dir_all(&directory)?;
        // As root its worker would become a user who may not open the host's socket.
        let user = if debian::is_root() { "user root;" } else { "" };
        let configuration = settings
            .replace("USER", user)
            .replace("DIRECTORY", &directory.display().to_string())
            .replace("CERTIFICATE", &ground.certs.path("server.pem"))
            .replace("KEY", &ground.certs.path("server.key"))
            .replace("PLAIN", &plain.to_string())
            .replace("SECURE", &secure.to_string())
            .replace("UPSTREAM", &host.target.address);
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration)?;
        let child = mortal("TERM", program)
            .arg("-p")
            .arg(&directory)
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(directory.join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let plain = Target::plain(format!("127.0.0.1:{plain}"));
        let tls = Target { address: format!("127.0.0.1:{secure}"), tls: Some(ground.certs.client.clone()) };
        let mut nginx = Self { child, directory, plain, tls };
        nginx.wait()?;
        Ok(nginx)
    }

    fn wait(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.plain.tcp(Dial::default()).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not listen: {}", self.log());
            if let Some(status) = self.child.try_wait()? {
                return fail!("nginx ended with {status}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its error log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Group::of(self.child.id()).signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A port that nobody listens on now.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A place for a host's Unix socket.
pub(crate) fn socket_path(scratch: &Path) -> PathBuf {
    scratch.join("host.socket")
}
