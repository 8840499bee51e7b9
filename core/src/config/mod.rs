//! Options as an application states them, parsed once into the immutable [`Policy`] that everything else asks.

mod accepted;
mod error;
mod given;
mod listen;
mod options;
mod policy;
mod ranges;
mod secret;
mod shape;

pub use error::{ConfigError, ConfigErrorKind};
pub use listen::Listen;
pub use options::{
    Auth, ControlRateLimit, HandshakeRate, MissingOrigin, OnViolation, Options, Protocol, RateKeyKind, RateLimit,
    TlsOptions, TlsVersion,
};
pub(crate) use policy::is_token;
pub use policy::{Policy, RateRules};
pub(crate) use secret::{is_clearly_a_path, looks_like_a_path};
pub(crate) use shape::harmless;

#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
