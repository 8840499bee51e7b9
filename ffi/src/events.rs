//! Events as C sees them: plain structs of views into a batch.

use crate::pointers::{self, Str};

/// The kind of an event. Later versions add kinds: ignore those that you do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum EventKind {
    /// An opening handshake waits for the application (`auth: "callback"`): answer its ticket exactly once. `body.upgrade`.
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
    /// The name; of a header in lower case.
    pub name: Str,
    /// The value. It is UTF-8: bytes that are not were replaced.
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
    /// `WSG_EVENT_TEXT` and `WSG_EVENT_BINARY`.
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
