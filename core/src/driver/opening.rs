//! From accept to the 101: PROXY header, TLS, head, verdict, the application's answer, all against one deadline.
//!
//! A refusal is written, the socket's write side is ended, and what still comes is thrown away for a while, so that
//! the answer is not lost to a reset. A peer whose request came whole, and nothing behind it, has nothing more to say
//! before it has its answer: its socket is closed at once.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::clock::Clock;
use super::events::{Open, Upgrade};
use super::listener::{Accepted, Fresh};
use super::log::Subject;
use super::shard::{self, Newcomer, with_shard};
use super::shared::{Life, Shared};
use super::stream::{Socket, Stream};
use super::tickets::{self, TicketId};
use super::tls::TlsStream;
use crate::auth::{Authenticator, Identity};
use crate::client_ip::{AddressKey, canonical, client_address};
use crate::connection::{Opened, Report};
use crate::handshake::{self, HeadScanner, MAX_HEADERS, Refusal, Request, UpgradeRequest};
use crate::limits::{Full, Seat};
use crate::proxy_protocol::{self, Progress};
use crate::verdict::Code;

/// Handshakes beyond `max_connections` that are kept only to be told so.
const MAX_REFUSING: usize = 1024;
/// How long those may take: for their request, and again to read the answer.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes thrown away behind a refusal before the socket is dropped.
const MAX_LINGER_BYTES: u64 = 256 * 1024;

/// A connection that is not open yet.
struct Opening {
    shared: Arc<Shared>,
    shard: usize,
    /// The client's address as far as it is known.
    ip: Option<IpAddr>,
    /// The peer of the socket, or whom the PROXY header names.
    peer: Option<IpAddr>,
    place: Place,
    deadline: Instant,
    /// Nobody else holds the socket: closing it ends the connection.
    is_ours: bool,
    /// A request has come whole, and has no body.
    has_asked: bool,
    load: Load,
}

/// Counts towards the shard's load until the connection is open.
struct Load(Arc<Shared>, usize, bool);

impl Load {
    /// The connection is open: its session counts from now on.
    fn keep(mut self) {
        self.2 = true;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.2 {
            self.0.shards[self.1].load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The connection's place in the limits.
enum Place {
    /// It has one. `true`: its address is counted.
    Seated(Seat, bool),
    /// It will be told that it has none.
    Refusing { full: Full, _place: Refusing },
}

struct Refusing(Arc<Shared>);

impl Drop for Refusing {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// A place for a new connection; `None`: not even one to be refused in.
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        match shared.limits.enter_server(&shared.policy) {
            Ok(seat) => Some(Place::Seated(seat, false)),
            Err(full) => Self::refuse(full, shared),
        }
    }

    fn refuse(full: Full, shared: &Arc<Shared>) -> Option<Self> {
        let refusing = Refusing(Arc::clone(shared));
        let before = shared.refusing.fetch_add(1, Ordering::Relaxed);
        (before < MAX_REFUSING).then_some(Place::Refusing { full, _place: refusing })
    }

    /// Counts the handshake of an address that is now known. An error: it has no place; `None`: not even one to be
    /// refused in.
    fn enter_address(&mut self, ip: Option<IpAddr>, shared: &Arc<Shared>) -> Result<(), Option<Full>> {
        match self {
            Place::Refusing { full, .. } => return Err(Some(*full)),
            Place::Seated(_, true) => return Ok(()),
            Place::Seated(seat, counted) => {
                *counted = true;
                match seat.enter_address(ip.map(AddressKey::from), &shared.policy, shared.clock.now()) {
                    Ok(()) => return Ok(()),
                    Err(full) => *self = Self::refuse(full, shared).ok_or(None)?,
                }
            }
        }
        self.enter_address(ip, shared)
    }
}

/// What a judged head leads to.
enum Judged {
    Granted(Identity, Answer),
    Ask(Box<UpgradeRequest>, Answer),
}

/// The 101 as it will be sent, and what is told of it.
struct Answer {
    head: Vec<u8>,
    path: Box<str>,
    subprotocol: Option<Box<str>>,
}

/// How an opening ends without a connection.
enum End {
    Refused(Refusal),
    Healthy,
    /// The peer left, or the socket failed: nobody to answer.
    Gone,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::Refused(refusal)
    }
}

/// Takes an accepted connection through its opening handshake.
pub(super) async fn open(shared: Arc<Shared>, shard: usize, accepted: Accepted) {
    let load = Load(Arc::clone(&shared), shard, false);
    let deadline = shared.clock.instant(accepted.at.after_millis(shared.policy.handshake_timeout_ms));
    let Some(place) = Place::take(&shared) else { return };
    let peer = accepted.peer.map(canonical);
    let is_ours = accepted.received.is_none();
    let mut opening = Opening { shared, shard, ip: peer, peer, place, deadline, is_ours, has_asked: false, load };
    let has_proxy_header = opening.shared.policy.proxy_protocol;
    if !has_proxy_header && !opening.enter() {
        return;
    }
    let mut received = accepted.received.unwrap_or_default();
    let judged = match opening.judge_at_once(&accepted.socket, &mut received) {
        Some(Err(end)) => return opening.end_at_once(accepted.socket, &end),
        Some(Ok(judged)) => Some(judged),
        None => None,
    };
    let Ok(mut socket) = accepted.socket.arrive() else { return };
    if has_proxy_header && (opening.read_proxy_header(&mut socket).await.is_err() || !opening.enter()) {
        return;
    }
    let Some(stream) = opening.secure(socket).await else { return };
    opening.upgrade(stream, received, judged).await;
}

impl Opening {
    fn report(&self, code: Code, detail: &str) {
        let subject = Subject { ip: self.ip, user: None, conn: None };
        self.shared
            .tell(self.shard, |events| self.shared.report(&Report { code, event: None, detail }, subject, events));
    }

    /// Counts the address of a direct peer; `false`: there is not even a place to refuse it in.
    fn enter(&mut self) -> bool {
        let behind_proxy = self.shared.policy.trusted_proxies.trusts(self.peer);
        if !behind_proxy && self.place.enter_address(self.ip, &self.shared) == Err(None) {
            return false;
        }
        if matches!(self.place, Place::Refusing { .. }) {
            self.deadline = self.deadline.min(Instant::now() + REFUSAL_PATIENCE);
        }
        true
    }

    /// Judges a request that came whole together with its connection, and nothing behind it: a refusal then costs
    /// neither a place in the runtime nor a second look at the socket. `None`: it takes the long way.
    fn judge_at_once(&mut self, socket: &Fresh, received: &mut Vec<u8>) -> Option<Result<Judged, End>> {
        let policy = Arc::clone(&self.shared.policy);
        let is_expensive = matches!(policy.authenticator, Authenticator::Jwt(_));
        if !self.is_ours || policy.proxy_protocol || self.shared.tls.is_some() || is_expensive {
            return None;
        }
        if socket.read(received, policy.max_head_bytes).ok()? == 0 {
            return Some(Err(End::Gone));
        }
        if HeadScanner::default().scan(received, policy.max_head_bytes).ok()?? < received.len() {
            return None;
        }
        let judged = self.judge(received, None);
        if !self.has_asked {
            return None;
        }
        received.clear();
        Some(judged)
    }

    /// PROXY protocol: required, and from a trusted peer only (THREATS H23). Anything else is dropped unanswered.
    async fn read_proxy_header(&mut self, socket: &mut Socket) -> Result<(), ()> {
        let policy = Arc::clone(&self.shared.policy);
        if !policy.trusted_proxies.trusts(self.peer) {
            self.report(Code::ProxyHeaderInvalid, "peer is not in trusted_proxies");
            return Err(());
        }
        match timeout_at(self.deadline, read_proxy_header(socket)).await {
            Ok(Ok(source)) => {
                self.peer = source.map(canonical).or(self.peer);
                self.ip = self.peer;
                Ok(())
            }
            Ok(Err(detail)) => {
                self.report(Code::ProxyHeaderInvalid, detail);
                Err(())
            }
            Err(_) => {
                self.report(Code::HandshakeTimeout, "no whole PROXY header within handshake_timeout_ms");
                Err(())
            }
        }
    }

    /// TLS, where the policy has it.
    async fn secure(&self, socket: Socket) -> Option<Stream> {
        let Some(config) = &self.shared.tls else { return Some(Stream::Plain(socket)) };
        if matches!(self.place, Place::Refusing { .. }) && !self.shared.may_refuse_over_tls() {
            return None;
        }
        let config = Arc::clone(&*config.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let accept = async {
            socket.readable().await?;
            shard::expensive_step().await;
            TlsStream::accept(config, socket).await
        };
        match timeout_at(self.deadline, accept).await {
            Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Ok(Err(error)) => {
                self.report(Code::TlsFailed, &error.to_string());
                None
            }
            Err(_) => {
                self.report(Code::HandshakeTimeout, "tls did not end within handshake_timeout_ms");
                None
            }
        }
    }

    /// The HTTP part: to an open connection, or to an answer that ends it.
    async fn upgrade(mut self, mut stream: Stream, mut received: Vec<u8>, judged: Option<Judged>) {
        let mut ticket = None;
        let decided = timeout_at(self.deadline, self.decide(judged, &mut stream, &mut received, &mut ticket)).await;
        if let Some(ticket) = ticket {
            self.shared.tickets.withdraw(ticket);
        }
        let waits = self.is_ours && self.has_asked && received.is_empty();
        let end = match decided {
            Ok(Ok((identity, answer))) => match self.adopt(identity, answer, ticket, stream, received) {
                Ok(()) => return,
                Err(refused) => {
                    let (opening, stream, refusal) = *refused;
                    return opening.end(stream, &End::Refused(refusal), waits).await;
                }
            },
            Ok(Err(end)) => end,
            Err(_) if ticket.is_some() => {
                Refusal::new(Code::AuthUnavailable, "the application did not answer in time").into()
            }
            Err(_) => Refusal::new(Code::HandshakeTimeout, "no whole request within handshake_timeout_ms").into(),
        };
        self.end(stream, &end, waits).await;
    }

    /// Answers a handshake that does not become a connection. `waits`: the peer says nothing more before it is answered.
    async fn end(self, stream: Stream, end: &End, waits: bool) {
        let mut stream = match stream {
            Stream::Plain(socket) if waits => {
                if let Ok(socket) = Fresh::depart(socket) {
                    self.end_at_once(socket, end);
                }
                return;
            }
            stream => stream,
        };
        let Some(response) = self.response(end) else { return };
        let close_timeout = Duration::from_millis(self.shared.policy.close_timeout_ms);
        let patience = match self.place {
            Place::Seated(..) => close_timeout,
            Place::Refusing { .. } => REFUSAL_PATIENCE.min(close_timeout),
        };
        let _ = timeout(patience, end_with(&mut stream, &response)).await;
    }

    /// Answers a peer that waits for nothing else.
    fn end_at_once(&self, socket: Fresh, end: &End) {
        if let Some(response) = self.response(end)
            && let Err(error) = socket.end_with(&response)
        {
            tracing::debug!(target: "wsguard", %error, "a peer left before it was answered");
        }
    }

    /// Reports how a handshake ends, and makes the answer; `None`: nobody is there to read one.
    fn response(&self, end: &End) -> Option<Vec<u8>> {
        let policy = &self.shared.policy;
        let mut response = Vec::new();
        match end {
            End::Gone => return None,
            End::Healthy => handshake::health(&mut response, policy, self.shared.life() != Life::Running),
            End::Refused(refusal) => {
                self.report(refusal.code, &refusal.detail);
                handshake::refused(&mut response, policy, refusal);
            }
        }
        Some(response)
    }

    /// Reads the head, judges it, and asks the application where the policy says so.
    async fn decide(
        &mut self,
        judged: Option<Judged>,
        stream: &mut Stream,
        received: &mut Vec<u8>,
        ticket: &mut Option<TicketId>,
    ) -> Result<(Identity, Answer), End> {
        let judged = match judged {
            Some(judged) => judged,
            None => {
                let head_len = self.read_head(stream, received).await?;
                if matches!(self.shared.policy.authenticator, Authenticator::Jwt(_)) {
                    shard::expensive_step().await;
                }
                let judged = self.judge(&received[..head_len], Some(stream));
                received.drain(..head_len);
                judged?
            }
        };
        match judged {
            Judged::Granted(identity, answer) => Ok((identity, answer)),
            Judged::Ask(request, answer) => {
                let identity = self.ask(*request, stream, received, ticket).await?;
                Ok((identity, answer))
            }
        }
    }

    async fn read_head(&self, stream: &mut Stream, received: &mut Vec<u8>) -> Result<usize, End> {
        let max_head_bytes = self.shared.policy.max_head_bytes;
        let mut scanner = HeadScanner::default();
        loop {
            if let Some(len) = scanner.scan(received, max_head_bytes)? {
                return Ok(len);
            }
            if read_some(stream, received, max_head_bytes).await == 0 {
                return Err(End::Gone);
            }
        }
    }

    /// Everything that needs no waiting, in the order of the contract.
    fn judge(&mut self, head: &[u8], stream: Option<&Stream>) -> Result<Judged, End> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let request = Request::parse(head, &mut headers)?;
        self.has_asked = true;
        if request.is_health_check() {
            return Err(End::Healthy);
        }
        let policy = Arc::clone(&self.shared.policy);
        let (forwarded, x_forwarded_for) = (request.values("Forwarded"), request.values("X-Forwarded-For"));
        self.ip = client_address(&policy.trusted_proxies, self.peer, forwarded, x_forwarded_for);
        if let Err(full) = self.place.enter_address(self.ip, &self.shared) {
            let crowded = Full { code: Code::ServerFull, retry_after_s: 1 };
            return Err(Refusal::from(full.unwrap_or(crowded)).into());
        }
        if self.shared.life() != Life::Running {
            let refusal = Refusal::new(Code::Draining, "the server is restarting");
            return Err(Refusal { retry_after_s: Some(1), ..refusal }.into());
        }
        let key = handshake::vet(&policy, &request)?;
        let decision = handshake::authenticate(&policy, &request, Clock::unix_ms() / 1000)?;
        let (handshake::Decision::Granted(handshake::Granted { answers_bearer, .. })
        | handshake::Decision::Ask { answers_bearer, .. }) = &decision;
        let subprotocol = handshake::choose_subprotocol(&policy, &request, *answers_bearer);
        let mut response = Vec::with_capacity(256);
        handshake::accepted(&mut response, &policy, key, subprotocol);
        let answer = Answer { head: response, path: request.path.into(), subprotocol: subprotocol.map(Into::into) };
        Ok(match decision {
            handshake::Decision::Granted(granted) => Judged::Granted(granted.identity, answer),
            handshake::Decision::Ask { token, .. } => {
                let certificate = stream.and_then(Stream::peer_certificate);
                Judged::Ask(Box::new(request.snapshot(self.ip, token, certificate)), answer)
            }
        })
    }

    /// Asks the application (THREATS A4 to A6). Meanwhile the peer may leave, or send up to `max_head_bytes`.
    async fn ask(
        &self,
        request: UpgradeRequest,
        stream: &mut Stream,
        received: &mut Vec<u8>,
        asked: &mut Option<TicketId>,
    ) -> Result<Identity, End> {
        let policy = &self.shared.policy;
        let unavailable = |detail| End::Refused(Refusal::new(Code::AuthUnavailable, detail));
        let Some((ticket, answer)) = self.shared.tickets.issue(policy.max_pending_auth) else {
            return Err(unavailable("too many handshakes wait for the application (max_pending_auth)"));
        };
        *asked = Some(ticket);
        self.shared.tell(self.shard, |events| events.push_upgrade(Upgrade { ticket, request }));
        let decision = tokio::select! {
            biased;
            decision = answer => decision.unwrap_or(tickets::Decision::Unavailable),
            () = tokio::time::sleep(Duration::from_millis(policy.auth_timeout_ms)) => {
                return Err(unavailable("the application did not answer within auth_timeout_ms"));
            }
            () = watch_peer(stream, received, policy.max_head_bytes) => return Err(End::Gone),
        };
        match decision {
            tickets::Decision::Accept(accept) => {
                Ok(Identity { user: accept.user, expires_at_unix_ms: accept.expires_at_ms })
            }
            tickets::Decision::Reject(status) => {
                Err(Refusal::new(Code::AuthFailed, "rejected by the application").with_status(status).into())
            }
            tickets::Decision::Unavailable => Err(unavailable("the application failed to answer")),
        }
    }

    /// Takes the user's place and hands the connection to its shard; a refusal leaves the stream to answer on.
    fn adopt(
        mut self,
        identity: Identity,
        answer: Answer,
        ticket: Option<TicketId>,
        stream: Stream,
        received: Vec<u8>,
    ) -> Result<(), Box<(Self, Stream, Refusal)>> {
        let now = self.shared.clock.now();
        let policy = &self.shared.policy;
        let Place::Seated(seat, _) = &mut self.place else {
            return Err(Box::new((self, stream, Refusal::new(Code::ServerFull, "no place is left"))));
        };
        let user = match identity.user.map(|user| seat.enter_user(&user, policy, now)).transpose() {
            Ok(user) => user,
            Err(full) => return Err(Box::new((self, stream, Refusal::from(full)))),
        };
        let rate_key = policy.rate_limit.as_ref().map(|rules| seat.rate_key(rules.key, now).unwrap_or_default());
        let opened = Opened { rate_key, expires_at: Clock::expiry(now, identity.expires_at_unix_ms) };
        let Answer { head, path, subprotocol } = answer;
        let told = move |conn| Open { conn, ticket, ip: self.ip, user, path, subprotocol };
        let Place::Seated(seat, _) = self.place else { return Ok(()) };
        let ip = self.ip;
        if with_shard(|shard| shard.adopt(Newcomer { stream, opened, seat, ip, head, received }, told)) {
            self.load.keep();
        }
        Ok(())
    }
}

/// Reads a PROXY header and not a byte more: what follows belongs to TLS or HTTP. Short reads are the price, paid
/// only where `proxy_protocol` is on.
async fn read_proxy_header(socket: &mut Socket) -> Result<Option<IpAddr>, &'static str> {
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy_protocol::parse(&header) {
            Progress::Done { source, .. } => return Ok(source.map(|address| address.ip())),
            Progress::Invalid => return Err("PROXY header is missing or malformed"),
            Progress::NeedMore => match socket.read_u8().await {
                Ok(byte) => header.push(byte),
                Err(_) => return Err("PROXY header is cut short"),
            },
        }
    }
}

/// Reads what is there, as long as fewer than `most` bytes are kept; 0: the peer is gone.
async fn read_some(stream: &mut Stream, received: &mut Vec<u8>, most: usize) -> usize {
    received.reserve(1024);
    let room = most.saturating_sub(received.len()) as u64;
    stream.take(room).read_buf(received).await.unwrap_or(0)
}

/// Returns when the peer leaves; keeps what it sends early, up to `most` bytes (THREATS H24).
async fn watch_peer(stream: &mut Stream, received: &mut Vec<u8>, most: usize) {
    while received.len() < most {
        if read_some(stream, received, most).await == 0 {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Writes the last bytes, ends the write side, and throws away what still comes.
async fn end_with(stream: &mut Stream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    let mut sink = [0; 1024];
    let mut left = MAX_LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut sink).await? {
            0 => break,
            read => left = left.saturating_sub(read as u64),
        }
    }
    Ok(())
}
