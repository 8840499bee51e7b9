//! Records: four 32-bit words each, in a buffer that JavaScript reads as a `Uint32Array`. `lib/records.js` reads the
//! numbers from here.

/// The kind of a record: its word 0. The other words are the kind's own. The kinds up to `Message` are messages.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    /// place, offset in the arena, bytes
    Binary = 1,
    /// place, offset in the text, length (UTF-16 units)
    Text = 2,
    /// place, offset in the arena, bytes: a text as its bytes, where JavaScript asked for that
    Utf8 = 3,
    /// place, event | flags, bytes; the data is the next element of the array, an id the one after it
    Message = 4,
    /// place, id; the next element describes it
    Open = 5,
    /// place, code, clean; the next elements are the reason, the verdict, and the fault, code and reason of the peer, and the number that broke the rule
    Close = 6,
    /// -, ticket; the next element is the request
    Upgrade = 7,
    /// place; the next element describes it
    Violation = 8,
    /// place
    Drained = 9,
    /// the server has stopped and every event was taken
    Stopped = 10,
    /// place, id; as `Open`, of a connection whose open was deferred
    Announce = 11,
    /// place, nanoseconds to the answer of the oldest ping
    Pong = 12,
    /// -, ticket; it has no connection
    UpgradeGone = 13,
    /// place, offset in the arena, bytes: the payload of a ping or pong of the peer
    PeerPing = 14,
    PeerPong = 15,
    /// -, id of a pipe: there is something to take, or room again
    PipeReady = 16,
    PipeRoom = 17,
    /// -, tag, status of the answer or 0
    AdoptionEnded = 18,
    /// -, generation: of the policy that has judged the messages of the contract that follow
    JudgedBy = 19,
    /// place, whether a fault follows in the text: no message of it follows
    Closing = 20,
}

/// Flags beside the event's number in a message record.
pub(crate) const HAS_ID: u32 = 1 << 31;
pub(crate) const STATUS_OK: u32 = 1 << 30;
pub(crate) const STATUS_ERROR: u32 = 1 << 29;
/// The event is not in the contract (`onViolation: "report"`): its name is an element before the data.
pub(crate) const UNKNOWN_EVENT: u32 = (1 << 29) - 1;

/// Beside the kind of the text: more of the same batch follows.
const MORE: u32 = 1 << 8;

/// The format of a batch's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum TextKind {
    None = 0,
    /// A JSON array.
    Json = 1,
    /// Texts one after the other.
    Plain = 2,
}

/// The numbers by JavaScript's names.
pub(crate) const NUMBERS: [(&str, u32); 26] = [
    ("BINARY", Kind::Binary as u32),
    ("TEXT", Kind::Text as u32),
    ("TEXT_BYTES", Kind::Utf8 as u32),
    ("MESSAGE", Kind::Message as u32),
    ("OPEN", Kind::Open as u32),
    ("CLOSE", Kind::Close as u32),
    ("UPGRADE", Kind::Upgrade as u32),
    ("VIOLATION", Kind::Violation as u32),
    ("DRAINED", Kind::Drained as u32),
    ("STOPPED", Kind::Stopped as u32),
    ("ANNOUNCE", Kind::Announce as u32),
    ("PONG", Kind::Pong as u32),
    ("UPGRADE_GONE", Kind::UpgradeGone as u32),
    ("PEER_PING", Kind::PeerPing as u32),
    ("PEER_PONG", Kind::PeerPong as u32),
    ("PIPE_READY", Kind::PipeReady as u32),
    ("PIPE_ROOM", Kind::PipeRoom as u32),
    ("ADOPTION_ENDED", Kind::AdoptionEnded as u32),
    ("JUDGED_BY", Kind::JudgedBy as u32),
    ("CLOSING", Kind::Closing as u32),
    ("HAS_ID", HAS_ID),
    ("STATUS_OK", STATUS_OK),
    ("STATUS_ERROR", STATUS_ERROR),
    ("UNKNOWN_EVENT", UNKNOWN_EVENT),
    ("JSON_TEXT", TextKind::Json as u32),
    ("MORE", MORE),
];

/// The records of one batch; the first one is the head: count, kind of the text, end of the arena's used part, bytes
/// that did not fit there.
#[derive(Debug)]
pub(crate) struct Records<'b> {
    buffer: &'b mut [u8],
    count: usize,
}

const BYTES: usize = 16;

impl<'b> Records<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, count: 0 }
    }

    /// Returns true if an event, the announcement of its connection and what judged it may not fit.
    pub(crate) fn is_full(&self) -> bool {
        (self.count + 4) * BYTES > self.buffer.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn push(&mut self, kind: Kind, words: [u32; 3]) {
        self.count += 1;
        self.put(self.count, [kind as u32, words[0], words[1], words[2]]);
    }

    pub(crate) fn finish(&mut self, text: TextKind, has_more: bool, arena_end: usize, missing: usize) {
        let text = text as u32 | if has_more { MORE } else { 0 };
        self.put(0, [self.count as u32, text, arena_end as u32, missing as u32]);
    }

    fn put(&mut self, place: usize, words: [u32; 4]) {
        if let Some(record) = self.buffer.get_mut(place * BYTES..(place + 1) * BYTES) {
            for (bytes, word) in record.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
        }
    }
}
