//! Frames that an application sends and hears of by itself: pings, pongs, and messages in fragments.

use core::ffi::{c_char, c_int};

use wsguard::binding::{DataOpcode, Fragment, Protocol};

use crate::pointers::bytes;
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// What a fragment is, for `wsg_conn_send_fragment`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum Opcode {
    /// It goes on with the message before it.
    Continuation = 0,
    /// It begins a text message.
    Text = 1,
    /// It begins a binary message.
    Binary = 2,
}

fn data_opcode(number: u32) -> Result<DataOpcode, Status> {
    let known = [
        (Opcode::Continuation, DataOpcode::Continuation),
        (Opcode::Text, DataOpcode::Text),
        (Opcode::Binary, DataOpcode::Binary),
    ];
    known.iter().find(|(own, _)| *own as u32 == number).map(|(_, core)| *core).ok_or(Status::ErrArgument)
}

exports! {
    /// Sends a part of a message (`raw`): `opcode` is a `wsg_opcode`. A text or binary fragment begins the message,
    /// continuations go on, and the one with `is_last` not 0 ends it. Whole messages that are sent in between wait for the
    /// last fragment; pings, pongs and the close frame do not. That the fragments of a text are UTF-8 together is yours to see
    /// to.
    ///
    /// Returns as `wsg_conn_send_binary`; `WSG_ERR_ARGUMENT` also for an unknown `opcode`, and if the fragment does not fit
    /// what was sent before: a continuation without a message, a new message inside another. Send those of one connection on
    /// one thread.
    pub fn wsg_conn_send_fragment(server: *mut ServerHandle, conn: u64, opcode: u32, is_last: c_int,
        payload: *const c_char, payload_len: usize,
    ) -> Status {
        let (opcode, payload) = (data_opcode(opcode)?, bytes(payload, payload_len)?);
        let running = running(server)?;
        let conn = running.open_for(conn, Protocol::Raw)?;
        Ok(running.commands.send_fragment(conn, Fragment { opcode, fin: is_last != 0 }, payload)?.into())
    }

    /// Sends a ping with a payload of your own, at most 125 bytes. `WSG_EVENT_PONG_FRAME` tells its answer after
    /// `wsg_server_heed_control`. To measure the time to the answer use `wsg_conn_ping`.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`; `WSG_QUEUED` if it waits behind what the peer has
    /// not read; `WSG_ERR_ARGUMENT` for more than 125 bytes; `WSG_ERR_CONNECTION_CLOSED`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_conn_send_ping(server: *mut ServerHandle, conn: u64, payload: *const c_char, payload_len: usize
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = running(server)?;
        Ok(running.commands.send_ping(running.open(conn)?, payload)?.into())
    }

    /// Sends a pong, at most 125 bytes: the answer to a `WSG_EVENT_PING_FRAME` where the server does not answer by itself
    /// (`WSG_START_WITHOUT_AUTO_PONG`, `wsg_conn_set_auto_pong`), or one that nobody asked for. Otherwise as
    /// `wsg_conn_send_ping`.
    pub fn wsg_conn_send_pong(server: *mut ServerHandle, conn: u64, payload: *const c_char, payload_len: usize
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = running(server)?;
        Ok(running.commands.send_pong(running.open(conn)?, payload)?.into())
    }

    /// Says whether the server answers the pings of this peer by itself: not 0, as it does at first without
    /// `WSG_START_WITHOUT_AUTO_PONG`; 0: they are yours to answer. They count for `control_rate_limit` either way. Returns as
    /// `wsg_conn_close`.
    pub fn wsg_conn_set_auto_pong(server: *mut ServerHandle, conn: u64, answers: c_int) -> Status {
        let running = running(server)?;
        running.commands.set_auto_pong(running.open(conn)?, answers != 0)?;
        Ok(Status::Ok)
    }

    /// Says whether every ping and pong of the peers becomes an event, `WSG_EVENT_PING_FRAME` and `WSG_EVENT_PONG_FRAME`, once
    /// it has passed `control_rate_limit`: not 0: each; 0, at first: none. A pong that answers `wsg_conn_ping` is told as
    /// `WSG_EVENT_PONG`, too. `wsg_server_run` turns it on if `handlers.ping_frame` or `.pong_frame` is set.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_heed_control(server: *mut ServerHandle, heeds: c_int) -> Status {
        running(server)?.commands.heed_control(heeds != 0);
        Ok(Status::Ok)
    }

    /// Says whether `WSG_EVENT_CLOSING` tells that a connection has begun to close, ahead of `WSG_EVENT_CLOSE`: not 0: it does; 0,
    /// at first: it does not. `wsg_server_run` turns it on if `handlers.closing` is set.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_heed_closing(server: *mut ServerHandle, heeds: c_int) -> Status {
        running(server)?.commands.heed_closing(heeds != 0);
        Ok(Status::Ok)
    }
}
