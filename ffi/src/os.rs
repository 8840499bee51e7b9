//! What the operating system does to a process behind our back: forks, cancelled threads, signals (THREATS S8).
//!
//! The unsafe calls of all three are here; what is decided with them is decided elsewhere (`signals.rs`, `boundary.rs`).
#![expect(unsafe_code, reason = "functions that are called after a fork or in a signal handler, and a hazard pointer")]

use core::cell::RefCell;
use core::ffi::c_int;
use core::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::bell::Wires;
use crate::error::ErrorHandle;
use crate::handle::{self, Held};
use crate::options::OptionsHandle;
use crate::server::{BatchHandle, ServerHandle};
use crate::status::Status;

// --- forks --------------------------------------------------------------------------------------------------------

static FORKS: AtomicU64 = AtomicU64::new(0);
/// Read by whoever holds a short lock of this library, taken by a fork: no lock is copied while it is held.
static CALM: RwLock<()> = RwLock::new(());

thread_local! {
    /// What the thread that forks holds until both processes go on.
    static HELD: RefCell<Vec<Box<dyn Held>>> = const { RefCell::new(Vec::new()) };
}

extern "C" fn before_fork() {
    let held = || -> Vec<Box<dyn Held>> {
        vec![
            Box::new(CALM.write().unwrap_or_else(PoisonError::into_inner)),
            handle::hold::<OptionsHandle>(),
            handle::hold::<ServerHandle>(),
            handle::hold::<BatchHandle>(),
            handle::hold::<ErrorHandle>(),
        ]
    };
    let _ = HELD.try_with(|place| *place.borrow_mut() = held());
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

/// Starts to notice forks. Called before the first handle is made, so that there is nothing to copy before.
pub(crate) fn watch_forks() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the functions take and release locks, on the thread that forks, and add to a number. They live as long
        // as the library: a shared library that registers with `pthread_atfork` is forgotten there when it is unloaded.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    });
}

/// Held by whoever holds one of the library's short locks, so that a fork waits for it. Not to be nested.
pub(crate) fn calm() -> RwLockReadGuard<'static, ()> {
    CALM.read().unwrap_or_else(PoisonError::into_inner)
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

// --- bells that a signal handler may ring ---------------------------------------------------------------------------

const LINES: usize = 64;

/// Where a signal handler finds the bell of a server: no lock, no memory of its own.
struct Line {
    /// The handle of the server; 0: free.
    server: AtomicUsize,
    bell: AtomicPtr<Wires>,
    /// The process of a family that has its consumer: a child's bytes would come out of the same wire.
    forks: AtomicU64,
    /// Signal handlers that are ringing.
    ringing: AtomicU32,
}

struct Switchboard {
    lines: [Line; LINES],
    more: OnceLock<Box<Switchboard>>,
}

impl Switchboard {
    const fn new() -> Self {
        let lines = [const {
            Line {
                server: AtomicUsize::new(0),
                bell: AtomicPtr::new(ptr::null_mut()),
                forks: AtomicU64::new(0),
                ringing: AtomicU32::new(0),
            }
        }; LINES];
        Self { lines, more: OnceLock::new() }
    }

    fn find(&self, server: usize) -> Option<&Line> {
        let mut board = Some(self);
        while let Some(Switchboard { lines, more }) = board {
            if let Some(line) = lines.iter().find(|line| line.server.load(Ordering::SeqCst) == server) {
                return Some(line);
            }
            board = more.get().map(|more| &**more);
        }
        None
    }
}

static BOARD: Switchboard = Switchboard::new();

/// What a line holds while it is being connected.
const CONNECTING: usize = usize::MAX;

/// Connects a server's bell.
pub(crate) fn connect(server: usize, bell: Arc<Wires>) {
    let mut board = &BOARD;
    loop {
        let free = board
            .lines
            .iter()
            .find(|line| line.server.compare_exchange(0, CONNECTING, Ordering::SeqCst, Ordering::SeqCst).is_ok());
        if let Some(line) = free {
            line.bell.store(Arc::into_raw(bell).cast_mut(), Ordering::SeqCst);
            line.forks.store(forks(), Ordering::SeqCst);
            line.server.store(server, Ordering::SeqCst);
            return;
        }
        board = board.more.get_or_init(|| Box::new(Switchboard::new()));
    }
}

/// Takes a server's bell off, and waits for the signal handlers that are ringing it.
pub(crate) fn disconnect(server: usize) {
    let Some(line) = BOARD.find(server) else { return };
    if line.server.compare_exchange(server, CONNECTING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return;
    }
    let bell = line.bell.swap(ptr::null_mut(), Ordering::SeqCst);
    while line.ringing.load(Ordering::SeqCst) > 0 {
        core::hint::spin_loop();
    }
    line.server.store(0, Ordering::SeqCst);
    // SAFETY: the pointer came from `Arc::into_raw` in `connect`, it was swapped out once, and nobody reads it any more.
    drop(unsafe { Arc::from_raw(bell.cast_const()) });
}

/// Interrupts the server's consumer, from a signal handler too.
pub(crate) fn interrupt(server: usize) -> Result<(), Status> {
    let line = BOARD.find(server).ok_or(Status::ErrHandle)?;
    if line.forks.load(Ordering::SeqCst) != forks() {
        return Err(Status::ErrForked);
    }
    line.ringing.fetch_add(1, Ordering::SeqCst);
    let bell = line.bell.load(Ordering::SeqCst);
    let is_there = !bell.is_null() && line.server.load(Ordering::SeqCst) == server;
    if is_there {
        // SAFETY: `disconnect` takes the pointer out before it looks at `ringing`, and frees it only when that is 0; it was
        // raised before the pointer was read.
        unsafe { &*bell }.interrupt();
    }
    line.ringing.fetch_sub(1, Ordering::SeqCst);
    if is_there { Ok(()) } else { Err(Status::ErrHandle) }
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
        // Whoever started the program does not want it to end by this one (`nohup`).
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

/// Puts back what was there before, unless the application has put something else there meanwhile.
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
