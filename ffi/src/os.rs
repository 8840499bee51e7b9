//! What the operating system does to a process behind our back: forks, cancelled threads, signals.
//!
//! The unsafe calls of all three are here; `signals.rs` and `boundary.rs` decide when to use them.
// THREATS S8.
#![expect(unsafe_code, reason = "functions that are called after a fork, in a signal handler or around a cancellation")]

use core::cell::RefCell;
use core::ffi::c_int;
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};

// --- forks --------------------------------------------------------------------------------------------------------

static FORKS: AtomicU64 = AtomicU64::new(0);
/// Held for reading while a short lock of this library is held, and for writing during a fork: no lock is copied while it is
/// held.
static CALM: RwLock<()> = RwLock::new(());

thread_local! {
    /// The locks that the forking thread holds until both processes go on.
    static HELD: RefCell<Vec<Box<dyn Held>>> = const { RefCell::new(Vec::new()) };
}

/// Takes the locks that must be free of other threads during a fork.
type HoldLocks = fn() -> Vec<Box<dyn Held>>;

static HOLD_LOCKS: OnceLock<HoldLocks> = OnceLock::new();

extern "C" fn before_fork() {
    let hold = || -> Vec<Box<dyn Held>> {
        let calm: Box<dyn Held> = Box::new(CALM.write().unwrap_or_else(PoisonError::into_inner));
        let others = HOLD_LOCKS.get().map_or_else(Vec::new, |hold| hold());
        [calm].into_iter().chain(others).collect()
    };
    let _ = HELD.try_with(|place| *place.borrow_mut() = hold());
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(|place| place.borrow_mut().clear());
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    after_fork();
}

/// How often this process is a child of one that used the library.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::SeqCst)
}

/// Starts to notice forks, and to take `locks` before each. Called before the first handle is made, so that there is nothing
/// to copy before.
pub(crate) fn watch_forks(locks: HoldLocks) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        HOLD_LOCKS.get_or_init(|| locks);
        // SAFETY: the functions take and release locks, on the thread that forks, and add to a number. They live as long
        // as the library: a shared library that registers with `pthread_atfork` is forgotten there when it is unloaded.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    });
}

/// A lock that is held for a while, whatever it guards.
pub(crate) trait Held {}

impl<T> Held for T {}

/// Locks, whatever happened to the thread that had it before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps forks out while a short lock of this library is held. It must not be nested.
pub(crate) fn calm() -> RwLockReadGuard<'static, ()> {
    CALM.read().unwrap_or_else(PoisonError::into_inner)
}

// --- descriptors --------------------------------------------------------------------------------------------------

/// A second descriptor of the stream socket behind `fd`, which stays the caller's; children do not inherit it.
pub(crate) fn second_stream(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: -1 is excluded; it is borrowed for the next line alone, where a number that is no open descriptor is an error.
    let second = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    let (mut kind, mut len): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: `kind` and `len` are written during the call, and `len` says how much room there is.
    let answered = unsafe {
        libc::getsockopt(second.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len)
    };
    match answered {
        0 if kind == libc::SOCK_STREAM => Ok(second),
        0 => Err(io::Error::from_raw_os_error(libc::EPROTOTYPE)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes a descriptor that the caller has given away.
pub(crate) fn close(fd: c_int) {
    // SAFETY: the header says that the number is not used any more by whoever gave it.
    unsafe { libc::close(fd) };
}

// --- cancellation -------------------------------------------------------------------------------------------------

/// Puts `pthread_cancel` off: our frames must not be unwound by it, and hold locks that would stay locked.
pub(crate) struct Uncancelled(c_int);

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

#[cfg(target_os = "macos")]
const CANCEL_DISABLE: c_int = 0;
#[cfg(not(target_os = "macos"))]
const CANCEL_DISABLE: c_int = 1;

impl Uncancelled {
    pub(crate) fn new() -> Self {
        let mut old = CANCEL_DISABLE;
        // SAFETY: `old` is written during the call.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut old) };
        Self(old)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state is one that the same function gave; nothing is written.
        unsafe { pthread_setcancelstate(self.0, ptr::null_mut()) };
    }
}

// --- SIGINT and SIGTERM -------------------------------------------------------------------------------------------

/// Where the signal handler writes; -1: nowhere. And which process of a family that is.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);
static SIGNAL_FORKS: AtomicU64 = AtomicU64::new(0);

/// The signals that ask a process to end.
pub(crate) const ENDING: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

extern "C" fn on_signal(signal: c_int) {
    if SIGNAL_FORKS.load(Ordering::SeqCst) == forks() {
        let errno = nix::errno::Errno::last_raw();
        let byte = 1u8;
        // SAFETY: one byte that lives on this stack; `write` may be called in a signal handler.
        unsafe { libc::write(SIGNAL_PIPE.load(Ordering::SeqCst), ptr::from_ref(&byte).cast(), 1) };
        nix::errno::Errno::set_raw(errno);
    } else {
        // A child that inherited the handler: its servers are others. `SA_RESETHAND` has put the default back.
        // SAFETY: `raise` may be called in a signal handler.
        unsafe { libc::raise(signal) };
    }
}

/// The handlers that were there before ours.
#[derive(Debug)]
pub(crate) struct Dispositions([Option<SigAction>; 2]);

fn is_default(signal: Signal) -> Option<bool> {
    let mut now = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; `now` is written when it answers 0, and every bit pattern of it is valid.
    let now =
        unsafe { (libc::sigaction(signal as c_int, ptr::null(), now.as_mut_ptr()) == 0).then(|| now.assume_init()) }?;
    match now.sa_sigaction {
        libc::SIG_DFL => Some(true),
        // The signal is ignored on purpose (`nohup`).
        libc::SIG_IGN => None,
        _ => Some(false),
    }
}

/// Installs the handler for `ENDING`; `None`: the application has one of its own. It runs once: a second signal of the
/// kind has its default effect, so that a program that does not end can be ended.
pub(crate) fn install(pipe: c_int) -> Option<Dispositions> {
    let defaults = ENDING.map(is_default);
    if defaults.contains(&Some(false)) {
        return None;
    }
    SIGNAL_PIPE.store(pipe, Ordering::SeqCst);
    SIGNAL_FORKS.store(forks(), Ordering::SeqCst);
    let ours =
        SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART | SaFlags::SA_RESETHAND, SigSet::empty());
    let mut before = [None; 2];
    for ((signal, default), place) in ENDING.into_iter().zip(defaults).zip(&mut before) {
        if default == Some(true) {
            // SAFETY: the handler calls only what may be called in one, and lives as long as the library.
            *place = unsafe { sigaction(signal, &ours) }.ok();
        }
    }
    Some(Dispositions(before))
}

/// Restores the former handlers, unless the application has installed others meanwhile.
pub(crate) fn restore(before: &Dispositions) {
    for (signal, before) in ENDING.into_iter().zip(&before.0) {
        let Some(before) = before else { continue };
        // SAFETY: what is put back was there before.
        let Ok(now) = (unsafe { sigaction(signal, before) }) else { continue };
        let ours = matches!(now.handler(), SigHandler::Handler(handler) if ptr::fn_addr_eq(handler, on_signal as extern "C" fn(c_int)));
        if !ours && !matches!(now.handler(), SigHandler::SigDfl) {
            // SAFETY: it was there a moment ago.
            let _ = unsafe { sigaction(signal, &now) };
        }
    }
}

/// Starts threads that no signal is delivered to: an application's handlers run on its own threads, and a peer that is
/// gone is an error of a write, not the end of the process (`SIGPIPE`). The mask is put back however `start` ends.
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    struct Back(Option<SigSet>);
    impl Drop for Back {
        fn drop(&mut self) {
            let _ = self.0.map(|before| before.thread_set_mask());
        }
    }
    let mut blocked = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT] {
        blocked.remove(fault);
    }
    let _back = Back(blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK).ok());
    start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_comes_back_after_a_panic() {
        let before = SigSet::thread_get_mask().unwrap();
        let caught = std::panic::catch_unwind(|| {
            without_signals(|| {
                assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
                std::panic::resume_unwind(Box::new("standard error is broken"));
            });
        });
        assert!(caught.is_err());
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
