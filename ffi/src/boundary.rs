//! The boundary between the library and C, in both directions: a panic of ours becomes a status, and a callback
//! that does not return ends the process with a message, before it can leave locks of ours behind.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::os::Uncancelled;
use crate::pointers::Str;
use crate::status::Status;

/// The result of an exported function that fails.
pub(crate) trait Refusal {
    /// The result for `status`.
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

impl Refusal for u64 {
    fn refusal(_: Status) -> Self {
        0
    }
}

impl Refusal for usize {
    fn refusal(_: Status) -> Self {
        0
    }
}

impl Refusal for bool {
    fn refusal(_: Status) -> Self {
        false
    }
}

impl Refusal for *mut core::ffi::c_void {
    fn refusal(_: Status) -> Self {
        core::ptr::null_mut()
    }
}

/// Runs the body of an exported function.
pub(crate) fn enter<R: Refusal>(body: impl FnOnce() -> Result<R, Status>) -> R {
    let _uncancelled = Uncancelled::new();
    contained(body).and_then(|outcome| outcome).unwrap_or_else(R::refusal)
}

/// Runs `body`; a panic in it becomes `WSG_ERR_PANIC`.
pub(crate) fn contained<R>(body: impl FnOnce() -> R) -> Result<R, Status> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        // Dropping the payload runs foreign code, which might panic again, outside of `catch_unwind`.
        core::mem::forget(payload);
        Status::ErrPanic
    })
}

/// Calls a function of the application. Its exceptions and `pthread_exit` unwind through here; there is nobody to catch
/// them behind us, and locks and corks of ours between.
pub(crate) fn foreign<R>(call: impl FnOnce() -> R) -> R {
    struct Left;
    impl Drop for Left {
        fn drop(&mut self) {
            // Not `eprintln!`, which panics where standard error is broken.
            let _ = std::io::stderr().write_all(
                b"wsguard: a callback was left by an exception or pthread_exit; callbacks must return. The process ends.\n",
            );
            std::process::abort();
        }
    }
    let left = Left;
    let returned = call();
    core::mem::forget(left);
    returned
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
