//! The policy: options parsed once into the immutable [`Policy`] that everything else asks.

mod admin_listen;
mod listen;
mod policy;

pub use admin_listen::AdminListen;
pub use listen::Listen;
pub use policy::{Policy, RateRules};

pub use crate::options::{
    Auth, ControlRateLimit, HandshakeRate, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit,
    TlsOptions, TlsVersion,
};

#[cfg(test)]
mod tests;
