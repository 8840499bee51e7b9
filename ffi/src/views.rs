//! A batch as C sees it: the structs of its events, built once when the batch is taken.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wsguard::binding::{self, Code, ConnectionId, EventBatch, PipeId, ServerHandle as Commands, Status, TlsFacts};

use crate::events::{
    AdoptionEnded, Close, Event, EventBody, EventKind, Fault, Field, Identity, Message, MessageStatus, Open, Pipe,
    Pong, Tls, Upgrade, UpgradeGone, Violation,
};
use crate::modes::Modes;
use crate::names::{WSG_NEVER, WSG_NO_VERDICT};
use crate::peers::{Ends, Opened, Peers};
use crate::pipes::Pipes;
use crate::pointers::Str;

/// The events of one batch. The pointers in `events` lead into the lists of their kinds, and those into the rest.
#[derive(Debug, Default)]
pub(crate) struct Views {
    pub(crate) batch: EventBatch,
    events: Vec<Event>,
    bodies: Bodies,
    texts: Vec<Box<str>>,
    fields: Vec<Box<[Field]>>,
    lists: Vec<Box<[Str]>>,
    tls: Vec<Box<[Tls]>>,
    identities: Vec<Box<[Identity]>>,
    /// The connections whose close is in the batch.
    closed: Vec<ConnectionId>,
}

/// The bodies of the events, by kind.
#[derive(Debug, Default)]
struct Bodies {
    upgrades: Vec<Upgrade>,
    opens: Vec<Open>,
    messages: Vec<Message>,
    closes: Vec<Close>,
    violations: Vec<Violation>,
    pongs: Vec<Pong>,
    upgrades_gone: Vec<UpgradeGone>,
    pipes: Vec<Pipe>,
    adoptions_ended: Vec<AdoptionEnded>,
}

impl Bodies {
    fn clear(&mut self) {
        fn clear<T>(list: &mut Vec<T>) {
            list.clear();
            list.shrink_to(4096);
        }
        clear(&mut self.upgrades);
        clear(&mut self.opens);
        clear(&mut self.messages);
        clear(&mut self.closes);
        clear(&mut self.violations);
        clear(&mut self.pongs);
        clear(&mut self.upgrades_gone);
        clear(&mut self.pipes);
        clear(&mut self.adoptions_ended);
    }

    /// Points the events at their bodies, now that these do not move any more.
    fn point(&self, events: &mut [Event]) {
        fn next<T>(list: &mut core::slice::Iter<'_, T>) -> *const T {
            list.next().map_or(core::ptr::null(), core::ptr::from_ref::<T>)
        }
        let (mut upgrades, mut opens) = (self.upgrades.iter(), self.opens.iter());
        let (mut messages, mut closes, mut violations) =
            (self.messages.iter(), self.closes.iter(), self.violations.iter());
        let (mut pongs, mut upgrades_gone) = (self.pongs.iter(), self.upgrades_gone.iter());
        let (mut pipes, mut adoptions_ended) = (self.pipes.iter(), self.adoptions_ended.iter());
        for event in events {
            event.body = match event.kind {
                EventKind::Upgrade => EventBody { upgrade: next(&mut upgrades) },
                EventKind::Open => EventBody { open: next(&mut opens) },
                EventKind::Message => EventBody { message: next(&mut messages) },
                EventKind::Close => EventBody { close: next(&mut closes) },
                EventKind::Violation => EventBody { violation: next(&mut violations) },
                EventKind::Pong => EventBody { pong: next(&mut pongs) },
                EventKind::UpgradeGone => EventBody { upgrade_gone: next(&mut upgrades_gone) },
                EventKind::PipeReady | EventKind::PipeRoom => EventBody { pipe: next(&mut pipes) },
                EventKind::AdoptionEnded => EventBody { adoption_ended: next(&mut adoptions_ended) },
                EventKind::Text
                | EventKind::Binary
                | EventKind::PingFrame
                | EventKind::PongFrame
                | EventKind::Closing
                | EventKind::Drained => continue,
            };
        }
    }
}

impl Views {
    /// Makes the views of the batch, those of the batch before being forgotten, and lets `peers` know who came and who left.
    pub(crate) fn refresh(&mut self, peers: &Peers, pipes: &Pipes, modes: &Modes, commands: &Commands) {
        let Self { batch, events, bodies, texts, fields, lists, tls, identities, closed } = self;
        let mut builder =
            ViewBuilder { bodies, closed, peers, pipes, modes, commands, texts, fields, lists, tls, identities };
        events.extend(batch.iter().map(|event| builder.event(&event)));
        bodies.point(events);
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Forgets the views: the batch is about to change. Who left in it is not known any more.
    pub(crate) fn forget(&mut self, peers: &Peers) {
        peers.forget(&self.closed);
        self.closed.clear();
        self.events.clear();
        self.events.shrink_to(4096);
        self.bodies.clear();
        self.texts.clear();
        self.texts.shrink_to(4096);
        self.fields.clear();
        self.fields.shrink_to(4096);
        self.tls.clear();
        self.identities.clear();
        self.lists.clear();
        self.lists.shrink_to(4096);
        self.closed.shrink_to(4096);
    }
}

/// A cookie may be two bytes of a request, and is 32 here; no browser keeps so many for a site.
const MOST_COOKIES: usize = 1024;

/// When it is so many milliseconds since 1970, on the clock that nobody sets: the core counts on it, too. `None`: so far off
/// that it is never.
fn instant(unix_ms: u64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now().checked_add(Duration::from_millis(unix_ms).saturating_sub(now))
}

/// Builds the views of a batch, and keeps the texts and arrays that they point at.
struct ViewBuilder<'v> {
    bodies: &'v mut Bodies,
    closed: &'v mut Vec<ConnectionId>,
    peers: &'v Peers,
    pipes: &'v Pipes,
    modes: &'v Modes,
    commands: &'v Commands,
    texts: &'v mut Vec<Box<str>>,
    fields: &'v mut Vec<Box<[Field]>>,
    lists: &'v mut Vec<Box<[Str]>>,
    tls: &'v mut Vec<Box<[Tls]>>,
    identities: &'v mut Vec<Box<[Identity]>>,
}

impl ViewBuilder<'_> {
    fn text(&mut self, text: Option<String>) -> Str {
        let Some(text) = text else { return Str::NONE };
        let text = text.into_boxed_str();
        let view = Str::of(&text);
        self.texts.push(text);
        view
    }

    fn fields(&mut self, fields: Box<[Field]>) -> (*const Field, usize) {
        let view = (fields.as_ptr(), fields.len());
        self.fields.push(fields);
        view
    }

    fn list(&mut self, list: Box<[Str]>) -> (*const Str, usize) {
        let view = (list.as_ptr(), list.len());
        self.lists.push(list);
        view
    }

    /// The parameters of a path.
    fn params(&mut self, params: &[(Arc<str>, String)]) -> (*const Field, usize) {
        let field = |(name, value): &(Arc<str>, String)| Field { name: Str::of(name), value: Str::of(value) };
        self.fields(params.iter().map(field).collect())
    }

    fn pairs(&mut self, pairs: &[(Box<str>, Box<str>)]) -> (*const Field, usize) {
        let field = |(name, value): &(Box<str>, Box<str>)| Field { name: Str::of(name), value: Str::of(value) };
        self.fields(pairs.iter().map(field).collect())
    }

    fn tls(&mut self, facts: Option<&TlsFacts>) -> *const Tls {
        let Some(facts) = facts else { return core::ptr::null() };
        let tls: Box<[Tls]> = [Tls {
            version: Str::of(&facts.version),
            cipher: Str::of(&facts.cipher),
            server_name: Str::maybe(facts.server_name.as_deref()),
            client_certificate_sha256: Str::maybe(facts.client_certificate_sha256.as_deref()),
        }]
        .into();
        let view = tls.as_ptr();
        self.tls.push(tls);
        view
    }

    fn identity(&mut self, known: Option<&binding::GrantedIdentity>) -> *const Identity {
        let Some(known) = known else { return core::ptr::null() };
        let (roles, roles_len) = self.list(known.roles.iter().map(Str::of).collect());
        let identity: Box<[Identity]> = [Identity {
            user: Str::maybe(known.user.as_deref()),
            roles,
            roles_len,
            expires_at_ms: known.expires_at_ms.unwrap_or(WSG_NEVER),
            claims: Str::maybe(known.claims.as_deref()),
        }]
        .into();
        let view = identity.as_ptr();
        self.identities.push(identity);
        view
    }

    fn pipe(&mut self, id: PipeId) {
        self.bodies.pipes.push(Pipe { id: id.to_u64(), tag: self.pipes.tag(id).unwrap_or(0) });
    }

    fn closed(&mut self, close: &binding::Close<'_>) {
        let cut = [Code::SessionExpired, Code::SessionRevoked, Code::Banned];
        self.peers.leaves(close.conn, close.verdict.is_some_and(|verdict| cut.contains(&verdict)));
        self.closed.push(close.conn);
        self.bodies.closes.push(Close {
            code: close.code,
            clean: close.clean,
            reason: Str::of(close.reason),
            verdict: number(close.verdict),
            fault: Fault::of(close.fault) as u32,
            peer_code: close.peer_code.unwrap_or(0),
            peer_reason: Str::of(close.peer_reason),
            fault_value: close.fault_value.unwrap_or(0),
        });
    }

    fn event(&mut self, event: &binding::Event<'_>) -> Event {
        let conn = event.conn().map_or(0, ConnectionId::to_u64);
        let mut body = EventBody { payload: Str::NONE };
        let kind = match event {
            binding::Event::Upgrade(upgrade) => {
                let upgrade = self.upgrade(upgrade);
                self.bodies.upgrades.push(upgrade);
                EventKind::Upgrade
            }
            binding::Event::Open(open) => {
                self.opened(open);
                let open = self.open(open);
                self.bodies.opens.push(open);
                EventKind::Open
            }
            binding::Event::Text(_, text) => {
                body.payload = Str::of(text);
                EventKind::Text
            }
            binding::Event::Binary(_, payload) => {
                body.payload = Str::bytes(payload);
                EventKind::Binary
            }
            binding::Event::Message(message) => {
                self.bodies.messages.push(seen_message(message));
                EventKind::Message
            }
            binding::Event::Close(close) => {
                self.closed(close);
                EventKind::Close
            }
            binding::Event::Violation(violation) => {
                let violation = self.violation(violation);
                self.bodies.violations.push(violation);
                EventKind::Violation
            }
            binding::Event::Pong { rtt, .. } => {
                self.bodies.pongs.push(Pong { rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX) });
                EventKind::Pong
            }
            binding::Event::UpgradeGone(ticket) => {
                self.bodies.upgrades_gone.push(UpgradeGone { ticket: ticket.to_u64() });
                EventKind::UpgradeGone
            }
            binding::Event::PingFrame(_, payload) => {
                body.payload = Str::bytes(payload);
                EventKind::PingFrame
            }
            binding::Event::PongFrame(_, payload) => {
                body.payload = Str::bytes(payload);
                EventKind::PongFrame
            }
            binding::Event::Closing(_) => EventKind::Closing,
            binding::Event::PipeReady(pipe) => {
                self.pipe(*pipe);
                EventKind::PipeReady
            }
            binding::Event::PipeRoom(pipe) => {
                self.pipe(*pipe);
                EventKind::PipeRoom
            }
            binding::Event::AdoptionEnded { tag, code, status } => {
                let ended = AdoptionEnded { tag: *tag, verdict: number(*code), http_status: *status };
                self.bodies.adoptions_ended.push(ended);
                EventKind::AdoptionEnded
            }
            // Or an event that the header has no name for yet: "look whether you may send" is never wrong.
            _ => EventKind::Drained,
        };
        Event { kind, conn, body }
    }

    fn opened(&self, open: &binding::Open) {
        let (user, ip, granted) = (open.user.as_ref(), open.ip, open.granted);
        let ends = Ends {
            session: open.expires_at_ms.and_then(instant),
            credential: open.credential_ends_at_ms.and_then(instant),
        };
        // It may be the first of a route with this protocol that a reload has added just now.
        self.modes.protocol(&self.commands.policies(), &open.path);
        self.peers.opened(open.conn, Opened { user, ip, path: Some(&open.path), granted, ends });
        // Banned since it was let in. Asked after it was noted: a ban on another thread either finds it, or is seen here.
        if self.commands.is_banned(ip, user.map(AsRef::as_ref)) {
            self.peers.close(open.conn, || false);
        }
    }

    fn upgrade(&mut self, upgrade: &binding::Upgrade) -> Upgrade {
        let request = &upgrade.request;
        let field = |(name, value): (&str, &str)| Field { name: Str::of(name), value: Str::of(value) };
        let headers = request.headers.iter().map(|(name, value)| field((name, value))).collect();
        let (headers, headers_len) = self.fields(headers);
        let (params, params_len) = self.params(&request.params);
        let (cookies, cookies_len) = self.fields(request.cookies().map(field).take(MOST_COOKIES).collect());
        let raw = |(name, value): &(String, Vec<u8>)| Field { name: Str::of(name), value: Str::bytes(value) };
        let (raw_headers, raw_headers_len) = self.fields(request.raw_headers.iter().map(raw).collect());
        Upgrade {
            ticket: upgrade.ticket.to_u64(),
            method: Str::of(&request.method),
            path: Str::of(&request.path),
            query: Str::maybe(request.query.as_deref()),
            ip: self.text(request.ip.map(|ip| ip.to_string())),
            headers,
            headers_len,
            cookies,
            cookies_len,
            peer_certificate: request.peer_certificate.as_deref().map_or(Str::NONE, Str::bytes),
            token: Str::maybe(request.token.as_deref()),
            route: Str::maybe(request.route.as_deref()),
            params,
            params_len,
            log_id: self.text(Some(upgrade.id.to_string())),
            identity: self.identity(upgrade.identity.as_ref()),
            local: self.text(upgrade.local.map(|local| local.to_string())),
            adopted: upgrade.adopted.unwrap_or(0),
            raw_headers,
            raw_headers_len,
            reported: request.reported,
        }
    }

    fn open(&mut self, open: &binding::Open) -> Open {
        let (roles, roles_len) = self.list(open.roles.iter().map(Str::of).collect());
        let (params, params_len) = self.params(&open.params);
        let (headers, headers_len) = self.pairs(&open.headers);
        let (cookies, cookies_len) = self.pairs(&open.cookies);
        Open {
            ticket: open.ticket.map_or(0, binding::TicketId::to_u64),
            ip: self.text(open.ip.map(|ip| ip.to_string())),
            user: Str::maybe(open.user.as_deref()),
            path: Str::of(&open.path),
            subprotocol: Str::maybe(open.subprotocol.as_deref()),
            expires_at_ms: open.expires_at_ms.unwrap_or(WSG_NEVER),
            tag: open.tag.unwrap_or(0),
            roles,
            roles_len,
            route: Str::maybe(open.route.as_deref()),
            params,
            params_len,
            query: Str::maybe(open.query.as_deref()),
            headers,
            headers_len,
            cookies,
            cookies_len,
            claims: Str::maybe(open.claims.as_deref()),
            origin: Str::maybe(open.origin.as_deref()),
            peer: self.text(open.peer.map(|peer| peer.to_string())),
            port: open.port.unwrap_or(0),
            tls: self.tls(open.tls.as_deref()),
            opened_at_ms: open.opened_at_ms,
            log_id: self.text(Some(open.id.to_string())),
            local: self.text(open.local.map(|local| local.to_string())),
            adopted: open.adopted.unwrap_or(0),
            compressed: open.compressed,
            reported: open.reported,
        }
    }

    fn violation(&mut self, violation: &binding::ViolationEvent) -> Violation {
        Violation {
            code: violation.code as u32,
            close_code: if violation.conn.is_some() { violation.code.close_code() } else { 0 },
            http_status: if violation.conn.is_some() { 0 } else { violation.code.http_status() },
            ip: self.text(violation.ip.map(|ip| ip.to_string())),
            user: Str::maybe(violation.user.as_deref()),
            conn_id: violation.conn.map_or(0, ConnectionId::to_u64),
            event: Str::maybe(violation.event.as_deref()),
            detail: Str::of(&violation.detail),
            reported: violation.reported,
        }
    }
}

/// A verdict by its number.
fn number(verdict: Option<Code>) -> u32 {
    verdict.map_or(WSG_NO_VERDICT, |verdict| verdict as u32)
}

fn seen_message(message: &binding::JsonMessage<'_>) -> Message {
    Message {
        event: Str::of(message.event),
        data: Str::of(message.data.as_str()),
        id: Str::maybe(message.id),
        status: match message.status {
            None => MessageStatus::None,
            Some(Status::Ok) => MessageStatus::Ok,
            Some(Status::Error) => MessageStatus::Error,
        },
        size_bytes: message.bytes,
    }
}
