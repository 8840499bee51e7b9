//! Locks that a panic elsewhere does not make unusable.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes out what a mutex holds. The caller drops it after the lock: what is dropped may run Python.
pub(crate) fn emptied<T: Default>(kept: &Mutex<T>) -> T {
    std::mem::take(&mut *lock(kept))
}
