//! Rare events cross to JavaScript as JSON: opens, violations, requests, counters.

use serde_json::{Value, json};
use wsguard::binding::{
    BanInfo, Code, ConnectionId, GrantedIdentity, Open, Params, Stats, TlsFacts, Upgrade, ViolationEvent,
};

use crate::names::camel;

/// The fields of `Connection` (`lib/connection.js`) in the order of `lib/facts.js`, the ticket and whether its user was
/// disconnected since among them.
/// A list: names would cost more than the values.
pub(crate) fn open(open: &Open, is_revoked: bool) -> Value {
    let ticket = open.ticket.map(|ticket| ticket.to_u64().to_string());
    json!([
        open.conn.to_string(),
        open.ip,
        open.user.as_deref(),
        &*open.path,
        open.subprotocol.as_deref(),
        open.credential_ends_at_ms,
        ticket,
        is_revoked,
        open.roles.iter().collect::<Vec<_>>(),
        open.route.as_deref(),
        params(&open.params),
        open.query.as_deref(),
        pairs(&open.headers),
        pairs(&open.cookies),
        open.origin.as_deref(),
        open.claims.as_deref(),
        open.port,
        open.tls.as_deref().map(tls),
        open.opened_at_ms,
        open.id.to_string(),
        open.reported,
        open.compressed
    ])
}

fn params(params: &Params) -> Vec<Value> {
    params.iter().map(|(name, value)| json!([&**name, value])).collect()
}

fn pairs(pairs: &[(Box<str>, Box<str>)]) -> Vec<Value> {
    pairs.iter().map(|(name, value)| json!([&**name, &**value])).collect()
}

fn tls(facts: &TlsFacts) -> Value {
    json!({"version": &*facts.version, "cipher": &*facts.cipher, "serverName": facts.server_name.as_deref(),
        "clientCertificateSha256": facts.client_certificate_sha256.as_deref()})
}

/// The fields in the order of `tests/faces.toml`. A number that the verdict does not have is null.
pub(crate) fn violation(violation: &ViolationEvent) -> String {
    let code = violation.code;
    let known = |number: u16| Value::from((number != 0).then_some(number));
    object([
        ("code", code.name().into()),
        ("closeCode", known(code.close_code())),
        ("httpStatus", known(code.http_status())),
        ("ip", json!(violation.ip)),
        ("user", violation.user.as_deref().into()),
        ("connId", violation.conn.map(|conn: ConnectionId| conn.to_string()).into()),
        ("event", violation.event.as_deref().into()),
        ("detail", (*violation.detail).into()),
    ])
}

/// An object with its fields in this order; a `Value` would sort them.
fn object<'k>(fields: impl IntoIterator<Item = (&'k str, Value)>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// The request as the application's `authenticate` gets it.
pub(crate) fn request(upgrade: &Upgrade) -> Value {
    let request = &upgrade.request;
    json!({"id": upgrade.id.to_string(), "route": request.route.as_deref(), "params": params(&request.params),
        "method": request.method, "path": request.path, "query": request.query, "headers": request.headers,
        "rawHeaders": request.raw_headers.iter().map(|(name, value)| json!([name, latin1(value)])).collect::<Vec<_>>(),
        "local": upgrade.local.map(|address| address.to_string()), "port": upgrade.port, "adopted": upgrade.adopted,
        "identity": upgrade.identity.as_ref().map(identity),
        "cookies": request.cookies().collect::<Vec<_>>(), "ip": request.ip, "token": request.token,
        "peerCertificate": request.peer_certificate.as_deref().map(hex), "reported": request.reported})
}

/// Bytes as Node's `http` shows those of a header.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Who a peer is by its credential, before the application has said anything.
fn identity(identity: &GrantedIdentity) -> Value {
    json!({"user": identity.user, "roles": identity.roles.iter().collect::<Vec<_>>(),
        "expiresAtMs": identity.expires_at_ms, "claims": identity.claims.as_deref()})
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The counters in the order of `tests/faces.toml`, then the verdicts in the order of their table.
pub(crate) fn stats(stats: &Stats) -> String {
    let counters = stats.fields().map(|(name, count)| (camel(name), count));
    let counters = object(counters.iter().map(|(name, count)| (name.as_str(), (*count).into())));
    let verdicts = object(Code::ALL.iter().map(|code| (code.name(), stats.verdict(*code).into())));
    format!("{{\"counters\":{counters},\"verdicts\":{verdicts}}}")
}

/// The bans in force.
pub(crate) fn bans(bans: &[BanInfo]) -> String {
    let record = |ban: &BanInfo| {
        object([
            ("ip", ban.ip.as_deref().into()),
            ("user", ban.user.as_deref().into()),
            ("endsAtMs", ban.ends_at_ms.into()),
            ("reason", ban.reason.as_str().into()),
            ("isAutomatic", ban.is_automatic.into()),
        ])
    };
    format!("[{}]", bans.iter().map(record).collect::<Vec<_>>().join(","))
}

pub(crate) fn verdicts() -> Value {
    let row = |code: &Code| {
        json!({"code": code.name(), "httpStatus": code.http_status(), "closeCode": code.close_code(),
            "reason": code.reason()})
    };
    Code::ALL.iter().map(row).collect()
}
