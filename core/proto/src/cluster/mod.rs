//! Many nodes as one server, over Redis or Valkey: who is there, who holds which user, what waits for whom.
//!
//! Without I/O: `Node` says which [`Op`](ops::Op)s Redis is asked for and takes its [`Reply`](ops::Reply)s in; the driver carries them. Time of
//! Redis ([`StoreTime`](ops::StoreTime)) orders what nodes do, never the clocks of nodes.

pub mod ops;
