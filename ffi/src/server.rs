//! A server's life and its counters.

use core::ffi::c_int;
use core::mem::MaybeUninit;
use std::sync::Arc;

use wsguard::binding::Code;

use crate::error::{ErrorHandle, Failure, explain};
use crate::handle;
use crate::interrupt;
use crate::options::OptionsHandle;
use crate::os::{self, lock};
use crate::pointers::{Str, copy_out, out};
use crate::running::{Running, ServerHandle, must_not_wait, running};
use crate::signals;
use crate::status::Status;

/// What a server's counters are at one moment. New ones are added at the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stats {
    /// Connections that hold a place, handshakes included.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections ever opened.
    pub opened_total: u64,
    /// Valid messages received.
    pub messages_in: u64,
    /// Bytes received after handshakes, framing included.
    pub bytes_in: u64,
    /// Bytes written after handshakes, framing included.
    pub bytes_out: u64,
    /// Bytes of events that the application has not taken yet.
    pub inbox_bytes: u64,
    /// Bytes that peers have not read yet.
    pub outbox_bytes: u64,
    /// Messages that wait for their rate limit.
    pub delayed: u64,
    /// Handshakes that wait for the application.
    pub pending_auth: u64,
    /// Handshakes among the events that the application has not let go; those whose peer has left included.
    pub upgrades_in_inbox: u64,
    /// Handshakes that are only still there to be refused.
    pub refusing: u64,
    /// Rooms with at least one member, counted on each I/O thread.
    pub rooms: u64,
    /// Memberships of all connections in all rooms.
    pub room_memberships: u64,
}

exports! {
    /// Checks the options, binds, and starts the I/O threads. The policy in force is logged as one line.
    ///
    /// The options stay the caller's. On success `*server` is owned by the caller, who ends it with `wsg_server_free`;
    /// else it is `NULL`. `*error` is written as `wsg_error` says. Returns `WSG_OK`, an error of options
    /// (`WSG_ERR_MISSING_OPTION` and the three beside it), `WSG_ERR_LISTEN`, `WSG_ERR_START`, `WSG_ERR_NULL` or
    /// `WSG_ERR_HANDLE`; `WSG_ERR_REENTRANT` from an inline handler or a log function.
    ///
    /// No signal is delivered to the I/O threads, and a peer that is gone raises no `SIGPIPE`.
    pub fn wsg_server_start(options: *const OptionsHandle, server: Option<&mut MaybeUninit<*mut ServerHandle>>,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let place = out(server)?;
            place.write(core::ptr::null_mut());
            let options = handle::find(options)?;
            if must_not_wait() {
                let message = "an inline handler or a log function must not start a server";
                return Err(Failure::new(Status::ErrReentrant, message));
            }
            let stated = {
                let _calm = os::calm();
                lock(&options).clone()
            };
            let running = Running::start(&stated)?;
            let interrupter = Arc::clone(&running.interrupter);
            let server = handle::insert::<ServerHandle>(running)?;
            interrupt::register(server.addr(), Arc::clone(&interrupter));
            // Whoever waits for the descriptor before the first `wsg_server_next` is woken to call it.
            interrupter.notifier.notify();
            place.write(server);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Stops the server, waits for its threads, and frees it. Connections that are open are dropped; drain first for the
    /// gentle way. A batch that was not freed stays valid.
    ///
    /// Any thread but those of inline handlers, and not inside `wsg_server_run` of the same server: `WSG_ERR_REENTRANT`.
    /// A `wsg_server_next` or `wsg_server_run` on another thread ends first, so a callback must not wait for this call.
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time. In a forked child it only forgets the server.
    pub fn wsg_server_free(server: *mut ServerHandle) -> Status {
        let found = handle::find(server);
        let is_forked = found.as_ref().is_ok_and(|running| !running.is_here());
        if !is_forked && (must_not_wait() || found.is_ok_and(|running| running.is_run_here())) {
            return Err(Status::ErrReentrant);
        }
        let running = handle::remove(server)?;
        if is_forked {
            core::mem::forget(running);
            return Ok(Status::Ok);
        }
        signals::forget(server);
        interrupt::deregister(server.addr());
        running.stop();
        let server = lock(&running.consumer).take();
        drop(server);
        Ok(Status::Ok)
    }

    /// The address it listens on, with the real port. Ends with a zero byte; valid until the server is freed. Empty for a
    /// handle that is none.
    pub fn wsg_server_address(server: *const ServerHandle) -> Str {
        let running = running(server)?;
        Ok(Str { data: running.address.as_ptr(), len: running.address.as_bytes().len() })
    }

    /// A file descriptor that is readable when there may be events, for epoll, poll, libuv or libevent.
    ///
    /// When it is, call `wsg_server_next` with timeout 0 until it answers `WSG_NOTHING`. It is readable at the start. Do not
    /// read, write or close it. Valid until the server is freed. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_fd(server: *const ServerHandle, fd: Option<&mut MaybeUninit<c_int>>) -> Status {
        let place = out(fd)?;
        let number = running(server)?.interrupter.notifier.number();
        place.write(number.ok_or(Status::ErrPanic)?);
        Ok(Status::Ok)
    }

    /// Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over `jitter_ms`, what is
    /// left after `timeout_ms` is dropped (`WSG_NEVER`: it takes as long as it takes). Does not wait: `wsg_server_next`
    /// answers `WSG_STOPPED` and `wsg_server_run` returns when all is over. What this thread sent before goes out before.
    /// Safe to repeat. Any thread, also in callbacks and inline handlers; of a signal handler see
    /// `wsg_server_drain_on_signals` and `wsg_server_interrupt`.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_drain(server: *mut ServerHandle, timeout_ms: u64, jitter_ms: u64) -> Status {
        let running = running(server)?;
        running.commands.drain(timeout_ms, jitter_ms);
        Ok(Status::Ok)
    }

    /// Stops at once: every connection is dropped, after what this thread sent before was handed to the system. No
    /// handler of `wsg_server_run` is called any more for what was read of them. Does not wait, and frees nothing. As
    /// `wsg_server_drain` otherwise.
    pub fn wsg_server_stop(server: *mut ServerHandle) -> Status {
        running(server)?.stop();
        Ok(Status::Ok)
    }

    /// Reads certificate and key again. A bad pair keeps the old one, and is an error that says so.
    ///
    /// Any thread; it reads files. Returns `WSG_OK`, `WSG_ERR_INVALID_OPTION`, `WSG_ERR_ARGUMENT` without the option `tls`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_reload_tls(server: *mut ServerHandle, error: Option<&mut MaybeUninit<*mut ErrorHandle>>
    ) -> Status {
        explain(error, || Ok(running(server)?.commands.reload_tls()?))?;
        Ok(Status::Ok)
    }

    /// The counters now. `stats_len` is `sizeof(wsg_stats)`: the library fills what this header knows of, and with 0 what
    /// the library does not.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_ARGUMENT` for a size that is none, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_stats(server: *const ServerHandle, stats: *mut Stats, stats_len: usize) -> Status {
        let now = running(server)?.commands.stats();
        let seen = Stats {
            connections: now.connections,
            open: now.open,
            opened_total: now.opened_total,
            messages_in: now.messages_in,
            bytes_in: now.bytes_in,
            bytes_out: now.bytes_out,
            inbox_bytes: now.inbox_bytes,
            outbox_bytes: now.outbox_bytes,
            delayed: now.delayed,
            pending_auth: now.pending_auth,
            upgrades_in_inbox: now.upgrades_in_inbox,
            refusing: now.refusing,
            rooms: now.rooms,
            room_memberships: now.room_memberships,
        };
        copy_out(&seen, stats, stats_len)?;
        Ok(Status::Ok)
    }

    /// How often `verdict` (a `wsg_verdict`) was the verdict.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_ARGUMENT` for a number that is no verdict, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_verdict_count(server: *const ServerHandle, verdict: u32, count: Option<&mut MaybeUninit<u64>>
    ) -> Status {
        let place = out(count)?;
        let running = running(server)?;
        let code = Code::ALL.get(verdict as usize).ok_or(Status::ErrArgument)?;
        place.write(running.commands.stats().verdict(*code));
        Ok(Status::Ok)
    }
}
