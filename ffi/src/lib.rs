//! The C face: `include/wsguard.h` and the library behind it, over `wsguard::binding` and nothing else.
//!
//! No rule is decided here. A call looks its handle up, reads its arguments, and asks the core; what a C program can get
//! wrong ends as a status. Four files carry that: `boundary` (every export and every callback passes through it: no panic
//! leaves, no exception comes in), `handle` (every pointer: handles are looked up, never followed), `os` (forks, signals,
//! cancellation) and `status`.
//!
//! The doc comments of exported items are the header's text, so they speak to C programmers.
#![deny(missing_docs)]

#[macro_use]
mod boundary;
mod bell;
pub mod commands;
pub mod connections;
pub mod error;
pub mod events;
pub mod handle;
pub mod inline;
pub mod json;
pub mod log;
pub mod names;
pub mod options;
mod os;
mod peers;
pub mod run;
pub mod server;
pub mod signals;
pub mod status;
pub mod tickets;
mod views;
