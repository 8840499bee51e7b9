//! How a test ends: with a note, or with the one line that says what went wrong.

use std::fmt;

/// What was expected and what came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// The result of a test or of a part of it.
pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    /// The same failure, with what was being done in front.
    #[must_use]
    pub fn during(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {self}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.to_string())
    }
}

/// `Err(Failure)` from a format string.
#[macro_export]
macro_rules! fail {
    ($($arg:tt)*) => { Err($crate::outcome::Failure(format!($($arg)*))) };
}

/// Returns a failure unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($arg:tt)*) => {
        if !$condition {
            return $crate::fail!($($arg)*);
        }
    };
}
