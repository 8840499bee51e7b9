//! The driver: sockets, threads and the clock around the pure layer. It decides nothing that a peer could notice; it
//! moves bytes, keeps time and carries events and commands across threads.

mod accepted;
mod admin;
mod adopted;
mod adoption;
mod answer;
mod arena;
mod balance;
mod bans;
mod bind;
mod caught;
mod clock;
#[cfg_attr(test, allow(dead_code, reason = "servers of unit tests have `cluster_fake`"))]
mod cluster;
#[cfg(test)]
mod cluster_fake;
mod clustered;
mod commands;
mod compile;
mod cork;
mod directory;
mod durations;
mod ears;
mod events;
mod handle;
mod handshake_id;
mod ids;
mod inbox;
mod inbox_shares;
mod inline;
mod jwks;
mod level;
mod listener;
mod log;
mod mailbox;
mod membership;
mod metrics;
mod nodes;
mod notices;
mod notifier;
mod opening;
mod outbox;
mod pipe;
mod pipe_id;
mod reach;
mod reload;
mod revoked;
mod server;
mod session;
mod shard;
mod shard_events;
mod shared_frame;
mod slot_guard;
mod socket;
mod speaker;
mod state;
mod stats;
mod stream;
mod tally;
mod telling;
mod threads;
mod tickets;
mod tls;
mod wake;

pub use adoption::Adoption;
pub use answer::{Accept, Decision, Reject};
pub use bans::{BanInfo, Whom};
pub use compile::compile;
pub use cork::Cork;
pub use events::{Close, Closing, Event, EventBatch, GrantedIdentity, JsonMessage, Open, Upgrade, ViolationEvent};
pub use handle::{KeptInbox, Sent, ServerHandle};
pub use handshake_id::HandshakeId;
pub use ids::{ConnectionId, ConnectionMap};
pub use inline::{Handled, Inline, InlineMessage, Replies};
#[cfg(feature = "stderr-log")]
pub use log::{LogFormat, log_to_stderr, log_to_stderr_as};
pub use log::{LogLevel, LogRecord, LogValue, log_to};
pub use membership::Everywhere;
pub use notifier::{Notifier, Waited};
pub use pipe::{Pipe, Taken};
pub use pipe_id::PipeId;
pub use reach::To;
pub use revoked::RevokedUsers;
pub use server::{Builder, Events, Next, Server};
pub use speaker::Speaker;
pub use stats::Stats;
pub use tickets::TicketId;
pub use tls::{CertificateFacts, certificate_parties, certificate_rsa_bits, examine_tls};
pub use wake::Wake;

/// What a server would say of this `tls` at its start.
#[cfg(test)]
pub(crate) fn tls_error(options: &wsguard_proto::config::TlsOptions) -> Option<String> {
    tls::load(options).err().map(|error| format!("{error} {error:?}"))
}

#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;
