//! The application: one room. Nothing here checks a size, a rate, an origin or the form of a message: what arrives has passed
//! the policy.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use wsguard::{Accept, ConnectionId, Decision, Event, JsonMessage, ServerHandle, Upgrade, ViolationEvent};

use crate::guests::Guests;
use crate::journal::{Entry, Journal};

/// The room of everyone.
const CHAT: &str = "chat";
/// Messages that newcomers are told.
const KEPT: usize = 12;

pub(crate) struct Chat {
    guests: Arc<Guests>,
    journal: Arc<Journal>,
    members: HashMap<ConnectionId, Arc<str>>,
    said: VecDeque<Value>,
}

impl Chat {
    pub(crate) fn new(guests: Arc<Guests>, journal: Arc<Journal>) -> Self {
        Self { guests, journal, members: HashMap::new(), said: VecDeque::new() }
    }

    pub(crate) fn handle(&mut self, event: &Event<'_>, server: &ServerHandle) {
        match event {
            Event::Upgrade(upgrade) => authenticate(&self.guests, upgrade, server),
            Event::Open(open) => self.open(open.conn, open.user.clone().unwrap_or_default(), server),
            Event::Message(message) => self.receive(message, server),
            Event::Close(close) => {
                self.members.remove(&close.conn);
                self.tell_members(server);
            }
            Event::Violation(violation) => self.record(violation, server),
            _ => {}
        }
    }

    fn open(&mut self, conn: ConnectionId, user: Arc<str>, server: &ServerHandle) {
        // An error here and below: the peer has left, which is told by an event of its own.
        let _ = server.emit(conn, "welcome", &json!({ "user": &*user, "said": self.said }).to_string());
        let _ = server.join(conn, CHAT);
        self.members.insert(conn, user);
        self.tell_members(server);
    }

    fn receive(&mut self, message: &JsonMessage<'_>, server: &ServerHandle) {
        if message.event == "echo" {
            let _ = server.reply(message.conn, message.id, "echo", message.data);
            return;
        }
        let Some(user) = self.members.get(&message.conn) else { return };
        let data: Value = serde_json::from_str(message.data).unwrap_or_default();
        let said = json!({ "name": &**user, "text": data["text"] });
        tell(server, "said", &said);
        self.guests.count(user, self.members.len() as u64 - 1);
        if self.said.len() == KEPT {
            self.said.pop_front();
        }
        self.said.push_back(said);
    }

    fn tell_members(&self, server: &ServerHandle) {
        tell(server, "members", &self.members.len().into());
    }

    /// The room hears who was put out of it, and why.
    fn record(&mut self, violation: &ViolationEvent, server: &ServerHandle) {
        if let (Some(user), Some(_)) = (&violation.user, violation.conn) {
            let notice =
                json!({ "user": &**user, "code": violation.code.name(), "close": violation.code.close_code() });
            tell(server, "removed", &notice);
        }
        self.journal.add(Entry::Verdict(violation.clone()));
    }
}

/// The application's part of `auth: "callback"`: whose token it is.
pub(crate) fn authenticate(guests: &Guests, upgrade: &Upgrade, server: &ServerHandle) {
    let decision = match upgrade.request.token.as_deref().and_then(|token| guests.user(token)) {
        Some(user) => Decision::Accept(Accept { user: Some(user), expires_at_ms: None }),
        None => Decision::Reject(401),
    };
    // An error here: the peer has left meanwhile.
    let _ = server.answer(upgrade.ticket, decision);
}

fn tell(server: &ServerHandle, event: &str, data: &Value) {
    // An error here: the server has stopped, and this was the last event.
    let _ = server.broadcast(Some(CHAT), event, &data.to_string(), None);
}
