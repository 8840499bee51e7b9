//! What is wrong with a policy: always names the option, and says what would be accepted.

use core::fmt;

/// The kind of a [`ConfigError`], as a stable name for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// The option does not exist.
    UnknownOption,
    /// The option is required and was not given.
    MissingOption,
    /// The type or value is not accepted.
    InvalidOption,
    /// Two options cannot both hold.
    Contradiction,
    /// The option differs from what the server runs by, and can only be stated when it starts.
    NotReloadable,
}

impl ConfigErrorKind {
    /// The stable name: `"invalid_option"`.
    pub fn name(self) -> &'static str {
        match self {
            ConfigErrorKind::UnknownOption => "unknown_option",
            ConfigErrorKind::MissingOption => "missing_option",
            ConfigErrorKind::InvalidOption => "invalid_option",
            ConfigErrorKind::Contradiction => "contradiction",
            ConfigErrorKind::NotReloadable => "not_reloadable",
        }
    }
}

/// Why a policy was refused at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What kind of error it is.
    pub kind: ConfigErrorKind,
    /// The option's path: `rate_limit.per_second`, `origins[2]`.
    pub option: String,
    /// What is wrong and what is accepted, without the option's name.
    pub message: String,
}

impl ConfigError {
    /// An option with a value that is not accepted.
    pub fn invalid(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ConfigErrorKind::InvalidOption, option: option.into(), message: message.into() }
    }

    /// A required option that was not given.
    pub fn missing(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ConfigErrorKind::MissingOption, option: option.into(), message: message.into() }
    }

    /// An option that differs, although it can only be stated when the server starts.
    pub fn not_reloadable(option: impl Into<String>) -> Self {
        let message = "cannot change while the server runs: leave it as it is, or start the server anew".to_owned();
        Self { kind: ConfigErrorKind::NotReloadable, option: option.into(), message }
    }

    /// Options that exclude each other.
    pub fn contradiction(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ConfigErrorKind::Contradiction, option: option.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.message)
    }
}

impl std::error::Error for ConfigError {}
