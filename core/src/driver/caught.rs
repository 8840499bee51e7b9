//! Where a panic ends: nothing that unwinds here takes a thread with it, not even by what it carries.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `act` returns; `None`: it panicked, and that went no further.
///
/// State that `act` changed must be valid whatever it came to: that is the caller's business.
pub(super) fn caught<R>(act: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What a panic carries is the application's, and dropping it may panic once more.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                core::mem::forget(second);
            }
            None
        }
    }
}

/// Lets the application's `tracing` subscriber hear of something: one that panics costs its record and nothing else.
pub(super) fn said(say: impl FnOnce()) {
    let _ = caught(say);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nasty;

    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    #[test]
    fn a_panic_ends_here_whatever_it_carries() {
        assert_eq!(caught(|| 1), Some(1));
        assert_eq!(caught(|| std::panic::panic_any("once")), None::<()>);
        assert_eq!(caught(|| std::panic::panic_any(Nasty)), None::<()>);
    }
}
