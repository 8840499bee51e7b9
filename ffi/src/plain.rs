//! Whether what this thread sends goes plain, because it is in `wsg_server_plain`.

use core::cell::Cell;

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Whether it does.
pub(crate) fn is_plain() -> bool {
    PLAIN.get()
}

/// Lets what this thread sends go plain until it is dropped. Inside another it changes nothing.
#[must_use = "dropping it ends the effect"]
pub(crate) struct Plain {
    before: bool,
}

impl Plain {
    pub(crate) fn begin() -> Self {
        Self { before: PLAIN.replace(true) }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        PLAIN.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_inside_another_ends_nothing() {
        let outer = Plain::begin();
        drop(Plain::begin());
        assert!(is_plain());
        drop(outer);
        assert!(!is_plain());
    }
}
