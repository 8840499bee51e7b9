//! From accept to the 101: PROXY header, TLS, head, verdict, the application's answer, all against one deadline.
//!
//! The client's address comes first: nothing of a request is counted, refused or logged before the headers are parsed
//! that may tell it. Where a head does not parse, a trusted proxy in front of it stands for a client that nobody knows.
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

use super::caught::said;
use super::clock::Clock;
use super::events::{Open, Upgrade};
use super::listener::{Accepted, Fresh};
use super::log::Subject;
use super::shard::{self, Newcomer, with_shard};
use super::shared::{Life, Shared};
use super::stream::{Socket, Stream};
use super::tickets::{self, Ticket, TicketId};
use super::tls::TlsStream;
use wsguard_proto::auth::{Authenticator, Identity};
use wsguard_proto::client_ip::{self, AddressKey, canonical};
use wsguard_proto::connection::{Opened, Report};
use wsguard_proto::handshake::{
    self, Head, HeadScanner, HealthCheck, NO_HEADERS, Refusal, Subprotocol, UpgradeRequest,
};
use wsguard_proto::limits::{Full, Seat};
use wsguard_proto::proxy_protocol::{self, Progress};
use wsguard_proto::revocation::Grant;
use wsguard_proto::verdict::Code;

/// Handshakes beyond `max_connections` that are kept only to be told so.
const MAX_REFUSING: usize = 1024;
/// How long those may take: for their request, and again to read the answer.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes thrown away behind a refusal before the socket is dropped.
const MAX_LINGER_BYTES: u64 = 256 * 1024;

/// A connection that is not open yet.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one peer")]
struct Opening {
    shared: Arc<Shared>,
    shard: usize,
    /// The address that counts: the client's, or that of a proxy as long as it has not told the client's.
    ip: Option<IpAddr>,
    /// The peer of the socket.
    peer: Option<IpAddr>,
    /// It is the client's.
    knows_client: bool,
    /// Plain text on an address that is not loopback, and the peer is none of the proxies that this is allowed for.
    is_stranger: bool,
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

    /// Whether the handshake is counted, or refused whatever it is.
    fn is_counted(&self) -> bool {
        matches!(self, Place::Refusing { .. } | Place::Seated(_, true))
    }
}

/// Who is let in.
struct Pass {
    identity: Identity,
    /// As of when; `None`: nobody who could be revoked.
    grant: Option<Grant>,
}

/// What a judged head leads to.
enum Judged {
    Granted(Pass, Answer),
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
    Healthy(HealthCheck),
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
    let knows_client = !shared.policy.trusted_proxies.trusts(peer);
    let is_stranger = knows_client && needs_proxy(&shared, &accepted);
    let mut opening = Opening {
        shared,
        shard,
        ip: peer,
        peer,
        knows_client,
        is_stranger,
        place,
        deadline,
        is_ours,
        has_asked: false,
        load,
    };
    if !opening.enter() {
        return;
    }
    let has_proxy_header = opening.shared.policy.proxy_protocol;
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

/// Whether only `trusted_proxies` allow that this connection is plain text.
fn needs_proxy(shared: &Shared, accepted: &Accepted) -> bool {
    let policy = &shared.policy;
    if policy.tls.is_some() || policy.dangerously_allow_plaintext {
        return false;
    }
    match (&accepted.socket, &accepted.received) {
        // Another server listens: what counts is where the connection came in.
        (Fresh::Tcp(tcp), Some(_)) => !tcp.local_addr().is_ok_and(|local| local.ip().to_canonical().is_loopback()),
        _ => shared.is_public,
    }
}

impl Opening {
    fn report(&self, code: Code, detail: &str) {
        self.report_user(code, detail, None);
    }

    fn report_user(&self, code: Code, detail: &str, user: Option<&str>) {
        let subject = Subject { ip: self.ip, peer: self.peer, user, conn: None };
        self.shared
            .tell(self.shard, |events| self.shared.report(&Report { code, event: None, detail }, subject, events));
    }

    /// Counts the address of a client that is known already; `false`: there is not even a place to refuse it in.
    fn enter(&mut self) -> bool {
        if self.knows_client && self.place.enter_address(self.ip, &self.shared) == Err(None) {
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
            if let Place::Refusing { full, .. } = self.place {
                self.report(full.code(), &full.describe(&policy));
                return Err(());
            }
            // Whoever only looks whether the port is open is nobody's violation.
            if let Ok(Ok(_)) = timeout(REFUSAL_PATIENCE, socket.read_u8()).await {
                self.report(Code::ProxyHeaderInvalid, "peer is not in trusted_proxies");
            }
            return Err(());
        }
        match timeout_at(self.deadline, read_proxy_header(socket)).await {
            // Without a source (`LOCAL`, `UNKNOWN`) it is the proxy that speaks for itself.
            Ok(Ok(source)) => {
                self.knows_client = source.is_some();
                self.ip = source.map(canonical).or(self.ip);
                Ok(())
            }
            Ok(Err(detail)) => {
                if let Some(detail) = detail {
                    self.report(Code::ProxyHeaderInvalid, detail);
                }
                Err(())
            }
            Err(_) => {
                let refusal = self.timed_out("no whole PROXY header");
                self.report(refusal.code, &refusal.detail);
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
            Ok(Err(error)) if has_left(&error) => None,
            Ok(Err(error)) => {
                self.report(Code::TlsFailed, &error.to_string());
                None
            }
            Err(_) => {
                let refusal = self.timed_out("no whole TLS handshake");
                self.report(refusal.code, &refusal.detail);
                None
            }
        }
    }

    /// The HTTP part: to an open connection, or to an answer that ends it.
    async fn upgrade(mut self, mut stream: Stream, mut received: Vec<u8>, judged: Option<Judged>) {
        let mut ticket = None;
        let decided = timeout_at(self.deadline, self.decide(judged, &mut stream, &mut received, &mut ticket)).await;
        let ticket = ticket.map(|ticket: Ticket| ticket.id());
        let waits = self.is_ours && self.has_asked && received.is_empty();
        let end = match decided {
            Ok(Ok((pass, answer))) => match self.adopt(pass, answer, ticket, stream, received) {
                Ok(()) => return,
                Err(refused) => {
                    let (opening, stream, refusal) = *refused;
                    return opening.end(stream, &End::Refused(refusal), waits).await;
                }
            },
            Ok(Err(end)) => end,
            Err(_) if ticket.is_some() => {
                let detail = self.too_late("the application did not answer");
                Refusal::new(Code::AuthUnavailable, detail).into()
            }
            Err(_) => self.timed_out("no whole request").into(),
        };
        let end = self.count_late(end);
        self.end(stream, &end, waits).await;
    }

    /// A request that does not parse or never came whole is one all the same: where the client's address could not come
    /// out, it counts as its proxy's.
    fn count_late(&mut self, end: End) -> End {
        match end {
            End::Refused(_) if !self.place.is_counted() => self.count().map_or_else(End::from, |()| end),
            end => end,
        }
    }

    /// Counts the handshake, unless it is already.
    fn count(&mut self) -> Result<(), Refusal> {
        let entered = self.place.enter_address(self.ip, &self.shared);
        entered.map_err(|full| Refusal::full(full.unwrap_or_else(Full::of_refusals), &self.shared.policy))
    }

    fn too_late(&self, missing: &str) -> String {
        format!("{missing} within handshake_timeout_ms ({})", self.shared.policy.handshake_timeout_ms)
    }

    /// What is said of a peer that was too slow. One that was only to be told that there is no place had less time.
    fn timed_out(&self, missing: &str) -> Refusal {
        match self.place {
            Place::Seated(..) => Refusal::new(Code::HandshakeTimeout, self.too_late(missing)),
            Place::Refusing { full, .. } => Refusal::full(full, &self.shared.policy),
        }
    }

    /// Asks the headers who the client is, where a trusted proxy may say so.
    fn learn_client(&mut self, head: &Head<'_>) {
        let policy = &self.shared.policy;
        // With `proxy_protocol` the PROXY header has the word: what the proxy passes on behind it is the client's own.
        if policy.proxy_protocol {
            return;
        }
        let (forwarded, x_forwarded_for) = (head.values("Forwarded"), head.values("X-Forwarded-For"));
        let client = client_ip::client(&policy.trusted_proxies, self.peer, forwarded, x_forwarded_for);
        self.ip = client.ip;
        self.knows_client |= client.is_forwarded;
        if let Some(doubt) = client.doubt {
            self.shared.notices.doubt(self.peer, doubt);
        }
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
            said(|| tracing::debug!(target: "wsguard", %error, "a peer left before it was answered"));
        }
    }

    /// Reports how a handshake ends, and makes the answer; `None`: nobody is there to read one.
    fn response(&self, end: &End) -> Option<Vec<u8>> {
        let policy = &self.shared.policy;
        let mut response = Vec::new();
        match end {
            End::Gone => return None,
            End::Healthy(check) => {
                handshake::health(&mut response, policy, *check, self.shared.life() != Life::Running);
            }
            End::Refused(refusal) => {
                self.report_user(refusal.code, &refusal.detail, refusal.user.as_deref());
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
        ticket: &mut Option<Ticket>,
    ) -> Result<(Pass, Answer), End> {
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
        if self.shared.inbox_is_full() {
            let most = self.shared.policy.max_inbox_bytes;
            let detail = format!("the application does not take its events: max_inbox_bytes ({most}) wait");
            return Err(Refusal::new(Code::AuthUnavailable, detail).into());
        }
        match judged {
            Judged::Granted(pass, answer) => Ok((pass, answer)),
            Judged::Ask(request, answer) => {
                let pass = self.ask(*request, stream, received, ticket).await?;
                Ok((pass, answer))
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
        let mut headers = NO_HEADERS;
        let head = Head::parse(head, &mut headers)?;
        self.learn_client(&head);
        self.has_asked = !head.has_body();
        if let Some(check) = head.health_check() {
            // Whoever asks is answered, but a client that is known has made a request. A proxy that asks for itself is not
            // to be kept from it by clients that nobody knows.
            if self.knows_client {
                let _ = self.count();
            }
            return Err(End::Healthy(check));
        }
        self.count()?;
        if self.is_stranger {
            let detail = "peer is not in trusted_proxies, for which alone plain text is allowed here";
            return Err(Refusal::new(Code::ProxyRequired, detail).into());
        }
        let request = head.request()?;
        let policy = Arc::clone(&self.shared.policy);
        if self.shared.life() != Life::Running {
            return Err(restarting().into());
        }
        let key = handshake::vet(&policy, &request)?;
        let grant = handshake::names_users(&policy).then(|| self.shared.revocations.grant());
        let decision = handshake::authenticate(&policy, &request, Clock::unix_ms() / 1000)?;
        let subprotocol = match handshake::choose_subprotocol(&policy, &request) {
            Subprotocol::Chosen(name) => Some(name),
            Subprotocol::NotOffered => None,
            Subprotocol::NoneKnown => {
                self.shared.notices.unknown_subprotocols(self.shared.clock.now());
                None
            }
        };
        let mut response = Vec::with_capacity(256);
        handshake::accepted(&mut response, &policy, key, subprotocol);
        let answer = Answer { head: response, path: request.path.into(), subprotocol: subprotocol.map(Into::into) };
        Ok(match decision {
            handshake::Decision::Granted(granted) => {
                Judged::Granted(Pass { identity: granted.identity, grant }, answer)
            }
            handshake::Decision::Ask { token } => {
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
        asked: &mut Option<Ticket>,
    ) -> Result<Pass, End> {
        let policy = &self.shared.policy;
        let unavailable = |detail: String| End::Refused(Refusal::new(Code::AuthUnavailable, detail));
        let address = self.ip.map(AddressKey::from);
        let Some((ticket, answer)) = self.shared.tickets.issue(policy.max_pending_auth, address) else {
            let most = policy.max_pending_auth;
            return Err(unavailable(format!("max_pending_auth ({most}) handshakes wait for the application")));
        };
        let upgrade = Upgrade { ticket: ticket.id(), request, _place: ticket.place() };
        *asked = Some(ticket);
        self.shared.tell(self.shard, |events| events.push_upgrade(upgrade));
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = tokio::time::sleep(Duration::from_millis(policy.auth_timeout_ms)) => {
                let timeout = policy.auth_timeout_ms;
                return Err(unavailable(format!("the application did not answer within auth_timeout_ms ({timeout})")));
            }
            () = watch_peer(stream, received, policy.max_head_bytes) => return Err(End::Gone),
        };
        match answer {
            Ok(tickets::Answer::Decided(tickets::Decision::Accept(accept), grant)) => {
                let identity = Identity { user: accept.user, expires_at_unix_ms: accept.expires_at_ms };
                Ok(Pass { identity, grant: Some(grant) })
            }
            Ok(tickets::Answer::Decided(tickets::Decision::Reject(status), _)) => {
                Err(Refusal::new(Code::AuthFailed, "rejected by the application").with_status(status).into())
            }
            Ok(tickets::Answer::Displaced) => Err(unavailable(format!(
                "max_pending_auth ({}) handshakes wait for the application, and this address had most of them",
                policy.max_pending_auth
            ))),
            Err(_) if self.shared.life() != Life::Running => Err(restarting().into()),
            Ok(tickets::Answer::Decided(tickets::Decision::Unavailable, _)) | Err(_) => {
                Err(unavailable("the application failed to answer".to_owned()))
            }
        }
    }

    /// What may still keep out somebody who was let in: the session is over, or was taken back, before it began; the user
    /// has no place left.
    fn seat_user(&mut self, pass: &Pass) -> Result<Option<Arc<str>>, Refusal> {
        let Pass { identity, grant } = pass;
        let name = identity.user.as_deref();
        let Place::Seated(seat, _) = &mut self.place else {
            return Err(Refusal::new(Code::ServerFull, "no place is left"));
        };
        if identity.expires_at_unix_ms.is_some_and(|expires_at| expires_at <= Clock::unix_ms()) {
            return Err(Refusal::new(Code::AuthFailed, "the session has expired before it began"));
        }
        let Some(name) = name else { return Ok(None) };
        if grant.as_ref().is_some_and(|grant| !grant.holds(name)) {
            let detail = "disconnect_user was called after the user was let in";
            return Err(Refusal::new(Code::AuthFailed, detail));
        }
        match seat.enter_user(name, &self.shared.policy, self.shared.clock.now()) {
            Ok(user) => Ok(Some(user)),
            Err(full) => Err(Refusal { user: Some(name.into()), ..Refusal::full(full, &self.shared.policy) }),
        }
    }

    /// Takes the user's place and hands the connection to its shard; a refusal leaves the stream to answer on.
    fn adopt(
        mut self,
        pass: Pass,
        answer: Answer,
        ticket: Option<TicketId>,
        stream: Stream,
        received: Vec<u8>,
    ) -> Result<(), Box<(Self, Stream, Refusal)>> {
        let now = self.shared.clock.now();
        let user = match self.seat_user(&pass) {
            Ok(user) => user,
            Err(refusal) => return Err(Box::new((self, stream, refusal))),
        };
        let Place::Seated(mut seat, _) = self.place else { return Ok(()) };
        seat.opened();
        let rate_limit = self.shared.policy.rate_limit.as_ref();
        let rate_key = rate_limit.map(|rules| seat.rate_key(rules.key, now).unwrap_or_default());
        let expires_at_ms = pass.identity.expires_at_unix_ms;
        let opened = Opened { rate_key, expires_at: Clock::expiry(now, expires_at_ms) };
        let Answer { head, path, subprotocol } = answer;
        let (ip, peer) = (self.ip, self.peer);
        // A revocation from here on finds the connection: its command is carried out by this thread, afterwards. The
        // application, which may come to the open later still, is told by the grant that goes with it.
        let grant = pass.grant;
        let granted = grant.as_ref().map_or(0, Grant::number);
        let newcomer = Newcomer { stream, opened, seat, ip, peer, granted, head, received };
        let told = move |conn| (Open { conn, ticket, ip, user, path, subprotocol, expires_at_ms, granted }, grant);
        if with_shard(|shard| shard.adopt(newcomer, told)) {
            self.load.keep();
        }
        Ok(())
    }
}

/// The answer of a server that takes no one in any more.
fn restarting() -> Refusal {
    Refusal { retry_after_s: Some(1), ..Refusal::new(Code::Draining, "the server is restarting") }
}

/// Reads a PROXY header and not a byte more: what follows belongs to TLS or HTTP. Short reads are the price, paid
/// only where `proxy_protocol` is on.
///
/// An error without words: the peer has left without a byte, as whoever looks whether a port is open does.
async fn read_proxy_header(socket: &mut Socket) -> Result<Option<IpAddr>, Option<&'static str>> {
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy_protocol::parse(&header) {
            Progress::Done { source, .. } => return Ok(source.map(|address| address.ip())),
            Progress::Invalid => return Err(Some("PROXY header is missing or malformed")),
            Progress::NeedMore => match socket.read_u8().await {
                Ok(byte) => header.push(byte),
                Err(_) => return Err((!header.is_empty()).then_some("PROXY header is cut short")),
            },
        }
    }
}

/// Whether a socket failed because the peer is gone: with or without a goodbye, there is nobody to hold to anything.
fn has_left(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
    )
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
