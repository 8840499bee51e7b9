//! Commands and questions about one connection, and the pointer that the application keeps for it.

use core::ffi::{c_char, c_void};

use wsguard::binding::Protocol;

use crate::json;
use crate::pointers::Userdata;
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// The events that may wake `wsg_server_next` or not, for `wsg_server_set_interest`. Combine them with `|`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum Interest {
    /// `WSG_EVENT_OPEN`.
    Open = 1,
    /// `WSG_EVENT_CLOSE`.
    Close = 2,
    /// `WSG_EVENT_VIOLATION`.
    Violation = 4,
}

exports! {
    /// Returns true if what is sent to a connection may still reach its peer: the connection is open, its session has
    /// not ended, and the application has not closed it (`wsg_conn_close`, `wsg_conn_fail`,
    /// `wsg_server_disconnect_user`). False if `server` is not valid. Any thread.
    pub fn wsg_conn_is_open(server: *const ServerHandle, conn: u64) -> bool {
        let running = running(server)?;
        let conn = running.open(conn)?;
        Ok(running.commands.is_open(conn))
    }

    /// Keeps a pointer for a connection until the batch with its close is freed, so that `close` handlers still find
    /// it. It replaces the pointer that was kept before. The library never follows the pointer and never frees it: if
    /// this returns an error, nothing was kept.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_CONNECTION_CLOSED`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_conn_set_data(server: *mut ServerHandle, conn: u64, data: *mut c_void) -> Status {
        let running = running(server)?;
        let conn = running.open(conn)?;
        let is_kept = running.peers.set_pointer(conn, Userdata::new(data), || running.commands.is_open(conn));
        if is_kept { Ok(Status::Ok) } else { Err(Status::ErrConnectionClosed) }
    }

    /// Returns the pointer that `wsg_conn_set_data` keeps for a connection; `NULL` if there is none. Any thread.
    pub fn wsg_conn_data(server: *const ServerHandle, conn: u64) -> *mut c_void {
        Ok(running(server)?.peers.pointer(wsguard::binding::ConnectionId::from_u64(conn)).pointer())
    }

    /// Stops reading from a connection, because the application cannot take its messages now. TCP slows that peer down,
    /// and no other. Messages that were received before may still be delivered. Writing and pings go on, and no receive
    /// time-out runs. Returns as `wsg_conn_close`.
    pub fn wsg_conn_pause(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        running.commands.pause(running.open(conn)?)?;
        Ok(Status::Ok)
    }

    /// Reads again from a connection after `wsg_conn_pause`. Returns as `wsg_conn_close`.
    pub fn wsg_conn_resume(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        running.commands.resume(running.open(conn)?)?;
        Ok(Status::Ok)
    }

    /// Reports that the data of a message of `event` is not valid, although its schema accepts it. The verdict is
    /// `schema_mismatch`: it is counted, logged and acted upon as the option `on_violation` says.
    ///
    /// Returns as `wsg_conn_close`; `WSG_ERR_ARGUMENT` for a `raw` connection, and if `event` is empty.
    pub fn wsg_conn_report_invalid_data(server: *mut ServerHandle, conn: u64, event: *const c_char, event_len: usize) -> Status {
        let event = json::event(event, event_len)?;
        let running = running(server)?;
        let conn = running.open_for(conn, Protocol::Json)?;
        let path = running.peers.path(conn);
        let closes = running.modes.enforces(&running.commands.policies(), path.as_deref());
        let outcome = running.commands.refuse(conn, event);
        if closes {
            running.peers.closed(conn, outcome, || running.commands.is_open(conn))?;
        } else {
            outcome?;
        }
        Ok(Status::Ok)
    }

    /// Says which events wake `wsg_server_next` by themselves: a combination of `wsg_interest`; all of them at first.
    /// The other opens and closes come with the next event that wakes it, or after 20 ms; other violations are only
    /// counted and logged. Every other event always wakes it. `wsg_server_run` sets the interest by its handlers.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` for an unknown bit; `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_set_interest(server: *mut ServerHandle, interest: u32) -> Status {
        let wants = |one: Interest| interest & one as u32 != 0;
        if interest & !(Interest::Open as u32 | Interest::Close as u32 | Interest::Violation as u32) != 0 {
            return Err(Status::ErrArgument);
        }
        running(server)?.commands.heed(wants(Interest::Open), wants(Interest::Close), wants(Interest::Violation));
        Ok(Status::Ok)
    }
}
