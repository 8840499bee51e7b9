//! Events as C sees them: plain structs of views into a batch.

use wsguard::binding::FrameFault;

use crate::pointers::{self, Str};

/// The kind of an event. Later versions add kinds: ignore those that you do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum EventKind {
    /// An opening handshake waits for the application (`auth: "callback"`, or `WSG_START_CONSULT`): answer its ticket
    /// exactly once. `body.upgrade`.
    Upgrade = 1,
    /// A connection was authenticated, and its opening handshake completed. `body.open`.
    Open = 2,
    /// A text message (`protocol: "raw"`). `body.payload`.
    Text = 3,
    /// A binary message (`protocol: "raw"`). `body.payload`.
    Binary = 4,
    /// A message that its schema accepts (`protocol: "json"`). `body.message`.
    Message = 5,
    /// A connection ended. From here on its id is not valid; the pointer of `wsg_conn_set_data` is kept until the batch is
    /// freed. `body.close`.
    Close = 6,
    /// A peer broke a rule. `body.violation`.
    Violation = 7,
    /// Everything that waited when a send returned `WSG_QUEUED` was written. No body.
    Drained = 8,
    /// The peer has answered a `wsg_conn_ping`: one event for each, in the order of the pings. `body.pong`.
    Pong = 9,
    /// An opening handshake that asked the application is over without a connection, and not because the application refused
    /// it: the peer left, its time is over, a limit was reached, or the server ends. Stop what you do for its ticket.
    /// `body.upgrade_gone`.
    UpgradeGone = 10,
    /// Bytes for the peer of a pipe (`wsg_server_adopt_pipe`), or the end, wait for `wsg_pipe_take`. Told once until all was
    /// taken. `body.pipe`.
    PipeReady = 11,
    /// A pipe for which `wsg_pipe_push` returned `WSG_QUEUED` has room again. Not told where the connection has ended:
    /// `WSG_EVENT_PIPE_READY` is. `body.pipe`.
    PipeRoom = 12,
    /// There will be no connection of an adoption that has a tag. `body.adoption_ended`.
    AdoptionEnded = 13,
    /// A ping of the peer, with its payload: only after `wsg_server_heed_control`. `body.payload`.
    PingFrame = 14,
    /// A pong of the peer, with its payload: only after `wsg_server_heed_control`. `body.payload`.
    PongFrame = 15,
    /// A connection has begun to close, and no message of it follows: only after `wsg_server_heed_closing`. What is sent now may
    /// not reach the peer. Where the end is certain at once `WSG_EVENT_CLOSE` alone tells it. It is stale where you have closed the
    /// connection. No body.
    Closing = 16,
}

/// The rule of framing that a peer broke: `wsg_close.fault`. Later versions add rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Fault {
    /// No rule of framing, or one that this header has no name for.
    None = 0,
    /// A reserved opcode; a continuation with nothing to continue; a new message inside another.
    InvalidOpcode = 1,
    /// RSV1 without a negotiated extension.
    ReservedBits1 = 2,
    /// RSV2 or RSV3.
    ReservedBits23 = 3,
    /// A fragmented control frame.
    ExpectedFin = 4,
    /// A frame without a mask.
    ExpectedMask = 5,
    /// A control frame of more than 125 bytes.
    ControlTooLong = 6,
    /// A close code that must not be sent.
    BadCloseCode = 7,
    /// A text message or the reason of a close frame is not UTF-8.
    BadUtf8 = 8,
    /// A close frame with one byte of payload.
    BadClosePayload = 9,
    /// A 64-bit length with the top bit set.
    LengthTooLong = 10,
    /// A length that is not in its shortest form.
    LengthNotMinimal = 11,
    /// A message over `max_message_bytes`.
    MessageTooBig = 12,
    /// A message of more than `max_fragments` frames.
    TooManyFragments = 13,
    /// A compressed message that cannot be inflated.
    BadCompression = 14,
}

impl Fault {
    /// Each with the core's.
    pub(crate) const ALL: [(Fault, FrameFault); 14] = [
        (Fault::InvalidOpcode, FrameFault::InvalidOpcode),
        (Fault::ReservedBits1, FrameFault::ReservedBits1),
        (Fault::ReservedBits23, FrameFault::ReservedBits23),
        (Fault::ExpectedFin, FrameFault::ExpectedFin),
        (Fault::ExpectedMask, FrameFault::ExpectedMask),
        (Fault::ControlTooLong, FrameFault::ControlTooLong),
        (Fault::BadCloseCode, FrameFault::BadCloseCode),
        (Fault::BadUtf8, FrameFault::BadUtf8),
        (Fault::BadClosePayload, FrameFault::BadClosePayload),
        (Fault::LengthTooLong, FrameFault::LengthTooLong),
        (Fault::LengthNotMinimal, FrameFault::LengthNotMinimal),
        (Fault::MessageTooBig, FrameFault::MessageTooBig),
        (Fault::TooManyFragments, FrameFault::TooManyFragments),
        (Fault::BadCompression, FrameFault::BadCompression),
    ];

    pub(crate) fn of(fault: Option<FrameFault>) -> Fault {
        let known = |(_, core): &&(Fault, FrameFault)| Some(*core) == fault;
        Self::ALL.iter().find(known).map_or(Fault::None, |(own, _)| *own)
    }
}

/// The `status` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum MessageStatus {
    /// The message has no status.
    None = 0,
    /// `"ok"`.
    Ok = 1,
    /// `"error"`.
    Error = 2,
}

/// A header, a cookie, or a parameter of a path.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Field {
    /// The name; of a header in lower case, but for `raw_headers`.
    pub name: Str,
    /// The value. It is UTF-8: bytes that are not were replaced. In `raw_headers` it is the bytes as sent.
    pub value: Str,
}

impl pointers::Plain for Field {}

/// An opening handshake that waits for the application.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Upgrade {
    /// The ticket to answer with `wsg_ticket_accept` or its like; never 0. It stays valid after the batch was freed.
    pub ticket: u64,
    /// The method: always `GET`.
    pub method: Str,
    /// The path, as sent.
    pub path: Str,
    /// The query without `?`, as sent; `data` is `NULL` if the target has no `?`.
    pub query: Str,
    /// The client's address; `data` is `NULL` on a Unix socket without a proxy.
    pub ip: Str,
    /// The headers, in the order received.
    pub headers: *const Field,
    /// The number of headers.
    pub headers_len: usize,
    /// The cookies, in the order sent: the first 1024.
    pub cookies: *const Field,
    /// The number of cookies.
    pub cookies_len: usize,
    /// The leaf of the client's certificate chain in DER, if `tls.client_ca` asks for one; otherwise `data` is `NULL`.
    pub peer_certificate: Str,
    /// The credential that `token_sources` found first; `data` is `NULL` if there is none.
    pub token: Str,
    /// The route of the path, as the option `routes` writes it: `/room/{name}`; `data` is `NULL` if the path is no route.
    pub route: Str,
    /// The parameters of the path, percent-decoded: those that a pattern such as `/room/{name}` names.
    pub params: *const Field,
    /// The number of parameters.
    pub params_len: usize,
    /// The name of this handshake in the log, and of the connection that follows: `hs=` there.
    pub log_id: Str,
    /// Who it is, where the server itself has found that out (`WSG_START_CONSULT`); `NULL` with `auth: "callback"`.
    pub identity: *const Identity,
    /// The address and port that the connection came in on; `data` is `NULL` on a Unix socket.
    pub local: Str,
    /// The tag of its adoption; 0 without one.
    pub adopted: u64,
    /// The headers as they were sent, in the order received: names in the sender's case, values as bytes.
    pub raw_headers: *const Field,
    /// The number of raw headers.
    pub raw_headers_len: usize,
    /// Its `Origin`, `Host` or credential would have been refused, if `report_handshakes` were off: no cookie or header of it says who
    /// it is.
    pub reported: bool,
}

/// Who a peer is, by its credential.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Identity {
    /// The user; `data` is `NULL` without one.
    pub user: Str,
    /// The roles.
    pub roles: *const Str,
    /// The number of roles.
    pub roles_len: usize,
    /// When its session ends, in milliseconds since 1970; `WSG_NEVER` if it does not.
    pub expires_at_ms: u64,
    /// The claims of its verified JSON Web Token (`auth.jwt`), as the text of a JSON object; `data` is `NULL` without one.
    pub claims: Str,
}

/// The TLS of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tls {
    /// The version: `TLSv1.3`.
    pub version: Str,
    /// The cipher suite by its name at IANA: `TLS_AES_128_GCM_SHA256`.
    pub cipher: Str,
    /// The server name that the client asked for; `data` is `NULL` without one.
    pub server_name: Str,
    /// The SHA-256 of the client's certificate (DER) in lower-case hexadecimal digits; `data` is `NULL` without one.
    pub client_certificate_sha256: Str,
}

/// A connection that was opened.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Open {
    /// The ticket that the application accepted; 0 without one.
    pub ticket: u64,
    /// The client's address; `data` is `NULL` on a Unix socket without a proxy.
    pub ip: Str,
    /// The user; `data` is `NULL` without one.
    pub user: Str,
    /// The path of the request.
    pub path: Str,
    /// The subprotocol that the server selected; `data` is `NULL` without one.
    pub subprotocol: Str,
    /// The end of the session in milliseconds since 1970: `exp` of its JWT, what `wsg_ticket_accept` was given, or
    /// `max_session_ms` from now, whichever is first. `WSG_NEVER` if it does not end.
    pub expires_at_ms: u64,
    /// What `wsg_ticket_accept_with` was given to know the session by; 0 without one.
    pub tag: u64,
    /// The roles: of its token, of the `roles_claim` of its JWT, or what `wsg_ticket_accept_with` was given.
    pub roles: *const Str,
    /// The number of roles.
    pub roles_len: usize,
    /// The route of the path, as the option `routes` writes it: `/room/{name}`; `data` is `NULL` if the path is no route.
    pub route: Str,
    /// The parameters of the path, percent-decoded: those that a pattern such as `/room/{name}` names.
    pub params: *const Field,
    /// The number of parameters.
    pub params_len: usize,
    /// The query without `?`, as sent but for the parameters that `token_sources` names; `data` is `NULL` if the target has
    /// no `?`.
    pub query: Str,
    /// The headers that the option `keep_headers` names, in the order received.
    pub headers: *const Field,
    /// The number of headers.
    pub headers_len: usize,
    /// The cookies that the option `keep_cookies` names, in the order sent.
    pub cookies: *const Field,
    /// The number of cookies.
    pub cookies_len: usize,
    /// The claims of the verified JSON Web Token (`auth.jwt`), as the text of a JSON object of at most 8 KiB; `data` is
    /// `NULL` without one.
    pub claims: Str,
    /// The `Origin`; `data` is `NULL` without one.
    pub origin: Str,
    /// The address and port of the peer of the socket: the client, or a proxy before it; `data` is `NULL` on a Unix socket.
    pub peer: Str,
    /// The client's port; 0 where a proxy does not tell it, and on a Unix socket.
    pub port: u16,
    /// The TLS, where this server does it; `NULL` without.
    pub tls: *const Tls,
    /// When it was opened, in milliseconds since 1970.
    pub opened_at_ms: u64,
    /// The name of this connection in the log, from its handshake to its close: `hs=` there.
    pub log_id: Str,
    /// The address and port that the connection came in on; `data` is `NULL` on a Unix socket.
    pub local: Str,
    /// The tag of its adoption; 0 without one.
    pub adopted: u64,
    /// Messages may be compressed: permessage-deflate was agreed on (the option `compression`).
    pub compressed: bool,
    /// Its `Origin`, `Host` or credential would have been refused, if `report_handshakes` were off: what you keep with `tag` is no
    /// proof of who this is.
    pub reported: bool,
}

/// A message of the `json` protocol that its schema accepts.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Message {
    /// The event.
    pub event: Str,
    /// Its data as JSON text; `null` if the message has none.
    pub data: Str,
    /// The id to reply to, as JSON text (a string or an integer); `data` is `NULL` without one.
    pub id: Str,
    /// The message's status.
    pub status: MessageStatus,
    /// The length of the whole message's payload in bytes.
    pub size_bytes: usize,
}

/// A connection that ended.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Close {
    /// The close code: the one that this server sent, otherwise the one that it received; 1005 for a close frame without a
    /// code, 1006 if the connection ended without a closing handshake.
    pub code: u16,
    /// True if both sides sent a close frame.
    pub clean: bool,
    /// The reason that belongs to the code; empty without one.
    pub reason: Str,
    /// The verdict that closed it, a `wsg_verdict`; `WSG_NO_VERDICT`: the peer or the application closed it, or it broke.
    pub verdict: u32,
    /// The rule of framing that the peer broke, a `wsg_fault`, where that ended the connection; otherwise 0.
    pub fault: u32,
    /// The code of the peer's own close frame, whoever closed first; 1005 for one without a code. 0: there was none that could
    /// be read, or it had a code that must not be sent.
    pub peer_code: u16,
    /// The reason in the peer's own close frame; empty without one.
    pub peer_reason: Str,
    /// What of the frame broke the rule `fault`, where that is a number: the opcode, the length that a control frame announced
    /// (126 stands for two bytes of length, 127 for eight), or the close code; otherwise 0.
    pub fault_value: u16,
}

/// A pipe that an event is about.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pipe {
    /// Its number.
    pub id: u64,
    /// The tag of its adoption; 0 without one, and if the pipe was freed before the batch was taken.
    pub tag: u64,
}

/// An adoption of which there will be no connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AdoptionEnded {
    /// The tag of the adoption.
    pub tag: u64,
    /// The verdict that it was refused by, a `wsg_verdict`; `WSG_NO_VERDICT`: the peer left, it was a health check, or the
    /// server ended before it was answered.
    pub verdict: u32,
    /// The HTTP status of the answer; 0: there was none; 101: the connection was over, by what you had said, before you were told
    /// that it was open.
    pub http_status: u16,
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pong {
    /// The time from the ping to its answer, in microseconds.
    pub rtt_us: u64,
}

/// An opening handshake that is over.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UpgradeGone {
    /// Its ticket, which takes no answer any more. It may be one that no `upgrade` handler was called for.
    pub ticket: u64,
}

/// A verdict against a peer. During a flood only some become events; `wsg_server_verdict_count` counts every one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Violation {
    /// The verdict: a `wsg_verdict`.
    pub code: u32,
    /// The close code of the verdict; 0 before the 101.
    pub close_code: u16,
    /// The HTTP status of the verdict; 0 after the 101, and if the verdict has none.
    pub http_status: u16,
    /// The client's address; `data` is `NULL` if it is not known.
    pub ip: Str,
    /// The user; `data` is `NULL` before authentication, and without a user.
    pub user: Str,
    /// The connection; 0 before the 101.
    pub conn_id: u64,
    /// The event of the message, escaped and cut after 64 characters; `data` is `NULL` if no message was read.
    pub event: Str,
    /// What was wrong, in the words of the log: at most 256 characters, no control characters.
    pub detail: Str,
    /// Rules only report (`on_violation`, `report_handshakes`): it is what enforcing them would have refused.
    pub reported: bool,
}

/// What an event holds. Read only the member that belongs to the kind. The size of this union never changes; the
/// structs that it points at may grow in later versions.
#[derive(Clone, Copy)]
#[repr(C)]
pub union EventBody {
    /// `WSG_EVENT_UPGRADE`.
    pub upgrade: *const Upgrade,
    /// `WSG_EVENT_OPEN`.
    pub open: *const Open,
    /// `WSG_EVENT_TEXT`, `WSG_EVENT_BINARY`, `WSG_EVENT_PING_FRAME` and `WSG_EVENT_PONG_FRAME`.
    pub payload: Str,
    /// `WSG_EVENT_MESSAGE`.
    pub message: *const Message,
    /// `WSG_EVENT_CLOSE`.
    pub close: *const Close,
    /// `WSG_EVENT_VIOLATION`.
    pub violation: *const Violation,
    /// `WSG_EVENT_PONG`.
    pub pong: *const Pong,
    /// `WSG_EVENT_UPGRADE_GONE`.
    pub upgrade_gone: *const UpgradeGone,
    /// `WSG_EVENT_PIPE_READY` and `WSG_EVENT_PIPE_ROOM`.
    pub pipe: *const Pipe,
    /// `WSG_EVENT_ADOPTION_ENDED`.
    pub adoption_ended: *const AdoptionEnded,
}

impl core::fmt::Debug for EventBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EventBody")
    }
}

/// An event. It, and what it points at, is valid until its batch is freed; in a handler, until the handler returns.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Event {
    /// The kind of the event.
    pub kind: EventKind,
    /// The connection; 0 if the event belongs to none.
    pub conn: u64,
    /// What belongs to the kind.
    pub body: EventBody,
}

/// A message for an inline handler. It is valid during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InlineMessage {
    /// `WSG_EVENT_TEXT`, `WSG_EVENT_BINARY` or `WSG_EVENT_MESSAGE`.
    pub kind: EventKind,
    /// The event (`json`); otherwise `data` is `NULL`.
    pub event: Str,
    /// Its data as JSON text (`json`), or the payload (`raw`).
    pub data: Str,
    /// The id to reply to, as JSON text (`json`); `data` is `NULL` without one.
    pub id: Str,
}

exports! {
    /// Returns the value of the first header with this name; case does not matter. `data` is `NULL` if there is no such
    /// header, and if `upgrade` or `name` is `NULL`.
    ///
    /// `upgrade` must belong to a batch that was not freed, or to the handler that is running. The value is valid for
    /// as long. Any thread.
    pub fn wsg_upgrade_header(upgrade: Option<&Upgrade>, name: *const core::ffi::c_char, name_len: usize) -> Str {
        let Some(upgrade) = upgrade else { return Ok(Str::NONE) };
        // Not an empty value, which is what a wrong argument is answered with elsewhere.
        let Ok(wanted) = pointers::bytes(name, name_len) else { return Ok(Str::NONE) };
        let headers = pointers::elements(upgrade.headers, upgrade.headers_len);
        let is_wanted = |field: &&Field| {
            pointers::bytes(field.name.data, field.name.len).is_ok_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        Ok(headers.iter().find(is_wanted).map_or(Str::NONE, |field| field.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `wsg_fault_name` finds a name by its number.
    #[test]
    fn faults_are_numbered_from_1_in_their_order() {
        for (at, (own, core)) in Fault::ALL.into_iter().enumerate() {
            assert_eq!((own as usize, Fault::of(Some(core))), (at + 1, own));
            let words =
                |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
            assert_eq!(words(&format!("{own:?}")), words(core.name()));
        }
        assert_eq!(Fault::of(None), Fault::None);
    }
}
