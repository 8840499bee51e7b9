//! The policy: options parsed once into the immutable [`Policy`] that everything else asks.

mod listen;
mod policy;

pub use listen::Listen;
pub use policy::{Policy, RateRules};

pub use crate::options::{
    Auth, ControlRateLimit, HandshakeRate, MissingOrigin, OnMismatch, OnViolation, Options, Protocol, RateKeyKind,
    RateLimit, TlsOptions, TlsVersion,
};

#[cfg(test)]
mod tests;
