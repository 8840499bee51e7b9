//! Options as an application states them, parsed once into the immutable [`Policy`] that everything else asks.

mod accepted;
mod constructors;
mod given;
mod listen;
mod options;
mod policy;
mod ranges;
mod shape;

pub use listen::Listen;
pub use options::{
    Auth, ControlRateLimit, HandshakeRate, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit,
    TlsOptions, TlsVersion,
};
pub use policy::{Policy, RateRules};

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
