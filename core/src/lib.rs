//! wsguard: WebSocket servers that are safe by default.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[doc(hidden)]
pub mod binding;
mod driver;
mod error;
mod notifier;

pub use binding::*;

/// The README's Rust start must compile as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
