//! SIGINT and SIGTERM drain the servers that asked for it, on a thread of the library's own.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use nix::sys::signal::SigSet;

use crate::interrupt;
use crate::os::{self, Dispositions, lock, without_signals};
use crate::running::{Running, ServerHandle, running};
use crate::status::Status;

/// A server that drains on a signal.
#[derive(Debug)]
struct Drained {
    server: usize,
    running: Weak<Running>,
    timeout_ms: u64,
    jitter_ms: u64,
}

#[derive(Debug)]
struct State {
    /// The process of a family that it belongs to: a child has no thread of its parent's.
    forks: u64,
    /// Where the handler writes. Never closed again: a handler may be about to write.
    pipe: Option<OwnedFd>,
    /// The former handlers, while ours are installed.
    before: Option<Dispositions>,
    servers: Vec<Drained>,
}

static STATE: Mutex<State> = Mutex::new(State { forks: 0, pipe: None, before: None, servers: Vec::new() });

/// Waits for bytes of the signal handler; ends with its pipe.
fn drain_on_bytes(mut pipe: UnixStream) {
    let mut ending = SigSet::empty();
    for signal in os::ENDING {
        ending.add(signal);
    }
    // Also where every thread of the application has them blocked.
    let _ = ending.thread_unblock();
    let mut byte = [0];
    loop {
        match pipe.read(&mut byte) {
            Ok(1) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            _ => return,
        }
        let servers: Vec<_> = {
            let _calm = os::calm();
            let state = lock(&STATE);
            let server = |drained: &Drained| Some((drained.running.upgrade()?, drained.timeout_ms, drained.jitter_ms));
            state.servers.iter().filter_map(server).collect()
        };
        for (running, timeout_ms, jitter_ms) in servers {
            running.commands.drain(timeout_ms, jitter_ms);
        }
    }
}

impl State {
    fn install(&mut self) -> Result<(), Status> {
        let pipe = match &self.pipe {
            Some(pipe) => pipe,
            None => self.pipe.insert(start_thread()?),
        };
        self.before = Some(os::install(pipe.as_raw_fd()).ok_or(Status::ErrBusy)?);
        Ok(())
    }
}

/// Starts the thread that waits for signals; where to write to it.
fn start_thread() -> Result<OwnedFd, Status> {
    let (read, write) = UnixStream::pair().map_err(|_| Status::ErrStart)?;
    write.set_nonblocking(true).map_err(|_| Status::ErrStart)?;
    let thread = thread::Builder::new().name("wsguard-signals".to_owned());
    without_signals(|| thread.spawn(move || drain_on_bytes(read))).map_err(|_| Status::ErrStart)?;
    Ok(write.into())
}

/// Drains a server when the process is asked to end.
fn drain_on_signals(server: *mut ServerHandle, timeout_ms: u64, jitter_ms: u64) -> Result<(), Status> {
    let running = running(server)?;
    let _calm = os::calm();
    let mut state = lock(&STATE);
    if state.forks != os::forks() {
        // The state is the parent's.
        let parent = core::mem::replace(
            &mut *state,
            State { forks: os::forks(), pipe: None, before: None, servers: Vec::new() },
        );
        core::mem::forget(parent.pipe);
    }
    if state.before.is_none() {
        state.install()?;
    }
    state.servers.retain(|drained| drained.server != server.addr());
    let running = Arc::downgrade(&running);
    state.servers.push(Drained { server: server.addr(), running, timeout_ms, jitter_ms });
    Ok(())
}

/// Forgets a server; with the last one the signals have their old effect again.
pub(crate) fn forget(server: *const ServerHandle) {
    let _calm = os::calm();
    let mut state = lock(&STATE);
    if state.forks != os::forks() {
        return;
    }
    state.servers.retain(|drained| drained.server != server.addr());
    if state.servers.is_empty()
        && let Some(before) = state.before.take()
    {
        os::restore(&before);
    }
}

exports! {
    /// Makes SIGINT and SIGTERM drain the server, as `wsg_server_drain` does with the same times. `wsg_server_run`
    /// returns when every connection has ended. A second signal of the same kind ends the process at once, as it would
    /// without this call.
    ///
    /// The library's signal handlers stay until the last server that uses them is freed. A signal that the process
    /// ignores stays ignored.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_BUSY` if the program has a handler of its own for one of the two signals;
    /// `WSG_ERR_START`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_drain_on_signals(server: *mut ServerHandle, timeout_ms: u64, jitter_ms: u64) -> Status {
        drain_on_signals(server, timeout_ms, jitter_ms)?;
        Ok(Status::Ok)
    }

    /// Makes a `wsg_server_next`, `wsg_server_run` or `wsg_server_run_once` of this server return `WSG_NOTHING`: the
    /// one that is waiting, otherwise the next one, before it takes any event. A handler that is running ends first.
    ///
    /// Any thread, and the only function of this library that a signal handler may call. Returns `WSG_OK`,
    /// `WSG_ERR_HANDLE` if `server` is `NULL`, freed or not valid, or `WSG_ERR_FORKED`.
    pub fn wsg_server_interrupt(server: *mut ServerHandle) -> Status {
        interrupt::interrupt(server.addr())?;
        Ok(Status::Ok)
    }
}
