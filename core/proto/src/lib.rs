//! The rules of wsguard, without sockets, threads or clock: bytes and time go in, decisions come out.
//!
//! [`config::Options`] become a [`config::Policy`]; [`handshake`] judges opening handshakes by it, [`connection`] the
//! messages that follow, and [`limits`] counts who has how much. The crate `wsguard` drives them; this one is for tests,
//! fuzzers, and event loops of your own.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod admin;
pub mod auth;
pub mod bans;
pub mod bucket;
pub mod client_ip;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod config_error;
pub mod connection;
pub mod contract;
pub mod deflate;
pub mod files;
pub mod handshake;
pub mod host_header;
pub mod inbox;
mod kept;
pub mod limits;
pub mod lock;
pub mod metrics;
pub mod options;
pub mod origin;
pub mod outgoing;
mod pathlike;
pub mod pem;
pub mod proxy_protocol;
mod rate;
pub mod revocation;
pub mod roles;
pub mod rooms;
mod syntax;
pub mod time;
mod unambiguous;
pub mod verdict;
