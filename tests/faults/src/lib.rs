//! What the fault tests and the proxy tests share: hosts as processes, clients over raw sockets, and honest clients
//! that work beside every attack and must notice nothing.
//!
//! It knows no rule of the server; what is right is said by the tests in `faults/` and in `tests/proxy`.

pub mod certs;
pub mod client;
pub mod crowd;
pub mod debian;
pub mod frame;
pub mod honest;
pub mod host;
pub mod jwt;
pub mod outcome;
pub mod process;
pub mod suite;
pub mod wire;
