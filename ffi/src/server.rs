//! A server's life and its counters.

use core::ffi::{c_char, c_int, c_void};
use core::mem::MaybeUninit;
use std::sync::Arc;

use wsguard::binding::Code;

use crate::boundary::foreign;
use crate::error::{ErrorHandle, Failure, explain};
use crate::handle;
use crate::interrupt;
use crate::options::OptionsHandle;
use crate::os::{self, lock};
use crate::pointers::{Str, copy_out, out};
use crate::running::{Running, ServerHandle, must_not_wait, running};
use crate::signals;
use crate::status::Status;

/// The counters of a server at one moment. Later versions add members at the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stats {
    /// Connections that count against the limits, opening handshakes included.
    pub connections: u64,
    /// Open connections.
    pub open: u64,
    /// Connections that were opened since the start.
    pub opened_total: u64,
    /// Valid messages that were received since the start.
    pub messages_in: u64,
    /// Bytes received after opening handshakes, frame headers included.
    pub bytes_in: u64,
    /// Bytes sent after opening handshakes, frame headers included.
    pub bytes_out: u64,
    /// Bytes of events that the application has not taken.
    pub inbox_bytes: u64,
    /// Bytes that peers have not read.
    pub outbox_bytes: u64,
    /// Messages that are delayed by a rate limit.
    pub delayed: u64,
    /// Opening handshakes that wait for the application.
    pub pending_auth: u64,
    /// Opening handshakes among the events that the application has not freed, those whose peer has left included.
    pub upgrades_in_inbox: u64,
    /// Opening handshakes that are being refused.
    pub refusing: u64,
    /// Rooms with at least one member, counted on each I/O thread.
    pub rooms: u64,
    /// Memberships of all connections in all rooms.
    pub room_memberships: u64,
    /// Messages received since the start that were compressed, and that could be decompressed.
    pub messages_compressed_in: u64,
    /// Bytes that they were decompressed to since the start, also of what was refused.
    pub bytes_inflated: u64,
    /// Messages sent compressed since the start; a broadcast counts once for each connection.
    pub messages_compressed_out: u64,
    /// Messages since the start that went plain although they were long enough: over 1 MiB, or behind the mebibyte that a
    /// thread compresses in one go.
    pub messages_left_plain: u64,
    /// Bytes that compression has saved since the start of what was sent.
    pub compression_saved_bytes: u64,
    /// Bytes in pipes (`wsg_server_adopt_pipe`) that the server has not read, or the application has not taken.
    pub pipe_bytes: u64,
    /// 1 while the cluster can be reached; 0 without a cluster.
    pub cluster_up: u64,
    /// Messages for other nodes that were dropped since the start: the cluster could not be reached, or was too slow; and what
    /// came from Redis and is no message.
    pub cluster_dropped: u64,
}

impl Stats {
    fn of(now: &wsguard::binding::Stats) -> Self {
        Self {
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
            messages_compressed_in: now.messages_compressed_in,
            bytes_inflated: now.bytes_inflated,
            messages_compressed_out: now.messages_compressed_out,
            messages_left_plain: now.messages_left_plain,
            compression_saved_bytes: now.compression_saved_bytes,
            pipe_bytes: now.pipe_bytes,
            cluster_up: now.cluster_up,
            cluster_dropped: now.cluster_dropped,
        }
    }
}

/// A function that receives a text.
pub type TextFn = Option<extern "C-unwind" fn(userdata: *mut c_void, text: *const c_char, text_len: usize)>;

exports! {
    /// Checks the options, listens, and starts the I/O threads. It logs the policy in force as one line.
    ///
    /// The options stay yours. On `WSG_OK` you own `*server` and free it with `wsg_server_free`; otherwise `*server` is
    /// `NULL`. The call writes `*error` as `wsg_error` says.
    ///
    /// Any thread but those of inline handlers. Returns `WSG_OK`; `WSG_ERR_UNKNOWN_OPTION`,
    /// `WSG_ERR_MISSING_OPTION`, `WSG_ERR_INVALID_OPTION` or `WSG_ERR_CONTRADICTION` for the options; `WSG_ERR_LISTEN`,
    /// `WSG_ERR_START`, `WSG_ERR_REENTRANT`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`.
    ///
    /// The I/O threads block every signal, and a peer that has left raises no `SIGPIPE`.
    pub fn wsg_server_start(options: *const OptionsHandle, server: Option<&mut MaybeUninit<*mut ServerHandle>>,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let place = out(server)?;
            place.write(core::ptr::null_mut());
            let options = handle::find(options)?;
            if must_not_wait() {
                let message = "an inline handler must not start a server";
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
            // A program may wait for the descriptor before its first `wsg_server_next`.
            interrupter.notifier.notify();
            place.write(server);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Stops the server, waits for its threads, and frees it. It drops open connections: call `wsg_server_drain` first
    /// to close them properly. A batch that was not freed stays valid.
    ///
    /// The call also waits for a `wsg_server_next` or `wsg_server_run` on another thread, so no callback may wait for
    /// this call. In a forked child it only frees the child's handle.
    ///
    /// Any thread but those of inline handlers, and not inside `wsg_server_run` of the same server:
    /// there it returns `WSG_ERR_REENTRANT`. Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time.
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

    /// Returns the address that the server listens on, with the real port. Empty if `server` is `NULL` or not valid.
    ///
    /// The text ends with a zero byte and is valid until the server is freed. Any thread.
    pub fn wsg_server_address(server: *const ServerHandle) -> Str {
        let running = running(server)?;
        Ok(Str { data: running.address.as_ptr(), len: running.address.as_bytes().len() })
    }

    /// Returns the address that `admin_listen` serves metrics and health checks on, with the real port. Empty without
    /// that option, and if `server` is `NULL` or not valid.
    ///
    /// The text ends with a zero byte and is valid until the server is freed. Any thread.
    pub fn wsg_server_admin_address(server: *const ServerHandle) -> Str {
        let running = running(server)?;
        Ok(Str { data: running.admin_address.as_ptr(), len: running.admin_address.as_bytes().len() })
    }

    /// Writes to `*fd` a file descriptor that is readable while there may be events, for epoll, poll, libuv or
    /// libevent. It is readable after the start.
    ///
    /// When it is readable, call `wsg_server_next` or `wsg_server_run_once` with timeout 0 until it returns
    /// `WSG_NOTHING`. The descriptor is the library's: do not read, write or close it. It is valid until the server is
    /// freed.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_fd(server: *const ServerHandle, fd: Option<&mut MaybeUninit<c_int>>) -> Status {
        let place = out(fd)?;
        let number = running(server)?.interrupter.notifier.number();
        place.write(number.ok_or(Status::ErrPanic)?);
        Ok(Status::Ok)
    }

    /// Shuts the server down in an orderly way. New handshakes are answered with 503. Every open connection is closed
    /// with 1012, spread over `jitter_ms` milliseconds. The server drops what is still open after
    /// `timeout_ms` milliseconds; `WSG_NEVER`: it waits for ever. The defaults are `WSG_DEFAULT_DRAIN_TIMEOUT_MS` and
    /// `WSG_DEFAULT_DRAIN_JITTER_MS`.
    ///
    /// The call does not wait. When every connection has ended, `wsg_server_next` returns `WSG_STOPPED` and
    /// `wsg_server_run` returns. What this thread has sent before is sent before the close frames. A second call may
    /// shorten the time.
    ///
    /// Any thread, callbacks and inline handlers included; in a signal handler use `wsg_server_interrupt`, or call
    /// `wsg_server_drain_on_signals` beforehand. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_drain(server: *mut ServerHandle, timeout_ms: u64, jitter_ms: u64) -> Status {
        let running = running(server)?;
        running.commands.drain(timeout_ms, jitter_ms);
        Ok(Status::Ok)
    }

    /// Stops the server at once: it hands what this thread has sent to the system, then drops every connection. From
    /// here on `wsg_server_run` calls no handler for messages that were received before. The call does not wait, and it
    /// frees nothing.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_stop(server: *mut ServerHandle) -> Status {
        running(server)?.stop();
        Ok(Status::Ok)
    }

    /// Reads the certificate and the key of the option `tls` again, for new connections. If they do not fit, the old
    /// ones stay in use. The call writes `*error` as `wsg_error` says.
    ///
    /// Any thread; it reads files. Returns `WSG_OK`; `WSG_ERR_INVALID_OPTION` for what was read; `WSG_ERR_ARGUMENT`
    /// without the option `tls`; `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_reload_tls(server: *mut ServerHandle, error: Option<&mut MaybeUninit<*mut ErrorHandle>>
    ) -> Status {
        explain(error, || Ok(running(server)?.commands.reload_tls()?))?;
        Ok(Status::Ok)
    }

    /// Writes the counters of this moment to `*stats`. Pass `sizeof(wsg_stats)` as `stats_len`: the library writes as
    /// many members as this header has, and 0 for those that it does not know.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if `stats_len` is 0 or larger than any `wsg_stats` can be;
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_stats(server: *const ServerHandle, stats: *mut Stats, stats_len: usize) -> Status {
        let seen = Stats::of(&running(server)?.commands.stats());
        copy_out(&seen, stats, stats_len)?;
        Ok(Status::Ok)
    }

    /// Writes to `*count` how often `verdict` (a `wsg_verdict`) was given since the start.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if the number is no verdict; `WSG_ERR_NULL`, `WSG_ERR_HANDLE`
    /// or `WSG_ERR_FORKED`.
    pub fn wsg_server_verdict_count(server: *const ServerHandle, verdict: u32, count: Option<&mut MaybeUninit<u64>>
    ) -> Status {
        let place = out(count)?;
        let running = running(server)?;
        let code = Code::ALL.get(verdict as usize).ok_or(Status::ErrArgument)?;
        place.write(running.commands.stats().verdict(*code));
        Ok(Status::Ok)
    }

    /// Calls `write` once with the numbers of this moment as OpenMetrics text, as `/metrics` of `admin_listen` serves
    /// it: for an HTTP server of your own. Its media type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`. The text is valid during the call.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`; `write` is called on
    /// `WSG_OK` only.
    pub fn wsg_server_metrics(server: *const ServerHandle, write: TextFn, userdata: *mut c_void) -> Status {
        let write = write.ok_or(Status::ErrNull)?;
        let text = running(server)?.commands.metrics();
        let view = Str::of(&text);
        foreign(|| write(userdata, view.data, view.len));
        Ok(Status::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each counter of C is the core's of the same name: the debug output of both says so.
    #[test]
    fn counters_are_not_mixed_up() {
        let mut core = wsguard::binding::Stats::default();
        core.connections = 1;
        core.open = 2;
        core.opened_total = 3;
        core.messages_in = 4;
        core.bytes_in = 5;
        core.bytes_out = 6;
        core.inbox_bytes = 7;
        core.outbox_bytes = 8;
        core.delayed = 9;
        core.pending_auth = 10;
        core.upgrades_in_inbox = 11;
        core.refusing = 12;
        core.rooms = 13;
        core.room_memberships = 14;
        core.messages_compressed_in = 15;
        core.bytes_inflated = 16;
        core.messages_compressed_out = 17;
        core.messages_left_plain = 18;
        core.compression_saved_bytes = 19;
        core.pipe_bytes = 20;
        core.cluster_up = 21;
        core.cluster_dropped = 22;
        let named: Vec<_> = core.fields().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(format!("{:?}", Stats::of(&core)), format!("Stats {{ {} }}", named.join(", ")));
    }
}
