//! wsguard: WebSocket servers that are safe by default.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod auth;
mod base64;
pub mod bucket;
pub mod client_ip;
pub mod codec;
pub mod config;
pub mod connection;
pub mod contract;
mod der;
mod driver;
mod error;
pub mod handshake;
pub mod host;
pub mod host_header;
mod inbox;
pub mod limits;
pub mod origin;
mod outgoing;
mod pem;
pub mod proxy_protocol;
mod rate;
mod revocation;
pub mod rooms;
pub mod time;
mod unambiguous;
pub mod verdict;

pub use host::*;

/// The README's Rust start must compile as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
