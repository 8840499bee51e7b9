//! The binding-facing API: the only module that a language's face imports. Applications use the crate's root, which stands
//! on it.
//!
//! Pull, not push: [`Server::events`] hands out batches, the application is woken once per batch, and every command of
//! a [`ServerHandle`] is safe from any thread, never blocks, and fails with an [`Error`] where an id is stale.

pub use crate::driver::{
    Accept, Adoption, BanInfo, Builder, CertificateFacts, Close, Closing, ConnectionId, ConnectionMap, Cork, Decision,
    Event, EventBatch, Events, Everywhere, GrantedIdentity, Handled, HandshakeId, Inline, InlineMessage, JsonMessage,
    KeptInbox, LogLevel, LogRecord, LogValue, Next, Notifier, Open, Pipe, PipeId, Reject, Replies, RevokedUsers, Sent,
    Server, ServerHandle, Speaker, Stats, Taken, TicketId, To, Upgrade, ViolationEvent, Waited, Wake, Whom,
    certificate_parties, certificate_rsa_bits, compile, examine_tls, log_to,
};
#[cfg(feature = "stderr-log")]
pub use crate::driver::{LogFormat, log_to_stderr, log_to_stderr_as};
pub use crate::error::Error;
pub use crate::raw_json::RawJson;
pub use wsguard_proto::auth::Authenticator;
pub use wsguard_proto::codec::FrameFault;
pub use wsguard_proto::config::{Options, Params, Policy, PolicySet};
pub use wsguard_proto::config_error::{ConfigError, ConfigErrorKind};
pub use wsguard_proto::connection::{DataOpcode, Fragment};
pub use wsguard_proto::contract::Status;
pub use wsguard_proto::handshake::{TlsFacts, UpgradeRequest};
pub use wsguard_proto::options::{Auth, OnViolation, Protocol, Section, Shape, option_names};
pub use wsguard_proto::roles::Roles;
pub use wsguard_proto::verdict::{Code, Severity};

/// The data of a message that a face has kept as text, as a message has it.
pub fn vetted_json(text: &str) -> RawJson<'_> {
    RawJson::vetted(text)
}

/// A connection that just opened, of which nothing else is known: for the tests of a face.
pub fn blank_open(conn: ConnectionId) -> Open {
    let path = "/".into();
    let roles = Roles::default();
    let (route, params) = Default::default();
    let (subprotocol, expires_at_ms, credential_ends_at_ms, granted) = Default::default();
    let (query, headers, cookies, origin, claims) = Default::default();
    let (peer, local, port, tls, opened_at_ms, adopted, reported) = Default::default();
    Open {
        id: HandshakeId::default(),
        conn,
        ticket: None,
        adopted,
        tag: None,
        ip: None,
        user: None,
        roles,
        path,
        route,
        params,
        subprotocol,
        compressed: false,
        expires_at_ms,
        credential_ends_at_ms,
        reported,
        granted,
        query,
        headers,
        cookies,
        origin,
        claims,
        peer,
        local,
        port,
        tls,
        opened_at_ms,
    }
}
