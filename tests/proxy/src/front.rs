//! A proxy as a process in front of a host, with a configuration made for one test, on loopback ports.

use std::ffi::OsString;
use std::fs::{self, File};
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
use wsguard_test_support::{ensure, fail};

/// The upstream's address in every configuration.
pub(crate) const UPSTREAM: &str = "127.0.0.1:8080";

/// How long a proxy waits for a silent upstream, in every configuration that has such a time.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A policy for a host behind a proxy: it trusts what comes from 127.0.0.1 or its Unix socket.
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

/// A kind of proxy.
pub(crate) trait Proxy {
    /// What it answers while nobody listens behind it; `None`: it closes the connection.
    const WITHOUT_A_HOST: Option<u16>;
    /// Whether it is tried with a host on a Unix socket, too.
    const UNIX: bool = false;
    /// Whether it ends a connection that is silent for a time that its configuration names.
    const CUTS_SILENCE: bool = true;
    /// Whether a client's connection to it outlives a refused upgrade.
    const KEEPS_REFUSED: bool = true;
    /// Whether it passes on what a client sends before the 101, which no client should.
    const PASSES_EARLY_FRAMES: bool = true;
    /// What the host answers to two headers `Origin`: a proxy may make one of them.
    const TWO_ORIGINS: u16 = 400;

    /// Starts one that gives up on a silent upstream after `silence`.
    fn start(ground: &Ground, host: &Host, silence: Duration) -> Outcome<Front>;

    /// The addresses on which the host of a test listens, one after another.
    fn upstreams(ground: &Ground) -> Vec<String> {
        let mut upstreams = vec!["127.0.0.1:0".to_owned()];
        if Self::UNIX {
            upstreams.push(format!("unix:{}", ground.scratch.join("host.socket").display()));
        }
        upstreams
    }
}

/// What a proxy is started with; `FILE` in an argument is its configuration file, `DIRECTORY` its directory.
#[derive(Debug)]
pub(crate) struct Plan<'p> {
    pub(crate) program: &'p Path,
    pub(crate) arguments: &'p [&'p str],
    /// What it reads, with CAPITALS to be replaced.
    pub(crate) configuration: &'p str,
    /// The upstream in its words.
    pub(crate) upstream: &'p str,
    /// Whether it has a port for TLS.
    pub(crate) tls: bool,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Front {
    child: Child,
    directory: PathBuf,
    /// Its plain port.
    pub(crate) plain: Target,
    /// Its TLS port.
    tls: Option<Target>,
}

impl Front {
    pub(crate) fn start(ground: &Ground, plan: &Plan<'_>) -> Outcome<Self> {
        let (plain, secure) = (free_port()?, free_port()?);
        let directory = ground.scratch.join(format!("proxy-{plain}"));
        fs::create_dir_all(&directory)?;
        let place = directory.display().to_string();
        let bundle = directory.join("bundle.pem");
        let (certificate, key) = (ground.certs.path("server.pem"), ground.certs.path("server.key"));
        fs::write(&bundle, [fs::read(&certificate)?, fs::read(&key)?].concat())?;
        let ports = |text: &str| text.replace("PLAIN", &plain.to_string()).replace("SECURE", &secure.to_string());
        let configuration = ports(plan.configuration)
            .replace("DIRECTORY", &place)
            .replace("BUNDLE", &bundle.display().to_string())
            .replace("CERTIFICATE", &certificate)
            .replace("KEY", &key)
            .replace(UPSTREAM, plan.upstream);
        let file = directory.join("configuration");
        fs::write(&file, configuration)?;
        let arguments = plan.arguments.iter().map(|argument| match *argument {
            "FILE" => file.clone().into_os_string(),
            argument => OsString::from(ports(argument).replace("DIRECTORY", &place)),
        });
        let log = File::options().create(true).append(true).open(directory.join("error.log"))?;
        let child = mortal("TERM", plan.program)
            .args(arguments)
            .current_dir(&directory)
            // Caddy keeps things at home.
            .env("HOME", &directory)
            .env("XDG_CONFIG_HOME", &directory)
            .env("XDG_DATA_HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let tls = Target { address: format!("127.0.0.1:{secure}"), tls: Some(ground.certs.client.clone()) };
        let plain = Target::plain(format!("127.0.0.1:{plain}"));
        let mut front = Self { child, directory, plain, tls: plan.tls.then_some(tls) };
        front.wait()?;
        Ok(front)
    }

    fn wait(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.targets().any(|target| target.tcp(Dial::default()).is_err()) {
            ensure!(Instant::now() < deadline, "the proxy does not listen: {}", self.log());
            if let Some(status) = self.child.try_wait()? {
                return fail!("the proxy ended with {status}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its ports: plain, and TLS where it has that.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.plain).chain(&self.tls)
    }

    /// The one with TLS, or else the plain one.
    pub(crate) fn last(&self) -> &Target {
        self.tls.as_ref().unwrap_or(&self.plain)
    }

    /// Its error log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Front {
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
