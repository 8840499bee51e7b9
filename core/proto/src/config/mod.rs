//! The policy: options parsed once into the immutable [`Policy`] that everything else asks.

mod admin_listen;
mod cluster;
mod listen;
mod paths;
mod policy;
mod policy_set;

pub use admin_listen::AdminListen;
pub use cluster::ClusterPolicy;
pub use listen::Listen;
pub use paths::Params;
pub use policy::{OwnLimits, Policy, RateRules};
pub use policy_set::{Admitted, Gone, PolicySet, Resolved};

pub use crate::options::{
    Auth, AutoBan, ClusterOptions, Compression, ControlRateLimit, HandshakeRate, MissingOrigin, OnMismatch, OnOutage,
    OnViolation, Options, Protocol, RateKeyKind, RateLimit, RouteOptions, TlsOptions, TlsVersion,
};

#[cfg(test)]
mod tests;
