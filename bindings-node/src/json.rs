//! What is rare crosses the border as JSON: opens, refusals, requests, counters.

use serde_json::{Value, json};
use wsguard::binding::{Code, ConnectionId, Open, Stats, UpgradeRequest, ViolationEvent};

/// In the order of `Connection` (`lib/connection.js`), then the ticket, and whether its user was disconnected since: names
/// would cost more than what they name.
pub(crate) fn open(open: &Open, is_revoked: bool) -> Value {
    let ticket = open.ticket.map(|ticket| ticket.to_u64().to_string());
    json!([
        open.conn.to_string(),
        open.ip,
        open.user.as_deref(),
        &*open.path,
        open.subprotocol.as_deref(),
        open.expires_at_ms,
        ticket,
        is_revoked
    ])
}

pub(crate) fn violation(violation: &ViolationEvent) -> Value {
    json!({"code": violation.code.name(), "ip": violation.ip, "user": violation.user.as_deref(),
        "connId": violation.conn.map(|conn: ConnectionId| conn.to_string()), "event": violation.event.as_deref(),
        "detail": violation.detail})
}

/// The request as the application's `authenticate` gets it.
pub(crate) fn request(request: &UpgradeRequest) -> Value {
    json!({"method": request.method, "path": request.path, "query": request.query, "headers": request.headers,
        "cookies": request.cookies().collect::<Vec<_>>(), "ip": request.ip, "token": request.token,
        "peerCertificate": request.peer_certificate.as_deref().map(hex)})
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn stats(stats: &Stats) -> Value {
    let verdicts: serde_json::Map<String, Value> =
        Code::ALL.iter().map(|code| (code.name().to_owned(), stats.verdict(*code).into())).collect();
    json!({"connections": stats.connections, "open": stats.open, "openedTotal": stats.opened_total,
        "messagesIn": stats.messages_in, "bytesIn": stats.bytes_in, "bytesOut": stats.bytes_out,
        "inboxBytes": stats.inbox_bytes, "outboxBytes": stats.outbox_bytes, "delayed": stats.delayed,
        "pendingAuth": stats.pending_auth, "upgradesInInbox": stats.upgrades_in_inbox, "refusing": stats.refusing,
        "rooms": stats.rooms, "roomMemberships": stats.room_memberships, "verdicts": verdicts})
}

pub(crate) fn verdicts() -> Value {
    let row = |code: &Code| {
        json!({"code": code.name(), "httpStatus": code.http_status(), "closeCode": code.close_code(),
            "reason": code.reason()})
    };
    Code::ALL.iter().map(row).collect()
}
