//! Events on their way to JavaScript: a batch of the core becomes records, one text and bytes in an arena.
//!
//! JavaScript makes one call, gets one string for all texts of the batch, and parses all JSON at once. What it slices
//! from string or arena keeps at most that chunk alive, so chunks are small.

use serde_json::{Value, json};
use wsguard::binding::{ConnectionId, Event, EventBatch, JsonMessage, Open, RevokedUsers, Status};

use crate::connections::{Connections, NOBODY, halves};
use crate::json;
use crate::records::{HAS_ID, Kind, Records, STATUS_ERROR, STATUS_OK, TextKind, UNKNOWN_EVENT};

/// A chunk ends when its text is longer, so that one message that is kept keeps little else alive.
const TEXT_BYTES: usize = 32 * 1024;
/// The same of texts that JavaScript slices; what it parses from JSON has memory of its own. A longer one has a chunk to
/// itself, so that a peer cannot make a short one that is kept hold it.
const SLICED_TEXT_BYTES: usize = 8 * 1024;

/// The text of a chunk.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) written: String,
    pub(crate) kind: TextKind,
    /// Length so far, as JavaScript counts.
    units: usize,
}

/// The events that JavaScript has not seen yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) batch: EventBatch,
    seen: usize,
    pub(crate) connections: Connections,
    /// Nobody listens to opens and closes: a connection is withheld until there is more to tell of it.
    pub(crate) withholds: bool,
    /// The users that were disconnected: an open of one that was let in before is over.
    revoked: RevokedUsers,
    pub(crate) text: Text,
    events: Vec<String>,
    last_event: usize,
}

/// Why filling a chunk ended before an event.
enum Full {
    Chunk,
    Arena { missing: usize },
}

impl Inbox {
    pub(crate) fn new(events: Vec<String>) -> Self {
        let text = Text { written: String::new(), kind: TextKind::None, units: 0 };
        Self {
            batch: EventBatch::new(),
            seen: 0,
            connections: Connections::default(),
            withholds: false,
            revoked: RevokedUsers::default(),
            text,
            events,
            last_event: 0,
        }
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
            if self.keeps_back(&event) {
                self.seen += 1;
                continue;
            }
            match self.introduce(&event, records).and_then(|()| self.push(&event, records, arena, &mut end)) {
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

    /// Keeps an opening from JavaScript, and the end of a connection that JavaScript never knew; whether it was one.
    fn keeps_back(&mut self, event: &Event<'_>) -> bool {
        match event {
            // What was accepted by a ticket has data that waits for it.
            Event::Open(open) if self.withholds && open.ticket.is_none() && !self.is_revoked(open) => {
                self.connections.withhold(open);
                true
            }
            Event::Close(close) => self.connections.unveil(close.conn).is_some(),
            _ => false,
        }
    }

    /// Tells of the connection that an event belongs to, if JavaScript does not know it.
    fn introduce(&mut self, event: &Event<'_>, records: &mut Records<'_>) -> Result<(), Full> {
        let Some(conn) = event.conn().filter(|conn| self.connections.is_withheld(*conn)) else { return Ok(()) };
        self.text.begin(TextKind::Json)?;
        if let Some(open) = self.connections.unveil(conn) {
            self.push_open(Kind::Known, &open, records);
        }
        Ok(())
    }

    /// Every connection that JavaScript does not know yet: its place, its id's halves, what describes it.
    pub(crate) fn reveal(&mut self) -> Option<Value> {
        let unveiled = self.connections.unveil_all();
        self.tell(unveiled.values().map(|open| &**open))
    }

    /// Those of a user.
    pub(crate) fn reveal_user(&mut self, user: &str) -> Option<Value> {
        let unveiled = self.connections.unveil_user(user);
        self.tell(unveiled.iter())
    }

    fn tell<'o>(&mut self, opens: impl Iterator<Item = &'o Open>) -> Option<Value> {
        let mut revealed = Vec::new();
        for open in opens {
            let [low, high] = halves(open.conn.to_u64());
            revealed.push(json!([self.connections.open(open.conn), low, high, json::open(open, false)]));
        }
        (!revealed.is_empty()).then(|| revealed.into())
    }

    fn push(
        &mut self,
        event: &Event<'_>,
        records: &mut Records<'_>,
        arena: &mut [u8],
        end: &mut usize,
    ) -> Result<(), Full> {
        match event {
            Event::Binary(conn, payload) => self.push_binary(*conn, payload, records, arena, end),
            Event::Text(conn, text) => self.push_text(*conn, text, records),
            Event::Message(message) => self.push_message(message, records),
            Event::Drained(conn) => {
                records.push(Kind::Drained, [self.connections.place(*conn), 0, 0]);
                Ok(())
            }
            rare => self.push_rare(rare, records),
        }
    }

    fn push_binary(
        &mut self,
        conn: ConnectionId,
        payload: &[u8],
        records: &mut Records<'_>,
        arena: &mut [u8],
        end: &mut usize,
    ) -> Result<(), Full> {
        let place = self.connections.place(conn);
        let room = arena.get_mut(*end..*end + payload.len()).ok_or(Full::Arena { missing: payload.len() })?;
        room.copy_from_slice(payload);
        records.push(Kind::Binary, [place, *end as u32, payload.len() as u32]);
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
        let mut event = self.number(message.event);
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
        records.push(Kind::Message, [self.connections.place(message.conn), event, message.bytes as u32]);
        Ok(())
    }

    /// The number of an event of the contract: its place in the list that JavaScript gave.
    fn number(&mut self, event: &str) -> u32 {
        if self.events.get(self.last_event).is_none_or(|last| last != event) {
            let Ok(found) = self.events.binary_search_by(|known| known.as_str().cmp(event)) else {
                return UNKNOWN_EVENT;
            };
            self.last_event = found;
        }
        self.last_event as u32
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
                (Kind::Close, words, close.reason.into())
            }
            Event::Upgrade(upgrade) => {
                let [low, high] = halves(upgrade.ticket.to_u64());
                (Kind::Upgrade, [NOBODY, low, high], json::request(&upgrade.request))
            }
            Event::Violation(violation) => {
                let place = violation.conn.map_or(NOBODY, |conn| self.connections.place(conn));
                (Kind::Violation, [place, 0, 0], json::violation(violation))
            }
            _ => return Ok(()),
        };
        self.text.element(&element.to_string());
        records.push(kind, words);
        Ok(())
    }

    fn push_open(&mut self, kind: Kind, open: &Open, records: &mut Records<'_>) {
        let [low, high] = halves(open.conn.to_u64());
        self.text.element(&json::open(open, self.is_revoked(open)).to_string());
        records.push(kind, [self.connections.open(open.conn), low, high]);
    }
}

impl Text {
    fn clear(&mut self) {
        self.written.clear();
        self.written.shrink_to(1 << 20);
        self.kind = TextKind::None;
        self.units = 0;
    }

    /// Makes sure that more text of this kind may follow. A chunk takes at least one, however long.
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

    /// Adds a text; where it starts and how long it is, in UTF-16 units.
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
