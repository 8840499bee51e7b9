//! The probes: each sends what its check says, and leaves the judgement to decisions without a socket.
#![expect(clippy::unnecessary_wraps, reason = "the table of checks has one form of function")]

pub(crate) mod frames;
pub(crate) mod heads;
pub(crate) mod limits;
pub(crate) mod opening;
pub(crate) mod rates;
pub(crate) mod transport;
pub(crate) mod waiting;
