//! Many nodes as one server, over Redis or Valkey: who is there, who holds which user, what waits for whom.
//!
//! Without I/O: `Node` says which [`Op`]s Redis is asked for and takes its [`Reply`]s in; the driver carries them. Time of
//! Redis ([`StoreTime`]) orders what nodes do, never the clocks of nodes.

pub mod ops;
pub mod url;
