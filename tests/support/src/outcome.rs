//! How a test or a part of it ends: well, or with the one line that says what went wrong.

use std::fmt;

pub use crate::{ensure, fail};

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

impl std::error::Error for Failure {}

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

impl From<nix::errno::Errno> for Failure {
    fn from(error: nix::errno::Errno) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message)
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

/// Bytes for a failure's line: the first of them, escaped, and how many there are in all.
pub fn shown(bytes: &[u8]) -> String {
    const LIMIT: usize = 200;
    let head = bytes[..bytes.len().min(LIMIT)].escape_ascii();
    if bytes.len() > LIMIT { format!("\"{head}\"… ({} bytes)", bytes.len()) } else { format!("\"{head}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bytes_are_shown_short() {
        assert_eq!(shown(b"a\x00"), "\"a\\x00\"");
        assert!(shown(&[b'x'; 500]).ends_with("(500 bytes)"));
    }
}
