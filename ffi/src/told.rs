//! Whether this thread is in a function that a count is told to: the server waits for it.

use core::cell::Cell;

thread_local! {
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Whether it is.
pub(crate) fn is_told() -> bool {
    IS_TOLD.get()
}

/// Calls such a function. One may ask again, and be told at once.
pub(crate) fn telling(call: impl FnOnce()) {
    let before = IS_TOLD.replace(true);
    call();
    IS_TOLD.set(before);
}
