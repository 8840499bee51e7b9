//! The server that stands in for the real one while the way to it is examined: on the policy's address, with its TLS and its
//! proxies. It lets in nobody but the doctor, who shows a random number, and tells what it sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use wsguard::options::{Auth, Compression, Protocol};
use wsguard::{ConnectionId, Decision, Event, Handle, Next, Options, Server};

use crate::outcome::Failure;
use crate::policy::with_code;

/// What the doctor's handshake offers.
pub(super) const SUBPROTOCOL: &str = "wsguard.doctor";

/// What the server saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// The doctor's handshake.
    Request(Box<Request>),
    Open {
        conn: ConnectionId,
        ip: Option<IpAddr>,
        /// Who opened the socket.
        peer: Option<SocketAddr>,
    },
    /// The answer to a ping of the server.
    Pong,
    Close {
        code: u16,
    },
    /// A handshake that was refused before anybody was asked.
    Refused {
        verdict: &'static str,
        detail: String,
    },
}

/// A handshake as it came.
#[derive(Debug)]
pub(super) struct Request {
    /// Without the query.
    pub(super) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    #[cfg(test)]
    pub(super) fn new(path: &str, headers: Vec<(String, String)>) -> Self {
        Self { path: path.to_owned(), headers }
    }

    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every header of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The running server; dropping it stops it.
pub(super) struct StandIn {
    pub(super) handle: Handle,
    pub(super) address: String,
    seen: mpsc::Receiver<Seen>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// # Errors
    /// The server does not start: the real one still listens there.
    pub(super) fn start(options: Options, nonce: String) -> Result<Self, Failure> {
        let mut server = Server::start(lenient(options)).map_err(|error| {
            Failure::new(format!(
                "{}; the doctor takes the server's place: stop it meanwhile, or give --listen",
                with_code(&error)
            ))
        })?;
        let (handle, address) = (server.handle(), server.address().to_owned());
        let (told, seen) = mpsc::sync_channel(64);
        let is_over = Arc::<AtomicBool>::default();
        let thread = std::thread::Builder::new().name("wsguard-doctor".into()).spawn({
            let (handle, is_over) = (server.handle(), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    match server.next(Some(Duration::from_millis(50))) {
                        Next::Event(event) => {
                            // What does not fit is a flood of somebody else's.
                            let _ = look(&event, &handle, &nonce).map(|one| told.try_send(one));
                        }
                        Next::TimedOut => {}
                        Next::Stopped => break,
                    }
                }
            }
        })?;
        Ok(Self { handle, address, seen, is_over, thread: Some(thread) })
    }

    /// The next thing seen that `wanted` takes; `None`: it did not come in time.
    pub(super) fn see<T>(&self, within: Duration, wanted: impl Fn(Seen) -> Option<T>) -> Option<T> {
        let deadline = std::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if let Some(found) = wanted(self.seen.recv_timeout(left).ok()?) {
                return Some(found);
            }
        }
    }

    /// Forgets what was seen so far.
    pub(super) fn forget(&self) {
        while self.seen.try_recv().is_ok() {}
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.handle.stop();
        self.thread.take().map(JoinHandle::join);
    }
}

/// The policy's listener, TLS and proxies; the rest lets pass what the proxies make of a handshake, so that it can be told.
fn lenient(given: Options) -> Options {
    let mut options = Options { auth: Some(Auth::Callback), protocol: Protocol::Raw, ..Options::default() };
    options.dangerously_allow_any_origin = true;
    options.missing_origin = wsguard::options::MissingOrigin::Allow;
    options.listen = given.listen;
    options.unix_mode = given.unix_mode;
    options.tls = given.tls;
    options.trusted_proxies = given.trusted_proxies;
    options.proxy_protocol = given.proxy_protocol;
    options.dangerously_allow_plaintext = given.dangerously_allow_plaintext;
    options.max_head_bytes = given.max_head_bytes;
    options.compression = Some(Compression::default());
    options.subprotocols = vec![SUBPROTOCOL.to_owned()];
    // The server's clients come back meanwhile, all of one address behind a proxy that is not believed yet: they get their 401,
    // and the doctor's own handshakes are not those over a limit.
    options.handshakes_per_ip = None;
    options.max_connections_per_ip = options.max_connections;
    options.threads = 1;
    // The pings are the doctor's.
    options.ping_interval_ms = 0;
    options.idle_timeout_ms = 0;
    options
}

fn look(event: &Event<'_>, handle: &Handle, nonce: &str) -> Option<Seen> {
    match event {
        Event::Upgrade(upgrade) => {
            let is_ours = upgrade.request.query.as_deref().is_some_and(|query| query.contains(nonce));
            let decision = if is_ours { Decision::accept("doctor") } else { Decision::reject(401) };
            let _ = handle.answer(upgrade.ticket, decision);
            let request = || Request { path: upgrade.request.path.clone(), headers: upgrade.request.headers.clone() };
            is_ours.then(|| Seen::Request(Box::new(request())))
        }
        Event::Open(open) => Some(Seen::Open { conn: open.conn, ip: open.ip, peer: open.peer }),
        Event::Text(conn, text) => {
            let _ = handle.conn(*conn).plain().send(*text);
            None
        }
        Event::Binary(conn, bytes) => {
            let _ = handle.conn(*conn).plain().send(*bytes);
            None
        }
        Event::Pong { .. } => Some(Seen::Pong),
        Event::Close(close) => Some(Seen::Close { code: close.code }),
        Event::Violation(violation) => {
            Some(Seen::Refused { verdict: violation.code.name(), detail: violation.detail.to_string() })
        }
        _ => None,
    }
}
