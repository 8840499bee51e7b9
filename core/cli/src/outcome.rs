//! How a subcommand ends.

use std::io;

/// What a subcommand found; see [`run`](crate::run) for the exit codes.
pub(crate) enum Outcome {
    /// Nothing to mend.
    Well,
    /// Something that should be mended.
    Found,
}

/// Why a subcommand could not run, in words for the person who typed it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What every subcommand returns.
pub(crate) type Ended = Result<Outcome, Failure>;
