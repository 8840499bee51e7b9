//! A batch and the views of it: what C gets to see of the events, built once when the batch is taken.

use wsguard::host::{self, EventBatch, Status};

use crate::events::{Close, Event, EventBody, EventKind, Field, Message, MessageStatus, Open, Upgrade, Violation};
use crate::handle::Str;

/// The events of one batch. The pointers in `events` lead into the other three.
#[derive(Debug, Default)]
pub(crate) struct Views {
    pub(crate) batch: EventBatch,
    events: Vec<Event>,
    texts: Vec<Box<str>>,
    fields: Vec<Box<[Field]>>,
}

impl Views {
    /// Makes the views of the batch, in place of those of the batch before.
    pub(crate) fn refresh(&mut self) -> &[Event] {
        let Self { batch, events, texts, fields } = self;
        events.clear();
        texts.clear();
        fields.clear();
        let mut kept = Kept { texts, fields };
        events.extend(batch.iter().map(|event| kept.event(&event)));
        events
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Forgets the views: the batch is about to change.
    pub(crate) fn forget(&mut self) {
        self.events.clear();
        self.events.shrink_to(4096);
        self.texts.clear();
        self.fields.clear();
    }
}

/// What is made for views: texts that the core has in another form, arrays of fields.
struct Kept<'v> {
    texts: &'v mut Vec<Box<str>>,
    fields: &'v mut Vec<Box<[Field]>>,
}

impl Kept<'_> {
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

    fn event(&mut self, event: &host::Event<'_>) -> Event {
        let conn = event.conn().map_or(0, host::ConnectionId::to_u64);
        let (kind, body) = match event {
            host::Event::Upgrade(upgrade) => (EventKind::Upgrade, EventBody { upgrade: self.upgrade(upgrade) }),
            host::Event::Open(open) => (EventKind::Open, EventBody { open: self.open(open) }),
            host::Event::Text(_, text) => (EventKind::Text, EventBody { payload: Str::of(text) }),
            host::Event::Binary(_, payload) => (EventKind::Binary, EventBody { payload: Str::bytes(payload) }),
            host::Event::Message(message) => (EventKind::Message, EventBody { message: seen_message(message) }),
            host::Event::Close(close) => {
                let reason = Str::of(close.reason);
                (EventKind::Close, EventBody { close: Close { code: close.code, clean: close.clean, reason } })
            }
            host::Event::Violation(violation) => {
                (EventKind::Violation, EventBody { violation: self.violation(violation) })
            }
            host::Event::Drained(_) => (EventKind::Drained, EventBody { payload: Str::NONE }),
        };
        Event { kind, conn, body }
    }

    fn upgrade(&mut self, upgrade: &host::Upgrade) -> Upgrade {
        let request = &upgrade.request;
        let field = |(name, value): (&str, &str)| Field { name: Str::of(name), value: Str::of(value) };
        let headers = request.headers.iter().map(|(name, value)| field((name, value))).collect();
        let (headers, headers_len) = self.fields(headers);
        let (cookies, cookies_len) = self.fields(request.cookies().map(field).collect());
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
        }
    }

    fn open(&mut self, open: &host::Open) -> Open {
        Open {
            ticket: open.ticket.map_or(0, host::TicketId::to_u64),
            ip: self.text(open.ip.map(|ip| ip.to_string())),
            user: Str::maybe(open.user.as_deref()),
            path: Str::of(&open.path),
            subprotocol: Str::maybe(open.subprotocol.as_deref()),
        }
    }

    fn violation(&mut self, violation: &host::ViolationEvent) -> Violation {
        Violation {
            verdict: violation.code as u32,
            ip: self.text(violation.ip.map(|ip| ip.to_string())),
            user: Str::maybe(violation.user.as_deref()),
            event: Str::maybe(violation.event.as_deref()),
        }
    }
}

fn seen_message(message: &host::JsonMessage<'_>) -> Message {
    Message {
        event: Str::of(message.event),
        data: Str::of(message.data),
        id: Str::maybe(message.id),
        status: match message.status {
            None => MessageStatus::None,
            Some(Status::Ok) => MessageStatus::Ok,
            Some(Status::Error) => MessageStatus::Error,
        },
        bytes: message.bytes,
    }
}
