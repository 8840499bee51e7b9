//! The boundary that every exported function passes through: a panic becomes a status, and nothing unwinds into C.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handle::Str;
use crate::status::Status;

/// What an exported function answers when it cannot do its work.
pub(crate) trait Refusal {
    /// The answer for `status`.
    fn refusal(status: Status) -> Self;
}

impl Refusal for Status {
    fn refusal(status: Status) -> Self {
        status
    }
}

impl Refusal for Str {
    fn refusal(_: Status) -> Self {
        Str::of("")
    }
}

impl Refusal for u32 {
    fn refusal(_: Status) -> Self {
        0
    }
}

/// Runs the body of an exported function.
pub(crate) fn enter<R: Refusal>(body: impl FnOnce() -> Result<R, Status>) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(outcome) => outcome.unwrap_or_else(R::refusal),
        Err(payload) => {
            // Dropping what was thrown runs foreign code, which might panic again: outside.
            core::mem::forget(payload);
            R::refusal(Status::ErrPanic)
        }
    }
}

/// Declares exported functions: the only way to, so that none can forget the boundary.
///
/// The body is a `Result<the declared type, Status>`. `tests/header.rs` reads these blocks for the header.
macro_rules! exports {
    ($($(#[$attribute:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $returned:ty $body:block)+) => {$(
        $(#[$attribute])*
        #[expect(unsafe_code, reason = "an exported symbol; what its arguments point at is read in handle.rs")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $returned {
            $crate::boundary::enter(move || -> Result<$returned, $crate::status::Status> { $body })
        }
    )+};
}
