//! Options as an application states them, parsed once into the immutable [`Policy`] that everything else asks.

mod error;
mod options;
mod policy;

pub use error::{ConfigError, ConfigErrorKind};
pub use options::{
    Auth, ControlRateLimit, HandshakeRate, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit,
    TlsOptions, TlsVersion,
};
pub use policy::{Listen, Policy, RateRules};

#[cfg(test)]
mod tests;
