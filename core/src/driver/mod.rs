//! The driver: sockets, threads and the clock around the pure layer. It decides nothing that a peer could notice; it
//! moves bytes, keeps time and carries events and commands across threads.

mod bind;
mod caught;
mod clock;
mod commands;
mod compile;
mod events;
mod ids;
mod listener;
mod log;
mod notices;
mod opening;
mod outbox;
mod revoked;
mod server;
mod session;
mod shard;
mod shared;
mod sink;
mod stats;
mod stream;
mod tickets;
mod tls;

pub use commands::{Cork, KeptInbox, Sent, ServerHandle};
pub use compile::compile;
pub use events::{Close, Event, EventBatch, JsonMessage, Open, Upgrade, ViolationEvent};
pub use ids::{ConnectionId, ConnectionMap};
#[cfg(feature = "stderr-log")]
pub use log::log_to_stderr;
pub use revoked::RevokedUsers;
pub use server::{Builder, Events, Next, Server};
pub use shared::Wake;
pub use sink::{Handled, Inline, InlineMessage, Replies};
pub use stats::Stats;
pub use tickets::{Accept, Decision, TicketId};

/// What a server would say of this `tls` at its start.
#[cfg(test)]
pub(crate) fn tls_error(options: &wsguard_proto::config::TlsOptions) -> Option<String> {
    tls::server_config(options).err().map(|error| format!("{error} {error:?}"))
}

#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;
