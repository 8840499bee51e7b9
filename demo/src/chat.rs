//! The application: one room, and the verdicts of the server for everyone to watch.
//!
//! Nothing here checks a size, a rate, an origin or the form of a message: what arrives has passed the policy.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use wsguard::{Code, ConnectionId, Decision, Error, Event, Handle, JsonMessage, Upgrade, ViolationEvent};

use crate::visits::Visits;

/// The room of those who chat.
const CHAT: &str = "chat";
/// The room of those who watch what the server records.
pub(crate) const VERDICTS: &str = "verdicts";
/// Messages and verdicts that newcomers are told.
const KEPT: usize = 30;

/// Someone who is connected; a guest has a name once it has joined.
struct Guest {
    user: Arc<str>,
    name: Option<String>,
}

pub(crate) struct Chat {
    visits: Arc<Visits>,
    guests: HashMap<ConnectionId, Guest>,
    said: VecDeque<Value>,
    verdicts: VecDeque<Value>,
}

impl Chat {
    pub(crate) fn new(visits: Arc<Visits>) -> Self {
        Self { visits, guests: HashMap::new(), said: VecDeque::new(), verdicts: VecDeque::new() }
    }

    pub(crate) fn handle(&mut self, event: &Event<'_>, server: &Handle) -> Result<(), Error> {
        match event {
            Event::Upgrade(upgrade) => self.authenticate(upgrade, server),
            Event::Open(open) => {
                let user = open.user.clone().unwrap_or_default();
                self.guests.insert(open.conn, Guest { user, name: None });
                Ok(())
            }
            Event::Message(message) => self.receive(message, server),
            Event::Close(close) => self.leave(close.conn, server),
            Event::Violation(violation) => self.record(violation, server),
            _ => Ok(()),
        }
    }

    /// The token came as a subprotocol, the one place where a browser can put it that is neither URL nor cookie.
    fn authenticate(&self, upgrade: &Upgrade, server: &Handle) -> Result<(), Error> {
        let user = upgrade.request.token.as_deref().and_then(|token| self.visits.user(token));
        server.answer(upgrade.ticket, user.map_or_else(Decision::unauthorized, Decision::accept))?;
        Ok(())
    }

    fn receive(&mut self, message: &JsonMessage<'_>, server: &Handle) -> Result<(), Error> {
        let data: Value = message.data().unwrap_or_default();
        let text = |key: &str| data[key].as_str().unwrap_or_default();
        match message.event {
            "join" => self.join(message, text("name"), server),
            "say" => self.say(message, text("text"), server),
            _ => Ok(()),
        }
    }

    fn join(&mut self, message: &JsonMessage<'_>, name: &str, server: &Handle) -> Result<(), Error> {
        let Some(guest) = self.guests.get_mut(&message.conn) else { return Ok(()) };
        let first = guest.name.replace(name.to_owned()).is_none();
        if first {
            let welcome = json!({ "said": self.said, "verdicts": self.verdicts, "stats": stats(server) });
            server.reply(message, "welcome", &welcome)?;
            let conn = server.conn(message.conn);
            conn.join(CHAT)?;
            conn.join(VERDICTS)?;
        }
        self.tell_members(server)
    }

    fn leave(&mut self, conn: ConnectionId, server: &Handle) -> Result<(), Error> {
        if self.guests.remove(&conn).is_some_and(|guest| guest.name.is_some()) {
            self.tell_members(server)?;
        }
        Ok(())
    }

    /// Who has not joined is not heard.
    fn say(&mut self, message: &JsonMessage<'_>, text: &str, server: &Handle) -> Result<(), Error> {
        let Some(Guest { user, name: Some(name) }) = self.guests.get(&message.conn) else { return Ok(()) };
        let said = json!({ "user": &**user, "name": name, "text": text, "at_ms": unix_ms() });
        server.room(CHAT).emit("said", &said)?;
        keep(&mut self.said, said);
        Ok(())
    }

    fn tell_members(&self, server: &Handle) -> Result<(), Error> {
        let named = self.guests.values().filter_map(|guest| Some((&*guest.user, guest.name.as_deref()?)));
        let mut members: Vec<_> = named.map(|(user, name)| json!({ "user": user, "name": name })).collect();
        members.sort_by_key(|member| member["user"].to_string());
        server.room(CHAT).emit("members", &members)?;
        Ok(())
    }

    fn record(&mut self, violation: &ViolationEvent, server: &Handle) -> Result<(), Error> {
        let code = violation.code;
        // No connection: it was decided before the upgrade, and answered in HTTP.
        let answer = match violation.conn {
            None => format!("HTTP {}", code.http_status()),
            Some(_) => format!("close {}", code.close_code()),
        };
        let verdict = json!({
            "code": code.name(), "answer": answer, "user": violation.user.as_deref(),
            "event": violation.event.as_deref(), "at_ms": unix_ms(),
        });
        server.room(VERDICTS).emit("verdict", &verdict)?;
        keep(&mut self.verdicts, verdict);
        Ok(())
    }
}

fn keep(kept: &mut VecDeque<Value>, value: Value) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(value);
}

/// The server's own counters.
pub(crate) fn stats(server: &Handle) -> Value {
    let stats = server.stats();
    let counted = Code::ALL.iter().filter(|code| stats.verdict(**code) > 0);
    let verdicts: Map<_, _> = counted.map(|code| (code.name().to_owned(), stats.verdict(*code).into())).collect();
    json!({ "open": stats.open, "messages": stats.messages_in, "delayed": stats.delayed, "verdicts": verdicts })
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
