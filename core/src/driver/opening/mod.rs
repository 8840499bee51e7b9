//! From accept to the 101: PROXY header, TLS, head, verdict, the application's answer, all against one deadline.
//!
//! The client's address comes first: nothing of a request is counted, refused or logged before the headers are parsed
//! that may tell it. Where a head does not parse, a trusted proxy in front of it stands for a client that nobody knows.
//!
//! A refusal is written, the socket's write side is ended, and what still comes is thrown away for a while, so that
//! the answer is not lost to a reset. A peer whose request came whole, and nothing behind it, has nothing more to say
//! before it has its answer: its socket is closed at once.
//!
//! Sessions live long, and are allocated while handshakes are in flight. What a handshake holds is therefore small, and freed
//! before its session is made: otherwise a burst of handshakes would leave holes between the sessions that nothing fills.

mod admission;
mod asked;
mod entering;
mod keys;
mod lingering;
mod proxy_header;
mod request;
#[cfg(all(test, unix))]
mod sizes;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use self::admission::{Admission, NotAdmitted};
use self::asked::Asked;
use self::lingering::{end_with, has_left};
use self::request::restarting;
use super::accepted::{Accepted, UnregisteredSocket};
use super::adopted::{Adopted, Tag};
use super::caught::said;
use super::clock::Clock;
use super::durations::Timing;
use super::events::Open;
use super::handshake_id::HandshakeId;
use super::level::HeldOne;
use super::log::{Proof, Subject};
use super::nodes::Entered;
use super::shard::{self, NewSession, with_shard};
use super::socket::Socket;
use super::state::{Effect, Life, ServerState};
use super::stream::Stream;
use super::tls::{ServerTls, TlsStream};
use wsguard_proto::auth::{Claims, CredentialId, Identity, Jwks};
use wsguard_proto::client_ip::canonical;
use wsguard_proto::config::{Admitted, Gone, Params, Policy, PolicySet};
use wsguard_proto::connection::{Opened as ConnectionParams, Report};
use wsguard_proto::deflate::AcceptedOffer;
use wsguard_proto::handshake::{self, Facts, HealthCheck, Offers, Refusal, Reported, ResponseHeaders, UpgradeRequest};
use wsguard_proto::limits::{Full, RateKey};
use wsguard_proto::revocation::Grant;
use wsguard_proto::roles::Roles;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// How long a handshake without a place may take: for its request, and again to read the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is not open yet.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one peer")]
struct OpeningHandshake {
    id: HandshakeId,
    state: Arc<ServerState>,
    shard: usize,
    /// What it began with.
    set: Arc<PolicySet>,
    /// That of the top until the path is known.
    policy: Arc<Policy>,
    tls: Option<Arc<ServerTls>>,
    /// The address that counts: the client's, or that of a proxy as long as it has not told the client's.
    ip: Option<IpAddr>,
    /// The peer of the socket.
    peer: Option<IpAddr>,
    /// The port that the client has, where that is known.
    port: Option<u16>,
    /// The peer of the socket, with its port.
    peer_address: Option<SocketAddr>,
    /// The address that the connection came in on, where that is not to be asked of the socket.
    local: Option<SocketAddr>,
    /// What the application knows it by, where another server accepted it.
    tag: Option<Tag>,
    /// `ip` is the client's address.
    knows_client: bool,
    /// Plain text on an address that is not loopback, and the peer is none of the proxies that this is allowed for.
    is_stranger: bool,
    admission: Admission,
    accepted_at: Moment,
    deadline: Instant,
    /// We own the socket exclusively: closing it ends the connection.
    is_ours: bool,
    /// The whole request was received, and has no body.
    has_asked: bool,
    /// The last read of the request took all that there was room for: more may wait behind it.
    may_say_more: bool,
    /// It is counted for its route: one that waits for keys is judged more than once.
    has_route: bool,
    /// The key that its token names is waited for no more.
    no_key_comes: bool,
    /// The request is a `HEAD`.
    is_head: bool,
    load: HeldOne,
}

/// The session that is granted.
struct Granted {
    /// The application has said who it is.
    by_application: bool,
    identity: Identity,
    /// When it was granted, by the count of revocations; `None` where sessions name no user.
    grant: Option<Grant>,
    /// What the application knows the session by.
    tag: Option<u64>,
}

/// What a outcome head leads to.
enum HandshakeOutcome {
    Granted(Granted, Accepted101),
    Ask(Question, Accepted101),
    /// Refused, unless a fetch brings the key of the token.
    KeyUnknown(Arc<Jwks>, Box<Refusal>),
}

impl HandshakeOutcome {
    /// What would have been refused, had the rules not only reported.
    fn reported(&self) -> &[Refusal] {
        match self {
            HandshakeOutcome::Granted(_, answer) | HandshakeOutcome::Ask(_, answer) => &answer.reported,
            HandshakeOutcome::KeyUnknown(..) => &[],
        }
    }
}

/// What is put to the application.
struct Question {
    request: Box<UpgradeRequest>,
    offers: Offers,
    /// The session that is granted unless the application refuses; `None`: the application says who it is.
    granted: Option<Granted>,
}

/// The 101 that will be sent, and what is told of it.
struct Accepted101 {
    /// `Sec-WebSocket-Key`.
    key: Box<str>,
    facts: Box<Facts>,
    headers: ResponseHeaders,
    path: Box<str>,
    route: Option<Arc<str>>,
    params: Params,
    subprotocol: Option<Box<str>>,
    compression: Option<AcceptedOffer>,
    /// What would have been refused, had the rules not only reported.
    reported: Reported,
}

/// What of a handshake has to wait: its task holds no more than this.
type Waiting = Pin<Box<dyn Future<Output = Option<Decided>> + Send>>;

/// A handshake with its bytes. Where it waits it has a box of its own, beside that of its future: neither is larger than a
/// session, so that what sessions leave is used for handshakes again.
struct Handshake {
    opening: OpeningHandshake,
    stream: Stream,
    /// Bytes behind the request head.
    received: Vec<u8>,
}

/// A handshake that is decided: it becomes a connection, or is answered.
struct Decided {
    handshake: Box<Handshake>,
    end: Result<Passed, HandshakeEnd>,
}

/// A handshake that becomes a connection.
struct Passed {
    pass: Granted,
    answer: Accepted101,
    asked: Option<Asked>,
    /// Its place on all nodes of the cluster.
    entered: Option<Entered>,
}

/// What the request, which was judged, asks for.
enum Settled {
    Granted(Box<(Granted, Accepted101)>),
    Ask(Box<(Question, Accepted101)>),
}

/// How an opening ends without a connection.
enum HandshakeEnd {
    Refused(Refusal),
    Healthy(HealthCheck),
    /// The peer left, or the socket failed: nobody to answer.
    Gone,
}

impl From<Refusal> for HandshakeEnd {
    fn from(refusal: Refusal) -> Self {
        HandshakeEnd::Refused(refusal)
    }
}

/// Takes an accepted connection through its opening handshake.
pub(super) async fn open(state: Arc<ServerState>, shard: usize, accepted: Accepted) {
    let mut next = begin(state, shard, accepted);
    while let Some(waiting) = next {
        // The future is freed at the end of this line, and then the handshake's box, before there is a session.
        let decided = waiting.await;
        next = decided.and_then(|Decided { handshake, end }| (*handshake).finish(end));
    }
}

/// Does what needs no waiting, which is all where a request came together with its connection.
fn begin(state: Arc<ServerState>, shard: usize, accepted: Accepted) -> Option<Waiting> {
    let (set, tls) = (state.set(), state.tls());
    let policy = Arc::clone(&set.top);
    let deadline = state.clock.instant(accepted.at.after_millis(policy.handshake_timeout_ms));
    let admission = Admission::acquire(&state, &policy)?;
    let peer_address = accepted.peer.map(|peer| SocketAddr::new(canonical(peer.ip()), peer.port()));
    let peer = peer_address.map(|peer| peer.ip());
    let is_ours = accepted.adopted.is_none();
    let knows_client = !policy.trusted_proxies.trusts(peer);
    let is_stranger = knows_client && needs_proxy(&state, &policy, tls.is_some(), &accepted);
    let Adopted { received, local, tag, .. } = accepted.adopted.map(|adopted| *adopted).unwrap_or_default();
    let mut received = received;
    let mut opening = OpeningHandshake {
        id: HandshakeId::fresh(),
        state,
        shard,
        set,
        policy,
        tls,
        ip: peer,
        peer,
        port: peer_address.map(|peer| peer.port()),
        peer_address,
        local,
        tag,
        knows_client,
        is_stranger,
        admission,
        accepted_at: accepted.at,
        deadline,
        is_ours,
        has_asked: false,
        may_say_more: false,
        has_route: false,
        no_key_comes: false,
        is_head: false,
        load: accepted.load,
    };
    if !opening.enter() {
        return None;
    }
    let outcome = match opening.check_at_once(&accepted.socket, &mut received) {
        Some(Err(end)) => {
            opening.end_at_once(accepted.socket, &end);
            return None;
        }
        Some(Ok(outcome)) => Some(outcome),
        None => None,
    };
    if !opening.is_ours {
        accepted.socket.prepare().ok()?;
    }
    let stream = Stream::Plain(accepted.socket.register().ok()?);
    let handshake = Handshake { opening, stream, received };
    match outcome {
        Some(HandshakeOutcome::Granted(pass, answer)) if !handshake.opening.asks_cluster(&pass) => {
            let taken_in = handshake.opening.take_in(&answer.reported);
            handshake.finish(taken_in.map(|()| Passed { pass, answer, asked: None, entered: None }))
        }
        outcome => Some(Box::new(handshake).wait(outcome.map(Box::new))),
    }
}

impl Handshake {
    /// The long way: what is there is not the whole request, or is not to be judged at once.
    fn wait(mut self: Box<Self>, outcome: Option<Box<HandshakeOutcome>>) -> Waiting {
        // A block that uses what it captures: an `async fn` would hold each of its arguments twice.
        Box::pin(async move {
            let Handshake { opening, stream, .. } = &mut *self;
            if opening.policy.proxy_protocol && (opening.read_proxy_header(stream).await.is_err() || !opening.enter()) {
                return None;
            }
            if let Some(tls) = self.opening.tls.clone() {
                let Stream::Plain(socket) = self.stream else { return None };
                self.stream = self.opening.secure(&tls, socket).await?;
            }
            let mut end = self.upgrade(outcome).await.map_err(|end| self.opening.count_late(end));
            if let Ok(passed) = &mut end
                && self.opening.asks_cluster(&passed.pass)
            {
                // Boxed, because there would be room for it where there is no cluster as well.
                match Box::pin(self.opening.enter_cluster(&passed.pass)).await {
                    Ok(entered) => passed.entered = entered,
                    Err(refusal) => end = Err(refusal.into()),
                }
            }
            Some(Decided { handshake: self, end })
        })
    }

    /// The HTTP part: the request, and the application's answer.
    async fn upgrade(&mut self, outcome: Option<Box<HandshakeOutcome>>) -> Result<Passed, HandshakeEnd> {
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.opening.judge(&mut self.stream, &mut self.received).await?,
        };
        match self.opening.settle(outcome)? {
            Settled::Granted(granted) => {
                let (pass, answer) = *granted;
                Ok(Passed { pass, answer, asked: None, entered: None })
            }
            Settled::Ask(asking) => {
                Box::pin(self.opening.ask_in_time(asking, &mut self.stream, &mut self.received)).await
            }
        }
    }

    /// Opens the connection, or answers its peer: what is left to wait for is that it has read the answer.
    fn finish(self, end: Result<Passed, HandshakeEnd>) -> Option<Waiting> {
        let Handshake { opening, stream, received } = self;
        let waits = opening.is_ours && opening.has_asked && !opening.may_say_more && received.is_empty();
        match end {
            Ok(passed) => {
                let (opening, stream, refusal) = *opening.adopt(passed, stream, received).err()?;
                opening.end(stream, &HandshakeEnd::Refused(refusal), waits)
            }
            Err(end) => opening.end(stream, &end, waits),
        }
    }
}

/// Whether only `trusted_proxies` allow that this connection is plain text. `is_tls`: what it is, not what the policy says, which
/// a reload may have replaced meanwhile.
fn needs_proxy(state: &ServerState, policy: &Policy, is_tls: bool, accepted: &Accepted) -> bool {
    if is_tls || policy.dangerously_allow_plaintext {
        return false;
    }
    // Where another server listens, what counts is where the connection came in.
    accepted.adopted.as_ref().map_or(state.is_public, |adopted| adopted.is_public)
}

fn params_of(
    rate_key: Option<Arc<RateKey>>,
    expires_at: Moment,
    roles: &Roles,
    compression: Option<AcceptedOffer>,
) -> ConnectionParams {
    ConnectionParams {
        rate_key,
        expires_at,
        roles: roles.clone(),
        deflate: compression.map(|accepted| accepted.agreed),
    }
}

impl OpeningHandshake {
    fn report(&self, code: Code, detail: &str) {
        self.report_user(code, detail, None);
    }

    /// Counts the handshake for `/metrics`: it becomes a connection, or is refused.
    fn count_decision(&self) {
        let took = self.state.clock.now().since(self.accepted_at);
        self.state.shards[self.shard].durations.handshakes.count(took);
    }

    /// Counts the time of authentication, until the guard is dropped.
    fn time_auth(&self) -> Timing<'_> {
        self.state.shards[self.shard].durations.auths.time(self.state.clock)
    }

    fn report_user(&self, code: Code, detail: &str, user: Option<&str>) {
        self.count_decision();
        let subject = Subject { hs: Some(self.id), ip: self.ip, peer: self.peer, user, conn: None };
        let report = Report { code, event: None, detail };
        self.state.report_elsewhere(self.shard, &report, subject, Effect::Refuses, |_| {});
    }

    /// Tells what is only reported of a handshake that goes on.
    fn report_only(&self, refusal: &Refusal) {
        let subject = Subject { hs: Some(self.id), ip: self.ip, peer: self.peer, user: None, conn: None };
        let detail = format!("only reported: {}", refusal.detail);
        let report = Report { code: refusal.code, event: None, detail: &detail };
        self.state.report_elsewhere(self.shard, &report, subject, Effect::Passes, |_| {});
    }

    /// Counts the address of a client that is known already; `false`: there is not even a place to refuse it in.
    fn enter(&mut self) -> bool {
        if self.knows_client
            && matches!(
                self.admission.enter_address(self.ip, &self.state, &self.set.top),
                Err(NotAdmitted::TooManyRefused)
            )
        {
            return false;
        }
        if self.admission.is_refused() {
            self.deadline = self.deadline.min(Instant::now() + REFUSAL_TIMEOUT);
        }
        true
    }

    /// The TLS handshake.
    async fn secure(&self, tls: &ServerTls, socket: Socket) -> Option<Stream> {
        if self.admission.is_refused() && !self.state.may_refuse_over_tls() {
            return None;
        }
        let config = Arc::clone(&tls.config);
        // Boxed, because plain handshakes would have room for it as well.
        let accept = Box::pin(TlsStream::accept(config, socket, shard::expensive_turn, shard::count_expensive_step));
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

    /// A request that does not parse or never came whole is one all the same: where the client's address could not come
    /// out, it counts as its proxy's.
    fn count_late(&mut self, end: HandshakeEnd) -> HandshakeEnd {
        match end {
            HandshakeEnd::Refused(_) if !self.admission.is_counted() => {
                self.count().map_or_else(HandshakeEnd::from, |()| end)
            }
            end => end,
        }
    }

    /// Counts the handshake, unless it is already.
    fn count(&mut self) -> Result<(), Refusal> {
        let entered = self.admission.enter_address(self.ip, &self.state, &self.set.top);
        entered.map_err(|refused| {
            let full = match refused {
                NotAdmitted::Full(full) => full,
                NotAdmitted::TooManyRefused => Full::of_refusals(),
            };
            Refusal::full(full, &self.set.top)
        })
    }

    fn too_late(&self, missing: &str) -> String {
        format!("{missing} within handshake_timeout_ms ({})", self.policy.handshake_timeout_ms)
    }

    /// What is said of a peer that was too slow. One that was only to be told that there is no place had less time.
    fn timed_out(&self, missing: &str) -> Refusal {
        match self.admission {
            Admission::Admitted { .. } => Refusal::new(Code::HandshakeTimeout, self.too_late(missing)),
            Admission::Refusing { full, .. } => Refusal::full(full, &self.set.top),
        }
    }

    /// Answers a handshake that does not become a connection. `waits`: the peer says nothing more before it is answered.
    fn end(mut self, stream: Stream, end: &HandshakeEnd, waits: bool) -> Option<Waiting> {
        let is_short = !matches!(end, HandshakeEnd::Refused(refusal) if !refusal.is_short());
        let mut stream = match stream {
            // A pipe keeps an answer until it is taken, whatever else comes.
            Stream::Plain(Socket::Pipe(pipe)) => {
                self.end_at_once(UnregisteredSocket::Pipe(pipe), end);
                return None;
            }
            Stream::Plain(socket) if waits && is_short => {
                if let Ok(socket) = UnregisteredSocket::deregister(socket) {
                    self.end_at_once(socket, end);
                }
                return None;
            }
            stream => stream,
        };
        let response = self.response(end)?;
        let close_timeout = Duration::from_millis(self.policy.close_timeout_ms);
        let linger = match self.admission {
            Admission::Admitted { .. } => close_timeout,
            Admission::Refusing { .. } => REFUSAL_TIMEOUT.min(close_timeout),
        };
        Some(Box::pin(async move {
            let _ = timeout(linger, end_with(&mut stream, &response)).await;
            // Until here it has its place.
            drop(self);
            None
        }))
    }

    /// Answers a peer that waits for nothing else.
    fn end_at_once(&mut self, socket: UnregisteredSocket, end: &HandshakeEnd) {
        if let Some(response) = self.response(end)
            && let Err(error) = socket.end_with(&response)
        {
            said(|| tracing::debug!(target: "wsguard", %error, "a peer left before it was answered"));
        }
    }

    /// Reports how a handshake ends, and makes the answer; `None`: nobody is there to read one.
    fn response(&mut self, end: &HandshakeEnd) -> Option<Vec<u8>> {
        let policy = &self.policy;
        let mut response = Vec::new();
        let answered = match end {
            HandshakeEnd::Gone => return None,
            HandshakeEnd::Healthy(check) => {
                let is_draining = self.state.life() != Life::Running;
                handshake::health(&mut response, policy, *check, is_draining);
                (None, if is_draining { 503 } else { 200 })
            }
            HandshakeEnd::Refused(refusal) => {
                self.report_user(refusal.code, &refusal.detail, refusal.user.as_deref());
                handshake::refused(&mut response, policy, refusal, self.is_head);
                (Some(refusal.code), refusal.status)
            }
        };
        // Before the answer is read, which may take its time.
        if let Some(tag) = self.tag.take() {
            tag.answered(answered.0, answered.1);
        }
        Some(response)
    }

    /// What may still keep out somebody who was let in: the session is over, or was taken back, before it began; the user
    /// has no place left.
    fn admit_user(&mut self, pass: &Granted) -> Result<Option<Arc<str>>, Refusal> {
        let Granted { identity, grant, .. } = pass;
        let name = identity.user.as_deref();
        let Admission::Admitted { seat, .. } = &mut self.admission else {
            return Err(Refusal::new(Code::ServerFull, "no place is left"));
        };
        if identity.expires_at_unix_ms.is_some_and(|expires_at| expires_at <= Clock::unix_ms()) {
            return Err(Refusal::new(Code::AuthFailed, "the session has expired before it began"));
        }
        // A ban from here on finds the connection: its command is carried out by this thread, afterwards.
        if self.state.is_banned(self.ip, name) {
            let refusal = Refusal::new(Code::Banned, "the address or the user is banned");
            return Err(Refusal { user: name.map(Into::into), ..refusal });
        }
        let Some(name) = name else { return Ok(None) };
        let entered = seat.user().filter(|user| ***user == *name);
        if grant.as_ref().is_some_and(|grant| !grant.holds(name)) {
            let detail = "disconnect_user was called after the user was let in";
            return Err(Refusal::new(Code::AuthFailed, detail));
        }
        if let Some(user) = entered {
            return Ok(Some(Arc::clone(user)));
        }
        match seat.enter_user(name, &self.policy, self.state.clock.now()) {
            Ok(user) => Ok(Some(user)),
            Err(full) => Err(Refusal { user: Some(name.into()), ..Refusal::full(full, &self.policy) }),
        }
    }

    /// What it is let in by. A reload may have come since its request was judged: then it is by the newest policies that the
    /// connection goes on, or is refused.
    ///
    /// A reload from here on finds the connection: its command is carried out by this thread, afterwards.
    fn catch_up(&mut self, pass: &mut Granted, answer: &mut Accepted101) -> Result<Admitted, Refusal> {
        let identity = &mut pass.identity;
        let newest = self.state.set();
        let (generation, path) = (newest.generation, answer.path.clone());
        let admitted =
            Admitted { generation, path, credential: identity.credential, is_reported: !answer.reported.is_empty() };
        // One that waited for keys is judged by the newest set, but its address was looked at by the first.
        if newest.top.deny_ips.denies(self.ip) {
            return Err(Refusal::full(Full::of_denied(), &newest.top));
        }
        if Arc::ptr_eq(&newest, &self.set) {
            return Ok(admitted);
        }
        match newest.readmit(&admitted, &self.policy, identity.user.as_deref(), &identity.roles) {
            Ok((resolved, roles)) => {
                (self.set, self.policy, identity.roles) = (newest, resolved.policy, roles);
                (answer.route, answer.params) = (resolved.route, resolved.params);
            }
            Err(Gone::Credential) => return Err(Refusal::new(Code::AuthFailed, Gone::Credential.detail())),
            Err(gone) => return Err(Refusal::new(Code::PathNotFound, gone.detail())),
        }
        Ok(admitted)
    }

    /// The address that the connection came in on.
    fn local_address(&self, stream: &Stream) -> Option<SocketAddr> {
        let local = self.local.or_else(|| stream.local_address());
        local.map(|local| SocketAddr::new(canonical(local.ip()), local.port()))
    }

    /// Tells by what the peer is let in.
    fn audit_auth(&self, pass: &Granted, now: Moment) -> Proof {
        let proof = match pass.identity.credential {
            Some(CredentialId::Token(_)) => Proof::Token,
            Some(CredentialId::Key(_)) => Proof::Jwt,
            None if pass.by_application => Proof::Callback,
            None => return Proof::Nothing,
        };
        let user = pass.identity.user.as_deref();
        let subject = Subject { hs: Some(self.id), ip: self.ip, peer: self.peer, user, conn: None };
        self.state.audit.auth(subject, &self.policy, proof, now);
        proof
    }

    /// Takes the user's place and hands the connection to its shard; a refusal leaves the stream to answer on.
    fn adopt(
        mut self,
        passed: Passed,
        mut stream: Stream,
        received: Vec<u8>,
    ) -> Result<(), Box<(Self, Stream, Refusal)>> {
        // The application may have answered just before the end.
        if shard::has_stopped() {
            return Err(Box::new((self, stream, restarting())));
        }
        let Passed { mut pass, mut answer, asked, entered } = passed;
        let now = self.state.clock.now();
        let proof = self.audit_auth(&pass, now);
        let caught_up = self.catch_up(&mut pass, &mut answer);
        let user = match caught_up.and_then(|admitted| Ok((admitted, self.admit_user(&pass)?))) {
            Ok(user) => user,
            Err(refusal) => return Err(Box::new((self, stream, refusal))),
        };
        self.count_decision();
        let (admitted, user) = user;
        let reported = admitted.is_reported;
        let local = self.local_address(&stream);
        let Admission::Admitted { mut seat, .. } = self.admission else { return Ok(()) };
        seat.opened();
        let policy = self.policy;
        let rate_key = shard::rate_key(&seat, &policy, None, now);
        let Identity { roles, expires_at_unix_ms, claims, .. } = core::mem::take(&mut pass.identity);
        let expires_at = Clock::expiry(now, expires_at_unix_ms);
        let longest = Some(policy.max_session_ms).filter(|most| *most > 0);
        let longest = longest.map(|most| Clock::unix_ms().saturating_add(most));
        let expires_at_ms = expires_at_unix_ms.into_iter().chain(longest).min();
        let Accepted101 { key, facts, headers, path, route, params, subprotocol, compression, .. } = answer;
        let mut head = Vec::with_capacity(256);
        handshake::accepted(&mut head, &policy, &key, subprotocol.as_deref(), compression, &headers);
        let (id, ip, peer, port, peer_address) = (self.id, self.ip, self.peer, self.port, self.peer_address);
        let adopted = self.tag;
        let (tls, opened_at_ms) = (stream.tls_facts().map(Box::new), Clock::unix_ms());
        // A revocation from here on finds the connection: its command is carried out by this thread, afterwards. The
        // application, which may come to the open later still, is told by the number that goes with it.
        let Granted { grant, tag, .. } = pass;
        let granted = grant.as_ref().map_or(0, Grant::number);
        let (load, opened) = (self.load, params_of(rate_key, expires_at, &roles, compression));
        let new = NewSession {
            hs: id,
            stream,
            params: opened,
            policy,
            admitted,
            seat,
            ip,
            peer,
            granted,
            head,
            received,
            load,
            entered,
        };
        let open_event = move |conn| Open {
            id,
            conn,
            // Where there is no open after all, both are dropped with this closure.
            ticket: asked.map(Asked::opened),
            adopted: adopted.map(Tag::opened),
            tag,
            ip,
            user,
            roles,
            path,
            route,
            params,
            subprotocol,
            compressed: compression.is_some(),
            expires_at_ms,
            credential_ends_at_ms: expires_at_unix_ms,
            reported,
            granted,
            query: facts.query,
            headers: facts.headers,
            cookies: facts.cookies,
            origin: facts.origin,
            claims: claims.map(Claims::into_text),
            peer: peer_address,
            local,
            port,
            tls,
            opened_at_ms,
        };
        with_shard(|shard| shard.adopt(new, proof, open_event));
        Ok(())
    }
}
