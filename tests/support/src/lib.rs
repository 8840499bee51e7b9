//! What `tests/runner`, `tests/faults`, `tests/proxy` and `bench` share: a test host as a process, frames, sockets with or
//! without TLS, certificates, signed tokens, and how a test ends. On top of them, for the tests that are written in Rust:
//! clients, honest clients that work beside every attack and must notice nothing, and the loop that runs a list of tests.
//!
//! It knows no rule of the server; what is right is said by the tests. It shares no code with the server either: the
//! frames here are written a second time on purpose.

pub mod certs;
pub mod client;
pub mod crowd;
pub mod debian;
pub mod deflate;
pub mod dice;
pub mod frame;
pub mod honest;
pub mod host;
pub mod http;
pub mod jwt;
pub mod lines;
pub mod outcome;
pub mod process;
pub mod progress;
pub mod setup;
pub mod suite;
pub mod wire;
