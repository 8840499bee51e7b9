//! What an application asks of one connection, and what it keeps of it.

use core::ffi::{c_char, c_void};

use crate::json;
use crate::pointers::Userdata;
use crate::running::{ServerHandle, running};
use crate::status::Status;

exports! {
    /// Whether what is sent to a connection may still reach its peer: it is open, its session has not ended, and the
    /// application has not closed it, by `wsg_server_close`, `wsg_server_fail` or `wsg_server_disconnect_user`. `false`
    /// also for a server that is none.
    pub fn wsg_conn_is_open(server: *const ServerHandle, conn: u64) -> bool {
        let running = running(server)?;
        let conn = running.open(conn)?;
        Ok(running.commands.is_open(conn))
    }

    /// Keeps a pointer of the application's for a connection, until the batch with its close was let go: `close` handlers
    /// still find it. The library never follows it.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_CONNECTION_CLOSED`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_conn_set_data(server: *mut ServerHandle, conn: u64, data: *mut c_void) -> Status {
        let running = running(server)?;
        let conn = running.open(conn)?;
        let is_kept = running.peers.set_pointer(conn, Userdata::new(data), || running.commands.is_open(conn));
        if is_kept { Ok(Status::Ok) } else { Err(Status::ErrConnectionClosed) }
    }

    /// The pointer that `wsg_conn_set_data` keeps; `NULL` where there is none.
    pub fn wsg_conn_data(server: *const ServerHandle, conn: u64) -> *mut c_void {
        Ok(running(server)?.peers.pointer(wsguard::binding::ConnectionId::from_u64(conn)).pointer())
    }

    /// Stops reading from a connection whose messages the application cannot take now: its peer feels back-pressure, others
    /// do not. What was read before may still arrive; writing and pings go on, and silence does not count.
    ///
    /// Returns as `wsg_server_close`.
    pub fn wsg_server_pause(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        running.commands.pause(running.open(conn)?)?;
        Ok(Status::Ok)
    }

    /// Goes on reading after `wsg_server_pause`. Returns as `wsg_server_close`.
    pub fn wsg_server_resume(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        running.commands.resume(running.open(conn)?)?;
        Ok(Status::Ok)
    }

    /// Refuses a message of `event` that its schema let pass and the application's own check did not: `schema_mismatch`,
    /// counted, logged and acted upon as `on_violation` says.
    ///
    /// Returns as `wsg_server_close`; `WSG_ERR_ARGUMENT` on a `raw` server, and for an empty `event`.
    pub fn wsg_server_refuse(server: *mut ServerHandle, conn: u64, event: *const c_char, event_len: usize) -> Status {
        let event = json::event(event, event_len)?;
        let running = running(server)?;
        if running.is_raw {
            return Err(Status::ErrArgument);
        }
        let conn = running.open(conn)?;
        let outcome = running.commands.refuse(conn, event);
        if running.enforces {
            running.peers.closed(conn, outcome, || running.commands.is_open(conn))?;
        } else {
            outcome?;
        }
        Ok(Status::Ok)
    }

    /// Says which of the events that ask for no answer `wsg_server_next` should wake for; all of them at first. Those it does
    /// not wake for come with the next event that does, or after 20 ms; violations are then only counted and logged.
    /// `wsg_server_run` sets it by its handlers.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_heed(server: *mut ServerHandle, opens: bool, closes: bool, violations: bool) -> Status {
        running(server)?.commands.heed(opens, closes, violations);
        Ok(Status::Ok)
    }
}
