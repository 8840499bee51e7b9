//! The request: read, checked in the order of the contract, and put to the application where the policy says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::asked::Asked;
use super::lingering::{read_some, room, watch_peer};
use super::{Accepted101, Granted, HandshakeEnd, HandshakeOutcome, OpeningHandshake, Passed, Question, Settled};
use crate::driver::accepted::{Read, UnregisteredSocket};
use crate::driver::adopted::Tag;
use crate::driver::answer::{AcceptedSession, Answer};
use crate::driver::clock::Clock;
use crate::driver::events::{GrantedIdentity, Upgrade};
use crate::driver::shard;
use crate::driver::state::Life;
use crate::driver::stream::Stream;
use wsguard_proto::auth::{Authenticator, Claims, Identity};
use wsguard_proto::client_ip::{self, AddressKey};
use wsguard_proto::config::{Policy, Resolved};
use wsguard_proto::handshake::{
    self, Facts, Head, HeadScanner, NO_HEADERS, Offers, Refusal, Reported, Request, ResponseHeaders, Subprotocol,
};
use wsguard_proto::verdict::Code;

impl OpeningHandshake {
    /// Checks a request that was received together with its connection, with nothing after it: a refusal then costs
    /// neither a place in the runtime nor a second look at the socket. `None`: it takes the long way.
    pub(super) fn check_at_once(
        &mut self,
        socket: &UnregisteredSocket,
        received: &mut Vec<u8>,
    ) -> Option<Result<HandshakeOutcome, HandshakeEnd>> {
        let policy = Arc::clone(&self.policy);
        if !self.is_ours || policy.proxy_protocol || self.tls.is_some() || self.is_expensive() {
            return None;
        }
        match socket.read(received, policy.max_head_bytes).ok()? {
            Read { len: 0, .. } => return Some(Err(HandshakeEnd::Gone)),
            Read { is_full, .. } => self.may_say_more = is_full,
        }
        if self.may_say_more {
            return None;
        }
        if HeadScanner::default().scan(received, policy.max_head_bytes).ok()?? < received.len() {
            return None;
        }
        let outcome = self.check_request(received, None);
        if !self.has_asked {
            return None;
        }
        received.clear();
        Some(outcome)
    }

    /// Whether a signature of a JSON Web Token may have to be verified: which path is asked for is not known yet.
    fn is_expensive(&self) -> bool {
        self.set.policies().any(|policy| matches!(*policy.authenticator, Authenticator::Jwt(_)))
    }

    /// Reads the head and judges it. Only what the peer takes to send it counts as its own: what else may be waited for has the
    /// deadline of the path, which may be a later one, and an error of its own.
    pub(super) async fn judge(
        &mut self,
        stream: &mut Stream,
        received: &mut Vec<u8>,
    ) -> Result<Box<HandshakeOutcome>, HandshakeEnd> {
        let Ok(head_len) = timeout_at(self.deadline, self.read_head(stream, received)).await else {
            return Err(self.timed_out("no whole request").into());
        };
        let head_len = head_len?;
        let judged = self.check_request_boxed(&received[..head_len], stream);
        // The deadline of its path may have been an earlier one.
        if judged.is_ok() && Instant::now() >= self.deadline {
            return Err(self.timed_out("no whole request").into());
        }
        let outcome = match judged {
            Ok(outcome) if matches!(*outcome, HandshakeOutcome::KeyUnknown(..)) => {
                Box::pin(self.await_keys(outcome, head_len, stream, received)).await
            }
            judged => judged,
        };
        received.drain(..head_len);
        outcome
    }

    /// Reads until the head is whole, and waits for its turn to be judged.
    async fn read_head(&mut self, stream: &mut Stream, received: &mut Vec<u8>) -> Result<usize, HandshakeEnd> {
        let mut scanner = HeadScanner::default();
        loop {
            if let Some(len) = scanner.scan(received, self.policy.max_head_bytes)? {
                if self.is_expensive() {
                    shard::expensive_step().await;
                }
                return Ok(len);
            }
            let (most, before) = (self.policy.max_head_bytes, received.len());
            match read_some(stream, received, most).await {
                0 => return Err(HandshakeEnd::Gone),
                read => self.may_say_more = read == room(before, most),
            }
        }
    }

    /// Takes in who passed, or finds what the application is to be asked.
    pub(super) fn settle(&self, outcome: Box<HandshakeOutcome>) -> Result<Settled, HandshakeEnd> {
        // Once, and not when it was judged: one that waits for keys is judged more than once.
        self.take_in(outcome.reported())?;
        match *outcome {
            HandshakeOutcome::Granted(pass, answer) => Ok(Settled::Granted(Box::new((pass, answer)))),
            HandshakeOutcome::KeyUnknown(_, refusal) => Err((*refusal).into()),
            HandshakeOutcome::Ask(question, answer) => Ok(Settled::Ask(Box::new((question, answer)))),
        }
    }

    /// Whether the application has room to hear of one more; then what is only reported of it is told.
    pub(super) fn take_in(&self, reported: &[Refusal]) -> Result<(), HandshakeEnd> {
        if self.state.inbox.is_full() {
            let most = self.set.top.max_inbox_bytes;
            let detail = format!("the application does not take its events: max_inbox_bytes ({most}) wait");
            return Err(Refusal::new(Code::AuthUnavailable, detail).into());
        }
        for refusal in reported {
            self.report_only(refusal);
        }
        Ok(())
    }

    /// Asks the application, against the deadline of the handshake where it has one.
    pub(super) async fn ask_in_time(
        &self,
        asking: Box<(Question, Accepted101)>,
        stream: &mut Stream,
        received: &mut Vec<u8>,
    ) -> Result<Passed, HandshakeEnd> {
        let mut asked = None;
        let said = if self.state.consulting.without_deadline {
            self.ask(asking, stream, received, &mut asked).await
        } else {
            let said = timeout_at(self.deadline, self.ask(asking, stream, received, &mut asked)).await;
            said.unwrap_or_else(|_| {
                let detail = self.too_late("the application did not answer");
                Err(Refusal::new(Code::AuthUnavailable, detail).into())
            })
        };
        // On an error the application is told before the peer is, which may take its time.
        said.map(|(pass, answer)| Passed { pass, answer, asked, entered: None })
    }

    /// Everything that needs no waiting, in the order of the contract. A refusal is worded as clients of this server know it.
    pub(super) fn check_request(
        &mut self,
        bytes: &[u8],
        stream: Option<&Stream>,
    ) -> Result<HandshakeOutcome, HandshakeEnd> {
        let is_like_ws = self.state.is_like_ws;
        self.judge_request(bytes, stream).map_err(|end| match end {
            HandshakeEnd::Refused(refusal) if is_like_ws => in_words_of_ws(refusal, bytes).into(),
            end => end,
        })
    }

    /// The same for a future, which would keep room for an outcome that is not boxed.
    pub(super) fn check_request_boxed(
        &mut self,
        bytes: &[u8],
        stream: &Stream,
    ) -> Result<Box<HandshakeOutcome>, HandshakeEnd> {
        self.check_request(bytes, Some(stream)).map(Box::new)
    }

    fn judge_request(&mut self, bytes: &[u8], stream: Option<&Stream>) -> Result<HandshakeOutcome, HandshakeEnd> {
        let mut headers = NO_HEADERS;
        let head = Head::parse(bytes, &mut headers)?;
        self.learn_client(&head);
        (self.has_asked, self.is_head) = (!head.has_body(), head.is_head());
        if let Some(check) = head.health_check() {
            // Whoever asks is answered, but a client that is known has made a request. A proxy that asks for itself is not
            // to be kept from it by clients that nobody knows.
            if self.knows_client {
                let _ = self.count();
            }
            return Err(HandshakeEnd::Healthy(check));
        }
        self.count()?;
        if self.is_stranger {
            let detail = "peer is not in trusted_proxies, for which alone plain text is allowed here";
            return Err(Refusal::new(Code::ProxyRequired, detail).into());
        }
        let request = head.request()?;
        let request = if self.state.is_like_ws { request.taking_version_8() } else { request };
        if self.state.life() != Life::Running {
            return Err(restarting().into());
        }
        self.check_cluster()?;
        let Resolved { policy, route, params } = handshake::resolve(&self.set, &request)?;
        self.enter_route(&policy, bytes.len())?;
        let mut reported = Reported::default();
        let key = handshake::vet(&policy, &request, &mut reported)?;
        let grant = handshake::names_users(&policy).then(|| self.state.revocations.grant(self.state.clock.now()));
        let decision = {
            let is_ours = matches!(*policy.authenticator, Authenticator::Tokens(_) | Authenticator::Jwt(_));
            let _timing = is_ours.then(|| self.time_auth());
            handshake::authenticate(&policy, &request, Clock::unix_ms() / 1000, &mut reported)?
        };
        let decision = if self.no_key_comes { decision.without_key(&policy, &mut reported)? } else { decision };
        let subprotocol = match handshake::choose_subprotocol(&policy, &request) {
            Subprotocol::Chosen(name) => Some(name),
            Subprotocol::NotOffered => None,
            // The application may speak one that we do not know of.
            Subprotocol::NoneKnown if self.state.consulting.of_everyone => None,
            Subprotocol::NoneKnown => {
                self.state.notices.unknown_subprotocols(self.state.clock.now());
                None
            }
        };
        let answer = Accepted101 {
            key: key.into(),
            facts: Box::new(self.facts(&policy, &request)),
            headers: ResponseHeaders::default(),
            path: request.path.into(),
            route,
            params,
            subprotocol: subprotocol.map(Into::into),
            compression: handshake::choose_compression(&policy, &request),
            reported,
        };
        Ok(match decision {
            handshake::Decision::Granted(granted) => {
                if granted.identity.claims.is_none()
                    && granted.identity.credential.is_some()
                    && policy.authenticator.is_jwt()
                {
                    self.state.notices.facts_left_out();
                }
                let identity = granted.identity;
                let granted = Granted { identity, grant, tag: None, by_application: false };
                if !self.state.consulting.of_everyone {
                    return Ok(HandshakeOutcome::Granted(granted, answer));
                }
                let question = self.question(&policy, &request, &answer, stream, Some(granted), None);
                HandshakeOutcome::Ask(question, answer)
            }
            handshake::Decision::KeyUnknown { jwks, refusal } => HandshakeOutcome::KeyUnknown(jwks, Box::new(refusal)),
            handshake::Decision::Ask { token } => {
                let question = self.question(&policy, &request, &answer, stream, None, token);
                HandshakeOutcome::Ask(question, answer)
            }
        })
    }

    /// What is put to the application; `token` is for one that says who it is.
    fn question(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        answer: &Accepted101,
        stream: Option<&Stream>,
        granted: Option<Granted>,
        token: Option<String>,
    ) -> Question {
        let certificate = stream.and_then(Stream::peer_certificate);
        let (route, params) = (answer.route.clone(), answer.params.clone());
        let mut asked = request.snapshot(route, params, self.ip, token, certificate);
        asked.reported = !answer.reported.is_empty();
        Question { request: Box::new(asked), offers: Offers::of(policy, request), granted }
    }

    /// What is told of the request, once it is a connection.
    fn facts(&self, policy: &Policy, request: &Request<'_>) -> Facts {
        let facts = Facts::of(policy, request);
        if facts.left_out {
            self.state.notices.facts_left_out();
        }
        facts
    }

    /// The path is known, and with it the policy: its own limits and its own deadline count from here on.
    fn enter_route(&mut self, policy: &Arc<Policy>, head_bytes: usize) -> Result<(), Refusal> {
        self.policy = Arc::clone(policy);
        if !self.admission.is_refused() {
            let deadline = self.accepted_at.after_millis(policy.handshake_timeout_ms);
            self.deadline = self.state.clock.instant(deadline);
        }
        let most = policy.max_head_bytes;
        if head_bytes > most {
            let detail = format!("request head of {head_bytes} bytes over max_head_bytes ({most})");
            return Err(Refusal::new(Code::HeadTooLarge, detail));
        }
        if core::mem::replace(&mut self.has_route, true) {
            return Ok(());
        }
        self.admission.enter_route(&self.state, policy).map_err(|full| Refusal::full(full, policy))
    }

    /// Asks the headers who the client is, where a trusted proxy may say so.
    fn learn_client(&mut self, head: &Head<'_>) {
        let policy = &self.policy;
        // With `proxy_protocol` the PROXY header has the word: what the proxy passes on behind it is the client's own.
        if policy.proxy_protocol {
            return;
        }
        let (forwarded, x_forwarded_for) = (head.values("Forwarded"), head.values("X-Forwarded-For"));
        let client = client_ip::client(&policy.trusted_proxies, self.peer, forwarded, x_forwarded_for);
        self.ip = client.ip;
        self.knows_client |= client.is_forwarded;
        if client.is_forwarded {
            self.port = None;
        }
        if let Some(doubt) = client.doubt {
            self.state.notices.doubt(self.peer, doubt);
        }
    }

    /// Asks the application. Meanwhile the peer may leave, or send up to `max_head_bytes`.
    async fn ask(
        &self,
        asking: Box<(Question, Accepted101)>,
        stream: &mut Stream,
        received: &mut Vec<u8>,
        asked: &mut Option<Asked>,
    ) -> Result<(Granted, Accepted101), HandshakeEnd> {
        let (Question { request, offers, granted: native }, mut answer) = *asking;
        let policy = &self.policy;
        let unavailable = |detail: String| HandshakeEnd::Refused(Refusal::new(Code::AuthUnavailable, detail));
        if self.state.consulting.without_deadline {
            // Nothing else ends what a peer without a network has begun.
            stream.keep_alive();
        }
        let address = self.ip.map(AddressKey::from);
        let names_user = native.is_none();
        let issued = self.state.tickets.issue(policy.max_pending_auth, address, offers, names_user);
        let Some((ticket, answered)) = issued else {
            let most = policy.max_pending_auth;
            return Err(unavailable(format!("max_pending_auth ({most}) handshakes wait for the application")));
        };
        let upgrade = Upgrade {
            id: self.id,
            ticket: ticket.id(),
            request: *request,
            identity: native.as_ref().map(told_identity),
            local: self.local_address(stream),
            port: self.port,
            adopted: self.tag.as_ref().map(Tag::number),
            _permit: ticket.permit(),
        };
        self.state.tell(self.shard, |events| events.push_upgrade(upgrade));
        *asked = Some(Asked::new(&self.state, self.shard, ticket));
        let _timing = self.time_auth();
        let said = tokio::select! {
            biased;
            said = answered => said,
            () = tokio::time::sleep(Duration::from_millis(policy.auth_timeout_ms)),
                if !self.state.consulting.without_deadline =>
            {
                let timeout = policy.auth_timeout_ms;
                return Err(unavailable(format!("the application did not answer within auth_timeout_ms ({timeout})")));
            }
            // Another shard may have closed the tickets, and not yet told those that wait.
            () = shard::last_turns(&self.state, self.shard) => return Err(restarting().into()),
            () = watch_peer(stream, received, policy.max_head_bytes) => return Err(HandshakeEnd::Gone),
        };
        match said {
            Ok(Answer::Accepted(accepted)) => {
                let pass = granted(*accepted, native, &mut answer);
                Ok((pass, answer))
            }
            Ok(Answer::Rejected(rejection)) => Err(Refusal::rejected(*rejection).into()),
            Ok(Answer::Displaced) => Err(unavailable(format!(
                "max_pending_auth ({}) handshakes wait for the application, and this address had most of them",
                policy.max_pending_auth
            ))),
            Ok(Answer::Unusable(what)) => Err(unavailable(format!("the application's answer cannot be sent: {what}"))),
            Err(_) if self.state.life() != Life::Running => Err(restarting().into()),
            Ok(Answer::Failed) | Err(_) => Err(unavailable("the application failed to answer".to_owned())),
        }
    }
}

/// Who a peer is, as the application is told.
fn told_identity(granted: &Granted) -> GrantedIdentity {
    let Identity { user, roles, expires_at_unix_ms, claims, .. } = granted.identity.clone();
    GrantedIdentity { user, roles, expires_at_ms: expires_at_unix_ms, claims: claims.map(Claims::into_text) }
}

/// The session that the application grants, or lets pass; what it says of the 101 goes to `answer`.
fn granted(accepted: AcceptedSession, native: Option<Granted>, answer: &mut Accepted101) -> Granted {
    let AcceptedSession { user, roles, expires_at_ms, subprotocol, headers, tag, grant } = accepted;
    if let Some(subprotocol) = subprotocol {
        answer.subprotocol = Some(subprotocol.into());
    }
    answer.headers = headers;
    native.map_or_else(
        || {
            // A page of a foreign origin has the visitor's cookies, by which the application has recognised the visitor.
            let (user, roles) = if answer.reported.is_empty() { (user, roles) } else { Default::default() };
            let identity = Identity { user, roles, expires_at_unix_ms: expires_at_ms, credential: None, claims: None };
            Granted { identity, grant: Some(grant), tag, by_application: true }
        },
        // As of its own grant: it may have been taken back while the application thought.
        |native| Granted { tag, ..native },
    )
}

/// The answer of a server that takes no one in any more.
pub(super) fn restarting() -> Refusal {
    Refusal { retry_after_s: Some(1), ..Refusal::new(Code::Draining, "the server is restarting") }
}

/// What is refused by its form is no hot path: its head is parsed again.
fn in_words_of_ws(refusal: Refusal, bytes: &[u8]) -> Refusal {
    let mut headers = NO_HEADERS;
    match Head::parse(bytes, &mut headers) {
        Ok(head) => handshake::in_words_of_ws(refusal, &head),
        Err(_) => refusal,
    }
}
