//! The types of the options: [`Options`] and the types of its fields.
//!
//! ```
//! use wsguard::options::{Auth, EventOptions, Options, RateLimit, TokenEntry};
//! use wsguard::serde_json::json;
//!
//! let alice = TokenEntry::new("change-me", "alice");
//! let mut options = Options::new(["https://app.example"], Auth::Tokens(vec![alice]));
//! options.rate_limit = Some(RateLimit { per_second: 5.0, ..RateLimit::default() });
//! let schema = json!({"type": "object", "properties": {"text": {"type": "string", "maxLength": 500}}});
//! options.events.insert("say".into(), EventOptions { schema: Some(schema), ..EventOptions::default() });
//! ```

pub use wsguard_proto::options::{
    Auth, AutoBan, ClusterOptions, Compression, ControlRateLimit, EventOptions, HandshakeRate, JsonLimits, JwtOptions,
    MissingOrigin, OnMismatch, OnOutage, OnViolation, OneOrMany, Options, Protocol, RateKeyKind, RateLimit,
    RouteOptions, TlsOptions, TlsVersion, TokenEntry,
};
