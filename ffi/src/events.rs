//! Events as C sees them: plain structs of views into a batch.

use crate::pointers::{self, Str};

/// What happened. Later versions tell of more: ignore a kind that you do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum EventKind {
    /// A handshake asks (`auth: "callback"`): answer its ticket exactly once. `body.upgrade`.
    Upgrade = 1,
    /// A connection was authenticated and upgraded. `body.open`.
    Open = 2,
    /// A text message (`raw`). `body.payload`.
    Text = 3,
    /// A binary message (`raw`). `body.payload`.
    Binary = 4,
    /// A valid message (`json`). `body.message`.
    Message = 5,
    /// A connection ended; its id is stale from here on, and what `wsg_conn_set_data` keeps of it goes with its batch.
    /// `body.close`.
    Close = 6,
    /// A rule was broken. `body.violation`.
    Violation = 7,
    /// What waited when a send answered `WSG_QUEUED` was written. No body.
    Drained = 8,
}

/// The `status` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum MessageStatus {
    /// It has none.
    None = 0,
    /// `"ok"`.
    Ok = 1,
    /// `"error"`.
    Error = 2,
}

/// A header or a cookie.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Field {
    /// The name; of a header in lower case.
    pub name: Str,
    /// The value; UTF-8, whatever the peer sent.
    pub value: Str,
}

/// A handshake that asks the application.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Upgrade {
    /// What to answer; never 0. It stays good when the batch is freed.
    pub ticket: u64,
    /// Always `GET`.
    pub method: Str,
    /// The path, as sent.
    pub path: Str,
    /// The query without `?`, as sent; or none.
    pub query: Str,
    /// The client's address; none on a Unix socket without a proxy.
    pub ip: Str,
    /// Every header, in the order received.
    pub headers: *const Field,
    /// How many.
    pub headers_len: usize,
    /// Every cookie, in the order sent: the first 1024.
    pub cookies: *const Field,
    /// How many.
    pub cookies_len: usize,
    /// The leaf of the client's certificate chain (DER), where `tls.client_ca` asks for one.
    pub peer_certificate: Str,
    /// The credential that `token_sources` found first; or none.
    pub token: Str,
}

/// A connection that opened.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Open {
    /// The ticket it was accepted by; 0 without one.
    pub ticket: u64,
    /// The client's address; none on a Unix socket without a proxy.
    pub ip: Str,
    /// The user; or none.
    pub user: Str,
    /// The request path.
    pub path: Str,
    /// The subprotocol of the 101; or none.
    pub subprotocol: Str,
    /// When its session ends, in milliseconds since 1970: `exp` of its JWT, or what `wsg_server_accept` said. `WSG_NEVER`
    /// when it does not.
    pub expires_at_ms: u64,
}

/// A valid message of the `json` protocol.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Message {
    /// The event.
    pub event: Str,
    /// Its data as JSON text; `null` when absent.
    pub data: Str,
    /// The id to reply to, as JSON text (a string or an integer); or none.
    pub id: Str,
    /// The peer's status.
    pub status: MessageStatus,
    /// Payload bytes of the whole message.
    pub bytes: usize,
}

/// A connection that ended.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Close {
    /// The close code: ours when we closed, else the peer's; 1005 for an empty close frame, 1006 when it broke.
    pub code: u16,
    /// Whether both sides sent a close frame.
    pub clean: bool,
    /// The reason with it.
    pub reason: Str,
}

/// A verdict against a peer. A flood of them is sampled; the counters have every one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Violation {
    /// The verdict: a `wsg_verdict`.
    pub verdict: u32,
    /// The client's address; or none.
    pub ip: Str,
    /// The user, after authentication; or none.
    pub user: Str,
    /// The event of the message, escaped and cut to 64 characters; or none.
    pub event: Str,
    /// What was wrong, in the words of the log: at most 256 characters, none of them a control character.
    pub detail: Str,
}

/// What an event says, by its kind. Only the member named there may be read. Its size never changes; what the pointers lead
/// to may have more members in later versions.
#[derive(Clone, Copy)]
#[repr(C)]
pub union EventBody {
    /// `WSG_EVENT_UPGRADE`.
    pub upgrade: *const Upgrade,
    /// `WSG_EVENT_OPEN`.
    pub open: *const Open,
    /// `WSG_EVENT_TEXT` and `WSG_EVENT_BINARY`.
    pub payload: Str,
    /// `WSG_EVENT_MESSAGE`.
    pub message: *const Message,
    /// `WSG_EVENT_CLOSE`.
    pub close: *const Close,
    /// `WSG_EVENT_VIOLATION`.
    pub violation: *const Violation,
}

impl core::fmt::Debug for EventBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EventBody")
    }
}

/// One event. What it points at is valid until its batch is freed; in a callback, until that returns.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The connection it belongs to; 0 where there is none.
    pub conn: u64,
    /// More about it.
    pub body: EventBody,
}

/// A message as an inline handler sees it, valid during that call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InlineMessage {
    /// `WSG_EVENT_TEXT`, `WSG_EVENT_BINARY` or `WSG_EVENT_MESSAGE`.
    pub kind: EventKind,
    /// `json`: the event.
    pub event: Str,
    /// `json`: its data as JSON text. `raw`: the payload.
    pub data: Str,
    /// `json`: the id to reply to, as JSON text; or none.
    pub id: Str,
}

exports! {
    /// The first header of this name, in any case; `data` is `NULL` when there is none, and when `upgrade` is `NULL`.
    ///
    /// `upgrade` must be that of an event whose batch was not freed. The view is valid as long.
    pub fn wsg_upgrade_header(upgrade: Option<&Upgrade>, name: *const core::ffi::c_char, name_len: usize) -> Str {
        let Some(upgrade) = upgrade else { return Ok(Str::NONE) };
        let wanted = pointers::bytes(name, name_len)?;
        let headers = pointers::elements(upgrade.headers, upgrade.headers_len);
        let is_wanted = |field: &&Field| {
            pointers::bytes(field.name.data, field.name.len).is_ok_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        Ok(headers.iter().find(is_wanted).map_or(Str::NONE, |field| field.value))
    }
}
