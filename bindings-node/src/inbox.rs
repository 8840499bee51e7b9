//! Events on their way to JavaScript: a batch of the core becomes records, one text and bytes in an arena.
//!
//! JavaScript makes one call, gets one string for all texts of the chunk, and parses all JSON at once. A slice of string or
//! arena that the application keeps holds the memory of its chunk, so chunks are small.

use serde_json::{Value, json};
use wsguard::binding::{
    Closing, Code, ConnectionId, Event, EventBatch, FrameFault, JsonMessage, Open, RevokedUsers, Status,
};

use crate::connections::{Connections, NO_PLACE, split_u64};
use crate::event_names::EventNames;
use crate::json;
use crate::records::{HAS_ID, Kind, Records, STATUS_ERROR, STATUS_OK, TextKind, UNKNOWN_EVENT};

/// The length of a JSON text beyond which a chunk ends. Values parsed from it have memory of their own.
const TEXT_BYTES: usize = 32 * 1024;
/// The same for texts that JavaScript slices. A longer text has a chunk to itself: a short one that the application keeps
/// must not hold it.
const SLICED_TEXT_BYTES: usize = 8 * 1024;

/// The text of a chunk.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) written: String,
    pub(crate) kind: TextKind,
    /// Its length in UTF-16 units.
    units: usize,
}

/// The events that JavaScript has not seen yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) batch: EventBatch,
    seen: usize,
    pub(crate) connections: Connections,
    /// Nobody listens to opens and closes: the open of a connection is deferred until its next event.
    pub(crate) defers_opens: bool,
    /// Texts go to JavaScript as bytes, and messages of the contract as the bytes of a text.
    pub(crate) texts_are_bytes: bool,
    /// The users that were disconnected: their connections that were accepted before are over.
    revoked: RevokedUsers,
    pub(crate) text: Text,
    events: EventNames,
    /// Of the policy that has judged the last message, as JavaScript was told.
    generation: u64,
}

/// Why filling a chunk ended before an event.
enum Full {
    Chunk,
    Arena { missing: usize },
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let text = Text { written: String::new(), kind: TextKind::None, units: 0 };
        Self {
            batch: EventBatch::new(),
            seen: 0,
            connections: Connections::default(),
            defers_opens: false,
            texts_are_bytes: false,
            revoked: RevokedUsers::default(),
            text,
            events: EventNames::default(),
            generation: 1,
        }
    }

    /// The numbers of events.
    pub(crate) fn events(&self) -> &EventNames {
        &self.events
    }

    /// Gives numbers to the events of a policy that has come into force.
    pub(crate) fn learn(&mut self, options: &Value) {
        self.events.add(options);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen == self.batch.len()
    }

    /// A new batch is there.
    pub(crate) fn refilled(&mut self) {
        self.seen = 0;
    }

    /// A user was disconnected by the revocation of that number.
    pub(crate) fn disconnected(&mut self, user: &str, number: u64) {
        self.revoked.note(user, number);
    }

    fn is_revoked(&self, open: &Open) -> bool {
        open.user.as_deref().is_some_and(|user| self.revoked.is_over(user, open.granted))
    }

    /// Fills a chunk: as many events as fit into `records`, `arena` (from `start`) and one text.
    pub(crate) fn fill(&mut self, records: &mut Records<'_>, arena: &mut [u8], start: usize) {
        self.text.clear();
        self.connections.caught_up();
        let mut end = start;
        let mut missing = 0;
        let batch = core::mem::take(&mut self.batch);
        while let Some(event) = batch.get(self.seen)
            && !records.is_full()
        {
            if self.defers(&event) {
                self.seen += 1;
                continue;
            }
            match self.announce(&event, records).and_then(|()| self.push(&event, records, arena, &mut end)) {
                Ok(()) => self.seen += 1,
                Err(Full::Chunk) => break,
                Err(Full::Arena { missing: bytes }) => {
                    missing = bytes;
                    break;
                }
            }
        }
        self.batch = batch;
        self.text.finish();
        records.finish(self.text.kind, !self.is_empty(), end, missing);
    }

    /// Defers an open, and skips the close of a connection whose open was deferred. Returns true if it did either.
    fn defers(&mut self, event: &Event<'_>) -> bool {
        match event {
            // JavaScript keeps the data of a handshake that the application accepted until the open comes.
            Event::Open(open) if self.defers_opens && open.ticket.is_none() && !self.is_revoked(open) => {
                self.connections.defer_open(open);
                true
            }
            Event::Close(close) => self.connections.take_deferred(close.conn).is_some(),
            _ => false,
        }
    }

    /// Announces the connection of an event, if its open was deferred.
    fn announce(&mut self, event: &Event<'_>, records: &mut Records<'_>) -> Result<(), Full> {
        let Some(conn) = event.conn().filter(|conn| self.connections.is_deferred(*conn)) else { return Ok(()) };
        self.text.begin(TextKind::Json)?;
        if let Some(open) = self.connections.take_deferred(conn) {
            self.push_open(Kind::Announce, &open, records);
        }
        Ok(())
    }

    /// Announces every connection whose open was deferred: its place, the words of its id, its description.
    pub(crate) fn announce_all(&mut self) -> Option<Value> {
        let opens = self.connections.take_all_deferred();
        self.announcement(opens.values().map(|open| &**open))
    }

    /// Announces the connections of a user whose open was deferred.
    pub(crate) fn announce_user(&mut self, user: &str) -> Option<Value> {
        let opens = self.connections.take_deferred_of(user);
        self.announcement(opens.iter())
    }

    fn announcement<'o>(&mut self, opens: impl Iterator<Item = &'o Open>) -> Option<Value> {
        let mut announced = Vec::new();
        for open in opens {
            let [low, high] = split_u64(open.conn.to_u64());
            announced.push(json!([self.connections.open(open.conn), low, high, json::open(open, false)]));
        }
        (!announced.is_empty()).then(|| announced.into())
    }

    fn push(
        &mut self,
        event: &Event<'_>,
        records: &mut Records<'_>,
        arena: &mut [u8],
        end: &mut usize,
    ) -> Result<(), Full> {
        match event {
            Event::Binary(conn, payload) => self.push_bytes(Kind::Binary, *conn, payload, records, arena, end),
            Event::Text(conn, text) if self.texts_are_bytes => {
                self.push_bytes(Kind::Utf8, *conn, text.as_bytes(), records, arena, end)
            }
            Event::Message(message) if self.texts_are_bytes => {
                let text = written(message);
                self.push_bytes(Kind::Utf8, message.conn, text.as_bytes(), records, arena, end)
            }
            Event::Text(conn, text) => self.push_text(*conn, text, records),
            Event::Message(message) => self.push_message(message, records),
            Event::Drained(conn) => {
                records.push(Kind::Drained, [self.connections.place(*conn), 0, 0]);
                Ok(())
            }
            Event::Closing(Closing { conn, fault: None, .. }) => {
                records.push(Kind::Closing, [self.connections.place(*conn), 0, 0]);
                Ok(())
            }
            Event::Pong { conn, rtt } => {
                let [low, high] = split_u64(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX));
                records.push(Kind::Pong, [self.connections.place(*conn), low, high]);
                Ok(())
            }
            Event::UpgradeGone(ticket) => {
                let [low, high] = split_u64(ticket.to_u64());
                records.push(Kind::UpgradeGone, [NO_PLACE, low, high]);
                Ok(())
            }
            Event::PingFrame(conn, payload) => self.push_bytes(Kind::PeerPing, *conn, payload, records, arena, end),
            Event::PongFrame(conn, payload) => self.push_bytes(Kind::PeerPong, *conn, payload, records, arena, end),
            Event::PipeReady(pipe) => {
                let [low, high] = split_u64(pipe.to_u64());
                records.push(Kind::PipeReady, [NO_PLACE, low, high]);
                Ok(())
            }
            Event::PipeRoom(pipe) => {
                let [low, high] = split_u64(pipe.to_u64());
                records.push(Kind::PipeRoom, [NO_PLACE, low, high]);
                Ok(())
            }
            Event::AdoptionEnded { tag, status, .. } => {
                records.push(Kind::AdoptionEnded, [NO_PLACE, *tag as u32, u32::from(*status)]);
                Ok(())
            }
            rare => self.push_rare(rare, records),
        }
    }

    fn push_bytes(
        &mut self,
        kind: Kind,
        conn: ConnectionId,
        payload: &[u8],
        records: &mut Records<'_>,
        arena: &mut [u8],
        end: &mut usize,
    ) -> Result<(), Full> {
        let place = self.connections.place(conn);
        let room = arena.get_mut(*end..*end + payload.len()).ok_or(Full::Arena { missing: payload.len() })?;
        room.copy_from_slice(payload);
        records.push(kind, [place, *end as u32, payload.len() as u32]);
        *end += payload.len();
        Ok(())
    }

    fn push_text(&mut self, conn: ConnectionId, text: &str, records: &mut Records<'_>) -> Result<(), Full> {
        self.text.begin_plain(text.len())?;
        let (start, length) = self.text.push(text);
        records.push(Kind::Text, [self.connections.place(conn), start as u32, length as u32]);
        Ok(())
    }

    fn push_message(&mut self, message: &JsonMessage<'_>, records: &mut Records<'_>) -> Result<(), Full> {
        self.text.begin(TextKind::Json)?;
        let mut event = self.events.number(message.event);
        if event == UNKNOWN_EVENT {
            self.text.element(&Value::from(message.event).to_string());
        }
        self.text.element(message.data.as_str());
        if let Some(id) = message.id {
            self.text.element(id);
            event |= HAS_ID;
        }
        event |= match message.status {
            Some(Status::Ok) => STATUS_OK,
            Some(Status::Error) => STATUS_ERROR,
            None => 0,
        };
        if ![0, self.generation].contains(&message.generation) {
            self.generation = message.generation;
            records.push(Kind::JudgedBy, [NO_PLACE, message.generation as u32, 0]);
        }
        records.push(Kind::Message, [self.connections.place(message.conn), event, message.bytes as u32]);
        Ok(())
    }

    fn push_rare(&mut self, event: &Event<'_>, records: &mut Records<'_>) -> Result<(), Full> {
        self.text.begin(TextKind::Json)?;
        let (kind, words, element) = match event {
            Event::Open(open) => {
                self.push_open(Kind::Open, open, records);
                return Ok(());
            }
            Event::Close(close) => {
                let words = [self.connections.close(close.conn), u32::from(close.code), u32::from(close.clean)];
                let verdict = Value::from(close.verdict.map(Code::name));
                let peer =
                    json!([close.fault.map(FrameFault::name), close.peer_code, close.peer_reason, close.fault_value]);
                (Kind::Close, words, format!("{},{verdict},{peer}", Value::from(close.reason)))
            }
            Event::Closing(closing) => {
                let fault = json!([closing.fault.map(FrameFault::name), closing.fault_value]);
                (Kind::Closing, [self.connections.place(closing.conn), 1, 0], fault.to_string())
            }
            Event::Upgrade(upgrade) => {
                let [low, high] = split_u64(upgrade.ticket.to_u64());
                (Kind::Upgrade, [NO_PLACE, low, high], json::request(upgrade).to_string())
            }
            Event::Violation(violation) => {
                let place = violation.conn.map_or(NO_PLACE, |conn| self.connections.place(conn));
                (Kind::Violation, [place, 0, 0], json::violation(violation))
            }
            _ => return Ok(()),
        };
        self.text.element(&element);
        records.push(kind, words);
        Ok(())
    }

    fn push_open(&mut self, kind: Kind, open: &Open, records: &mut Records<'_>) {
        let [low, high] = split_u64(open.conn.to_u64());
        self.text.element(&json::open(open, self.is_revoked(open)).to_string());
        records.push(kind, [self.connections.open(open.conn), low, high]);
    }
}

/// A message as a text again: what the contract has checked, in one spelling.
fn written(message: &JsonMessage<'_>) -> String {
    let mut text = format!("{{\"event\":{},\"data\":{}", Value::from(message.event), message.data.as_str());
    if let Some(id) = message.id {
        text.push_str(",\"id\":");
        text.push_str(id);
    }
    match message.status {
        Some(Status::Ok) => text.push_str(",\"status\":\"ok\""),
        Some(Status::Error) => text.push_str(",\"status\":\"error\""),
        None => {}
    }
    text.push('}');
    text
}

impl Text {
    fn clear(&mut self) {
        self.written.clear();
        self.written.shrink_to(1 << 20);
        self.kind = TextKind::None;
        self.units = 0;
    }

    /// Checks that more text of this kind fits. A chunk takes at least one text, however long.
    fn begin(&mut self, kind: TextKind) -> Result<(), Full> {
        if self.kind == TextKind::None {
            self.kind = kind;
            if kind == TextKind::Json {
                self.written.push('[');
            }
            return Ok(());
        }
        let most = if kind == TextKind::Plain { SLICED_TEXT_BYTES } else { TEXT_BYTES };
        if self.kind != kind || self.written.len() > most { Err(Full::Chunk) } else { Ok(()) }
    }

    /// The same for a text of so many bytes that JavaScript slices.
    fn begin_plain(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes > SLICED_TEXT_BYTES && self.kind != TextKind::None {
            Err(Full::Chunk)
        } else {
            self.begin(TextKind::Plain)
        }
    }

    /// Adds a text. Returns its start and length in UTF-16 units.
    fn push(&mut self, text: &str) -> (usize, usize) {
        let length = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
        let start = self.units;
        self.written.push_str(text);
        self.units += length;
        (start, length)
    }

    /// Adds an element to the JSON array.
    fn element(&mut self, json: &str) {
        if self.written.len() > 1 {
            self.written.push(',');
        }
        self.written.push_str(json);
    }

    fn finish(&mut self) {
        if self.kind == TextKind::Json {
            self.written.push(']');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_kept_holds_no_more_than_two_chunks_of_short_ones() {
        let mut text = Text { written: String::new(), kind: TextKind::None, units: 0 };
        let mut push = |bytes: usize| {
            let fits = text.begin_plain(bytes).is_ok();
            if fits {
                text.push(&"x".repeat(bytes));
            } else {
                text.clear();
            }
            fits
        };
        assert!(push(32) && push(32));
        assert!(!push(SLICED_TEXT_BYTES + 1), "a long one behind short ones");
        assert!(push(SLICED_TEXT_BYTES + 1), "a long one alone");
        assert!(!push(32), "a short one behind a long one");
        assert!(
            push(SLICED_TEXT_BYTES) && push(SLICED_TEXT_BYTES) && !push(1),
            "what is no longer than a chunk, and then no more"
        );
    }
}
