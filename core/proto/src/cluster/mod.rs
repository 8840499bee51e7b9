//! Many nodes as one server, over Redis or Valkey: who is there, who holds which user, what waits for whom.
//!
//! Without I/O: [`node::Node`] says which [`ops::Op`]s Redis is asked for and takes its [`ops::Reply`]s in; the driver carries
//! them. Time of Redis ([`ops::StoreTime`]) orders what nodes do, never the clocks of nodes.

pub mod backoff;
mod clock;
mod count;
pub mod interest;
mod log;
mod members;
pub mod node;
pub mod ops;
mod outbox;
pub mod pacing;
mod probe;
pub mod resp;
mod sound;
pub mod store;
mod topic;
pub mod url;
mod users;
mod window;
mod wire;

#[cfg(test)]
mod tests;
