//! The C face: `include/wsguard.h` and the library behind it, over `wsguard::binding` and nothing else.
//!
//! No rule is decided here. A call looks its handle up, reads its arguments, and asks the core; what a C program can get
//! wrong ends as a status. Five files carry that: `boundary` (every export and every callback passes through it: no panic
//! leaves, no exception comes in), `handle` (handles are looked up, never followed), `pointers` (what arguments point at),
//! `os` (forks, signals, cancellation) and `status`.
//!
//! The doc comments of exported items are the header's text, so they speak to C programmers.
#![deny(missing_docs)]

#[macro_use]
mod boundary;
pub mod adoption;
pub mod batches;
pub mod commands;
pub mod connections;
pub mod error;
pub mod events;
pub mod everywhere;
pub mod frames;
pub mod handle;
pub mod inline;
mod interrupt;
pub mod json;
pub mod log;
mod modes;
pub mod names;
pub mod options;
mod os;
mod peers;
mod pipes;
mod plain;
pub mod pointers;
pub mod policy;
pub mod reach;
pub mod replies;
pub mod run;
pub mod running;
mod seen;
pub mod server;
pub mod signals;
pub mod status;
pub mod tickets;
mod views;
