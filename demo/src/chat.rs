//! The application: one room. Nothing here checks a size, a rate, an origin or the form of a message: what arrives has passed
//! the policy.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use wsguard::{ConnectionId, Decision, Error, Event, Handle, JsonMessage, Upgrade, ViolationEvent};

use crate::guests::{Guests, NOBODY};
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

    pub(crate) fn handle(&mut self, event: &Event<'_>, server: &Handle) -> Result<(), Error> {
        match event {
            Event::Upgrade(upgrade) => authenticate(&self.guests, upgrade, server),
            Event::Open(open) => self.open(open.conn, open.user.clone().unwrap_or_else(|| NOBODY.into()), server),
            Event::Message(message) => self.receive(message, server),
            Event::Close(close) => {
                self.members.remove(&close.conn);
                self.tell_members(server)
            }
            Event::Violation(violation) => self.record(violation, server),
            _ => Ok(()),
        }
    }

    fn open(&mut self, conn: ConnectionId, user: Arc<str>, server: &Handle) -> Result<(), Error> {
        server.conn(conn).emit("welcome", &json!({ "user": &*user, "said": self.said }))?;
        server.conn(conn).join(CHAT)?;
        self.members.insert(conn, user);
        self.tell_members(server)
    }

    fn receive(&mut self, message: &JsonMessage<'_>, server: &Handle) -> Result<(), Error> {
        if message.event == "echo" {
            server.reply(message, "echo", &message.data)?;
            return Ok(());
        }
        let Some(user) = self.members.get(&message.conn) else { return Ok(()) };
        let data: Value = message.data().unwrap_or_default();
        let said = json!({ "name": &**user, "text": data["text"] });
        let told_as = match message.event {
            "say" => "said",
            // Whose event this is the policy says.
            "announce" => "announced",
            // One that an edited policy lists: it has arrived, and means nothing here.
            _ => {
                self.guests.count(user, 0);
                return Ok(());
            }
        };
        server.room(CHAT).emit(told_as, &said)?;
        self.guests.count(user, self.members.len() as u64 - 1);
        if told_as != "said" {
            return Ok(());
        }
        if self.said.len() == KEPT {
            self.said.pop_front();
        }
        self.said.push_back(said);
        Ok(())
    }

    fn tell_members(&self, server: &Handle) -> Result<(), Error> {
        server.room(CHAT).emit("members", &self.members.len())?;
        Ok(())
    }

    /// The room hears who was put out of it, and why.
    fn record(&mut self, violation: &ViolationEvent, server: &Handle) -> Result<(), Error> {
        if violation.conn.is_some() {
            let user = violation.user.as_deref().unwrap_or(NOBODY);
            let notice = json!({ "user": user, "code": violation.code.name(), "close": violation.code.close_code() });
            server.room(CHAT).emit("removed", &notice)?;
        }
        self.journal.add(Entry::Verdict(violation.clone()));
        Ok(())
    }
}

/// The application's part of `auth: "callback"`: whose token it is.
pub(crate) fn authenticate(guests: &Guests, upgrade: &Upgrade, server: &Handle) -> Result<(), Error> {
    let user = upgrade.request.token.as_deref().and_then(|token| guests.user(token));
    server.answer(upgrade.ticket, user.map_or_else(Decision::unauthorized, Decision::accept))?;
    Ok(())
}
