//! The binding-facing API: the only module that a language's face imports.
//!
//! Pull, not push: [`Server::events`] hands out batches, the application is woken once per batch, and every command of
//! a [`ServerHandle`] is safe from any thread, never blocks, and fails with an [`Error`] where an id is stale.

pub use crate::driver::{
    Accept, Builder, Close, ConnectionId, ConnectionMap, Cork, Decision, Event, EventBatch, Events, Handled, Inline,
    InlineMessage, JsonMessage, KeptInbox, Next, Open, Replies, RevokedUsers, Sent, Server, ServerHandle, Stats,
    TicketId, Upgrade, ViolationEvent, Wake, compile, log_to_stderr,
};
pub use crate::error::Error;
pub use crate::notifier::{Notifier, Waited};
pub use wsguard_proto::config::{Options, Policy};
pub use wsguard_proto::config_error::{ConfigError, ConfigErrorKind};
pub use wsguard_proto::contract::Status;
pub use wsguard_proto::handshake::UpgradeRequest;
pub use wsguard_proto::options::{Auth, OnViolation, Protocol, Section, Shape, option_names};
pub use wsguard_proto::verdict::{Code, Severity};
