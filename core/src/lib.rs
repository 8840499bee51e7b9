//! wsguard: WebSocket servers that are safe by default.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod driver;
mod error;
pub mod host;

pub use host::*;

/// The README's Rust start must compile as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
